"""The learner's notebook in JupyterLab: what is typed, run and clicked, and what it looks like."""

import ast
import os
import re
import shutil
from pathlib import Path

import pytest
from pictures import save_picture
from playwright.sync_api import expect

from grading import progress
from grading.reference import solution_code
from grading.units import Unit

pytestmark = pytest.mark.browser

ERRORS = '[data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"]'
INTERRUPTIONS = ".jp-Dialog, .Toastify__toast"
OURS = ".jp-OutputArea-output > [style*=border-left]"
APPEARANCE = f"parts => parts.map({Path(__file__).with_name('appearance.js').read_text(encoding='utf-8')})"
WIDTHS = (1400, 420)


def mistake(lab: Unit, name: str) -> str:
    """The code of a known mistake, as a learner would write it."""
    known = next(n for n in ast.parse(lab.answers.read_text(encoding="utf-8")).body if getattr(n, "name", "") == name)
    return "\n\n\n".join(ast.unparse(part) for part in known.body if isinstance(part, ast.FunctionDef))


def test_the_untouched_starter_runs_to_its_end_and_scolds_nobody(open_notebook, desk, lab):
    notebook = open_notebook(desk.copy(lab))
    notebook.run_all()
    for check in notebook.ids("check-"):
        expect(notebook.card(check.removeprefix("check-"))).to_contain_text("not attempted")
    expect(notebook.page.locator(ERRORS)).to_have_count(0)
    expect(notebook.page.locator(INTERRUPTIONS)).to_have_count(0)


@pytest.mark.parametrize(
    ("lab", "right", "wrong", "name"),
    [("tiny", "attention", "softmax", "WrongAxis"), ("lab1", "as_floats", "bilinear_scores", "BatchesMixed")],
    indirect=["lab"],
)
def test_answers_typed_in_are_judged_explained_and_kept(open_notebook, desk, lab, right, wrong, name):
    before = len(progress.load(desk.progress).events)
    notebook = open_notebook(desk.copy(lab))
    notebook.write(right, solution_code(lab, right))
    notebook.write(wrong, mistake(lab, name))
    notebook.run_all()

    expect(notebook.card(right)).to_have_attribute("aria-label", re.compile(r"^✓ .+ — passed · 2 of 2 points$"))
    expect(notebook.card(right)).to_contain_text(f"solo check {lab.id} confirms it")
    expect(notebook.card(wrong)).to_have_attribute("aria-label", re.compile(r"^✗ .+ — not yet · "))
    expect(notebook.card(wrong)).to_contain_text(re.compile(r"expected \S+, got \S+"))
    expect(notebook.card(wrong)).to_contain_text("Likely cause: ")
    expect(notebook.run_new(f'hint("{wrong}")')).to_contain_text("Hint 1 of 3: ")

    new = progress.load(desk.progress).events[before:]
    attempts = {event.exercise: (event.outcome, event.mistake) for event in new if event.kind == "attempt"}
    assert attempts == {right: ("passed", None), wrong: ("failed", name)}
    assert [event.exercise for event in new if event.kind == "hint"] == [wrong]


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("starter", ('check("softmax")', 'check("attention")', "You did not provide a response.")),
        ("solution", ("Success! Your notebook passes all the tests.",)),
    ],
)
def test_nbgraders_validate_button(open_notebook, page, desk, tiny, version, words):
    before = progress.load(desk.progress)
    path = desk.copy(tiny).with_name(f"{version}.ipynb")
    shutil.copy(tiny.folder / path.name, path)
    open_notebook(path)
    page.get_by_role("button", name="Validate").click()
    dialog = page.locator(".jp-Dialog")
    for sentence in words:
        expect(dialog).to_contain_text(sentence)
    assert progress.load(desk.progress) == before, "a validation is nobody's attempt"
    dialog.get_by_role("button", name="Ok").click()
    expect(dialog).to_have_count(0)


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_what_we_show_fits_and_is_readable(gallery, theme):
    gallery.set_theme(theme)
    for width in WIDTHS:
        gallery.set_width(width)
        ours = gallery.page.locator(OURS)
        expect(ours).to_have_count(8)
        for part in ours.evaluate_all(APPEARANCE):
            where = f"{width} px wide, “{next(text['text'] for text in part['texts'] if not text['mark'])}”"
            assert part["beyond"] <= 0, f"{where}: reaches {part['beyond']} px beyond its output area"
            faint = [text for text in part["texts"] if text["contrast"] < (3 if text["mark"] else 4.5)]
            assert not faint, f"{where}: {faint}"


@pytest.mark.parametrize(("name", "theme"), [("light", "JupyterLab Light"), ("dark", "JupyterLab Dark")])
def test_the_pictures_of_the_readme(gallery, tmp_path, name, theme):
    """With `SOLO_PICTURES=docs/images` they are taken anew."""
    place = Path(os.environ.get("SOLO_PICTURES", tmp_path)) / f"card_{name}.png"
    gallery.set_width(900)
    gallery.set_theme(theme)
    first, last = gallery.cell("softmax"), gallery.cell("check-softmax")
    first.scroll_into_view_if_needed()
    top, bottom = first.bounding_box(), last.bounding_box()
    height = int(bottom["y"] + bottom["height"] - top["y"])
    save_picture(gallery.page.screenshot(clip={**top, "height": height}), place)
