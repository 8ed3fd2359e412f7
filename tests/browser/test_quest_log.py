"""The quest log beside the notebook in JupyterLab: it is there, follows what is done, and confirms what is saved."""

import os
import re
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from pictures import save_picture
from playwright.sync_api import expect

from grading import progress
from grading.reference import solution_code

pytestmark = pytest.mark.browser

LOG = "#solo-quest-log"


@pytest.fixture
def log(open_notebook, desk, tiny):
    """The tiny lab in JupyterLab, and the panel."""
    notebook = open_notebook(desk.copy(tiny))
    return notebook, notebook.page.locator(LOG)


def exercise(panel, name):
    return panel.locator(".exercises li").filter(has=panel.page.locator(f"code:text-is('{name}')"))


def test_it_opens_beside_the_lab(log):
    notebook, panel = log
    expect(panel).to_be_visible()
    expect(panel).to_contain_text("Rank E")
    expect(panel).to_contain_text("Next quest")
    expect(exercise(panel, "softmax")).to_contain_text("open")
    lab = notebook.page.locator(".jp-NotebookPanel").bounding_box()
    assert lab["x"] < 60, "the lab is on the left"
    assert lab["x"] + lab["width"] <= panel.bounding_box()["x"] + 1, "the log beside it"


def test_a_check_shows_at_once_and_a_save_confirms_it(log, desk, tiny):
    notebook, panel = log
    notebook.write("softmax", solution_code(tiny, "softmax"))
    notebook.run_all()
    expect(exercise(panel, "softmax")).to_contain_text("passed here")
    expect(exercise(panel, "attention")).to_contain_text("open")
    assert not [e for e in progress.load(desk.progress).events if e.kind == "attempt" and e.confirms]

    notebook.page.keyboard.press("ControlOrMeta+S")
    expect(panel.get_by_role("status")).to_contain_text("Confirmed: softmax.")
    expect(exercise(panel, "softmax")).to_contain_text("confirmed")
    confirmed = [e for e in progress.load(desk.progress).events if e.kind == "attempt" and e.confirms]
    assert [(e.exercise, e.context, e.outcome) for e in confirmed] == [("softmax", "fresh", "passed")]


def test_what_only_the_kernel_knows_is_not_confirmed(log, desk, tiny):
    notebook, panel = log
    notebook.write("softmax", solution_code(tiny, "softmax"))
    notebook.write("attention", solution_code(tiny, "attention"))
    notebook.run_all()
    expect(exercise(panel, "attention")).to_contain_text("passed here")
    notebook.write("attention", "from_before = attention")
    notebook.page.keyboard.press("ControlOrMeta+S")
    expect(panel.get_by_role("status")).to_contain_text("attention passed in your kernel and not in a fresh process")
    attempts = [e for e in progress.load(desk.progress).events if e.kind == "attempt" and e.exercise == "attention"]
    assert {(e.context, e.outcome) for e in attempts} == {("live", "passed")}


def test_the_whole_dashboard_is_one_click_away_in_the_colours_of_the_lab(log):
    notebook, panel = log
    panel.get_by_role("button", name="The whole dashboard").click()
    frame = notebook.page.frame_locator(".solo-dashboard iframe")
    expect(frame.get_by_role("heading", name="Skills")).to_be_attached()
    expect(frame.locator("html")).to_have_attribute("data-theme", "light")
    notebook.set_theme("JupyterLab Dark")
    expect(frame.locator("html")).to_have_attribute("data-theme", "dark")
    notebook.set_theme("JupyterLab Light")


def test_the_launcher_and_the_palette_have_it(log):
    notebook, _ = log
    page = notebook.page
    page.keyboard.press("ControlOrMeta+Shift+L")
    card = page.locator(".jp-LauncherCard", has_text="Dashboard")
    card.click()
    expect(page.locator(".solo-dashboard iframe")).to_be_visible()
    page.keyboard.press("ControlOrMeta+Shift+C")
    page.get_by_role("textbox", name="Command palette").or_(page.locator(".lm-CommandPalette-input")).first.fill(
        "Quest log"
    )
    expect(page.locator(".lm-CommandPalette-itemLabel", has_text=re.compile("^Quest log$"))).to_be_visible()


def test_who_closes_it_finds_it_closed(log):
    notebook, panel = log
    page = notebook.page
    expect(panel).to_be_visible()
    page.keyboard.press("ControlOrMeta+J")
    expect(panel).to_be_hidden()
    page.wait_for_timeout(2000)  # JupyterLab saves its layout a moment later
    page.goto(page.url.split("?")[0])
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(state="attached")
    expect(page.locator(LOG)).to_be_hidden()
    page.wait_for_timeout(1000)
    expect(page.locator(LOG)).to_be_hidden()


@pytest.mark.parametrize("name", ["version", "panel", "dashboard"])
def test_the_server_answers_to_its_learner_only(desk, tiny, name):
    address = httpx.URL(desk.address(desk.copy(tiny)))
    token, solo = address.params["token"], str(address.copy_with(path=f"/solo/{name}", query=None))
    assert httpx.get(solo).status_code in {302, 403}
    assert httpx.get(solo, headers={"Authorization": "token wrong"}).status_code in {302, 403}
    mine = {"Authorization": f"token {token}"}
    assert httpx.get(solo, headers=mine).status_code == 200
    assert httpx.post(solo, headers=mine).status_code == 405


def test_the_picture_of_the_readme(log, tiny, tmp_path):
    """With `SOLO_PICTURES=docs/images` it is taken anew."""
    notebook, panel = log
    page = notebook.page
    page.set_viewport_size({"width": 1150, "height": 700})
    notebook.write("softmax", solution_code(tiny, "softmax"))
    notebook.run_all()
    page.keyboard.press("ControlOrMeta+S")
    expect(exercise(panel, "softmax")).to_contain_text("confirmed")
    notebook.cell("softmax").scroll_into_view_if_needed()
    place = Path(os.environ.get("SOLO_PICTURES", tmp_path)) / "quest_log.png"
    save_picture(page.screenshot(), place)


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_nothing_in_the_panel_keeps_anybody_out(log, theme):
    notebook, panel = log
    notebook.set_theme(theme)
    expect(panel.locator(".exercises li")).not_to_have_count(0)
    found = Axe().run(notebook.page, context=LOG).response["violations"]
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in found] == []
