"""The dashboard in a real browser: what a person sees, types, hears, and what changes while they look."""

import os
from datetime import datetime
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from histories import history, scholar
from pictures import save_picture
from playwright.sync_api import expect

from grading import progress, units
from grading.dashboard.data import dashboard
from grading.dashboard.page import page as page_of
from grading.events import Note

pytestmark = pytest.mark.browser

SCHEMES = "light", "dark"
PHONE, DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
PAPER = {"light": "rgb(247, 247, 249)", "dark": "rgb(20, 22, 27)"}
OVERFLOW = "document.documentElement.scrollWidth - innerWidth"
FOCUSED = """(() => {
  const { id, textContent } = document.activeElement;
  return document.activeElement === document.body ? "" : id || textContent.trim();
})()"""


@pytest.fixture
def real(monkeypatch):
    """The real curriculum."""
    monkeypatch.delenv("SOLO_CONTENT", raising=False)
    units.all_units.cache_clear()
    yield
    units.all_units.cache_clear()


@pytest.fixture
def see(chromium, tmp_path):
    """`see(events)`: their page, as `--html` writes it; whatever it complains of, or asks the network for, fails."""
    pages, complaints = [], []

    def open_page(events, now=None, **window):
        now = now or datetime.now().astimezone()
        file = tmp_path / "dashboard.html"
        file.write_text(page_of(dashboard(events, now), ("A notice, with `code`.",)), encoding="utf-8")
        page = chromium.new_page(**{"viewport": DESKTOP, **window})
        pages.append(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda r: r.url.startswith(("file:", "data:")) or complaints.append(r.url))
        page.goto(file.as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []


def violations(page):
    found = Axe().run(page).response["violations"]
    return [(v["id"], [node["html"] for node in v["nodes"]]) for v in found]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("window", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_keeps_anybody_out(see, real, scheme, window):
    now = datetime.now().astimezone()
    for events in ([], scholar(now), history(1000, now, days=200)):
        page = see(events, now, viewport=window, color_scheme=scheme)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == PAPER[scheme]
        page.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = true))")
        assert violations(page) == []
        assert page.evaluate(OVERFLOW) <= 0, "nothing reaches beyond the window"


def test_a_long_word_does_not_widen_the_page(see, curriculum):
    page = see([Note(unit="phase1/lab1", text="w" * 300)], viewport=PHONE)
    assert page.evaluate(OVERFLOW) <= 0


def test_the_keyboard_reaches_everything_in_order(see, real):
    page = see(scholar(datetime.now().astimezone()))
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == "Skip to the content"
    assert page.locator(".skip").bounding_box()["x"] >= 0, "it shows when it has the focus"
    page.keyboard.press("Enter")
    assert page.evaluate(FOCUSED) == "main"
    walked = []
    page.keyboard.press("Tab")
    while name := page.evaluate(FOCUSED):
        walked.append(name)
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", f"{name} shows that it has the focus"
        page.keyboard.press("Tab")
    folds = page.locator("main summary").evaluate_all("all => all.map((one) => one.id)")
    assert [name for name in walked if name.startswith(("fold-", "work-", "overcome", "search"))] == [*folds, "search"]

    page.locator("#fold-phase1-lab1").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#of-phase1-lab1")).to_contain_text("as_floats")


def test_the_journal_is_searched(see, curriculum):
    notes = ("A view shares its storage.", "Subtract the maximum.", "Storage may be larger than a view.")
    page = see([Note(unit="phase1/lab1", text=text) for text in notes])
    expect(page.locator("#found")).to_have_text("3 of 3 notes")
    page.get_by_role("searchbox", name="Search").fill("VIEW  stor")
    expect(page.locator("#journal .entry:visible")).to_have_count(2)
    expect(page.locator("#found")).to_have_text("2 of 3 notes")
    page.keyboard.press("Enter")
    expect(page.locator("#found")).to_have_text("2 of 3 notes")
    page.get_by_role("searchbox").fill("")
    expect(page.locator("#journal .entry:visible")).to_have_count(3)


def test_a_rank_up_appears_without_a_reload(chromium, served, report):
    progress.append(Note(unit="phase1/lab1", text="a first note"))
    progress.record(report("lab1", first=6, second=4))
    with chromium.new_page(viewport=DESKTOP) as page:
        page.goto(served[0])
        page.evaluate("window.still = true")
        page.locator("#fold-phase1-lab1").click()
        page.get_by_role("searchbox").fill("first")
        progress.append(Note(unit="phase1/lab1", text="a second note"))
        expect(page.locator("#found")).to_have_text("1 of 2 notes")
        assert page.evaluate(FOCUSED) == "search"
        assert page.get_by_role("searchbox").input_value() == "first"
        expect(page.locator("#party")).to_be_hidden()

        progress.record(report("lab2", first=6, second=4))
        expect(page.locator("#party")).to_contain_text("Rank up! You are D-rank now")
        expect(page.get_by_role("heading", name="Rank D")).to_be_visible()
        expect(page.locator("#of-phase1-lab1")).to_have_attribute("open", "")
        assert violations(page) == []
        page.get_by_role("button", name="Fine").click()
        expect(page.locator("#party")).to_be_hidden()
        assert page.evaluate("window.still"), "it was not loaded again"


def test_a_record_that_is_damaged_meanwhile_is_one_sentence(chromium, served, report):
    progress.record(report("lab1", first=6, second=4))
    damaged = progress.path().read_text()[:-20]
    with chromium.new_page(viewport=DESKTOP) as page:
        page.goto(served[0])
        expect(page.locator("#rank")).to_contain_text("10 XP")
        progress.path().write_text(damaged)
        expect(page.locator("#notices")).to_contain_text("could not be read and was set aside, unchanged")
        expect(page.locator("#rank")).to_contain_text("0 XP")
        (aside,) = progress.path().parent.glob("progress.json.*-backup")
        assert aside.read_text() == damaged
        progress.path().write_text('{"schema": 9, "events": []}')
        expect(page.locator("#notices")).to_contain_text("newer version")
        aside.unlink()
        progress.path().unlink()
        expect(page.get_by_role("heading", name="Rank E")).to_be_visible()
        expect(page.locator("#notices")).to_be_empty()


def test_an_ended_server_is_told(chromium, served):
    address, process = served
    with chromium.new_page() as page:
        page.goto(address)
        process.kill()
        expect(page.locator("#connection")).to_contain_text("Not live any more")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_pictures_of_the_readme(see, real, tmp_path, scheme):
    """With `SOLO_PICTURES=docs/images` they are taken anew."""
    now = datetime.fromisoformat("2026-05-20T18:00:00+02:00")
    page = see(scholar(now), now, viewport={"width": 1100, "height": 860}, color_scheme=scheme)
    page.locator("#notices").evaluate("part => part.replaceChildren()")
    place = Path(os.environ.get("SOLO_PICTURES", tmp_path)) / f"dashboard_{scheme}.png"
    save_picture(page.screenshot(), place)
