"""A learner's desk: JupyterLab as `solo open` starts it, and a real browser in front of it."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from grading.units import Unit

REPO = Path(__file__).parents[2]
LABS = {
    "lab1": Unit("phase1/lab1", "lab", REPO / "phase1_foundations" / "lab1_tensors_and_autograd" / "lab.py"),
    "tiny": Unit("phase1/lab9", "lab", REPO / "tests" / "content" / "phase1_foundations" / "lab9_tiny" / "lab.py"),
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
FILLS_THE_PAGE = """() => {
  const { right } = document.querySelector(".jp-NotebookPanel").getBoundingClientRect();
  return right <= innerWidth && right > innerWidth - 60;
}"""
PATIENCE_S = 60
"""For whatever the browser waits for: kernels import torch, on a machine that may be busy with other tests."""

GALLERY = {
    "softmax": """def softmax(logits: Tensor, dim: int) -> Tensor:
    weights = logits.exp()
    return weights / weights.sum(dim, keepdim=True)""",
    "attention": """def attention(queries: Tensor, keys: Tensor) -> Tensor:
    return softmax(queries @ keys.T / queries.shape[-1] ** 0.5, dim=-1)""",
}
"""One well-known mistake, one right answer that builds on it; the third exercise is not attempted."""

MORE_IN_THE_GALLERY = (
    "def softmax(logits, dim):\n    raise ValueError('a long explanation ' * 20 + 'without_any_space_' * 10)",
    'check("softmax")',
    "def softmax(logits, dim):\n    return (logits - logits.amax()).softmax(-1)",
    'check("softmax")',
    'hint("softmax")',
    '[hint("softmax") for _ in range(3)][-1]',
    'reveal("softmax")',
)


class Desk:
    """The running server and the learner's files behind it."""

    def __init__(self, place: Path) -> None:
        self.home, self.content, self._jupyter = place / "home", place / "content", place / "jupyter"
        self.progress = self.home / "progress.json"
        self.log = place / "log.txt"
        self.environment = {
            **os.environ,
            "SOLO_HOME": str(self.home),
            "SOLO_PROGRESS": str(self.progress),
            "SOLO_CONTENT": str(self.content),
            "OMP_NUM_THREADS": "1",
            "BROWSER": "true",  # where there is a display, the window that opens is the command `true`
            **{f"JUPYTER_{kind}_DIR": str(self._jupyter / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")},
            **{f"JUPYTERLAB_{kind}_DIR": str(self._jupyter / kind.lower()) for kind in ("SETTINGS", "WORKSPACES")},
            "IPYTHONDIR": str(self._jupyter / "ipython"),
        }
        self._address: dict[str, Any] = {}

    def lay(self) -> None:
        """Put the real Lab 1 and the tiny one on the desk."""
        for lab in LABS.values():
            shutil.copytree(lab.folder, self.content / "phase1_foundations" / lab.name)
        self.home.mkdir()

    def copy(self, lab: Unit) -> Path:
        """The learner's notebook."""
        return self.home / "workspace" / "phase1_foundations" / lab.name / "lab.ipynb"

    def solo(self, *arguments: str) -> list[str]:
        """The command line of `solo` with these arguments."""
        return [sys.executable, "-c", f"from grading.cli import main; main({list(arguments)})"]

    def await_server(self, server: psutil.Popen) -> None:
        """Wait until the server has written down where it listens, and with which token."""
        deadline = time.monotonic() + PATIENCE_S
        while not (written := list((self._jupyter / "runtime").glob("jpserver-*.json"))):
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"JupyterLab does not start. It said:\n{self.log.read_text()}")
            time.sleep(0.1)
        self._address = json.loads(written[0].read_text())

    def address(self, notebook: Path) -> str:
        """Where `notebook` is open, in a JupyterLab that remembers no earlier window."""
        path = notebook.relative_to(self.home).as_posix()
        return f"{self._address['url']}lab/tree/{path}?reset&token={self._address['token']}"


class Notebook:
    """A notebook in JupyterLab, whose cells go by their ids."""

    def __init__(self, page: Page, desk: Desk, path: Path) -> None:
        self.page = page
        self._cells = nbformat.read(path, as_version=4).cells
        page.goto(desk.address(path))
        # Cells off the screen are attached when the browser finds time.
        expect(page.locator(".jp-Notebook > * .jp-Cell")).to_have_count(len(self._cells))
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(state="attached")

    def set_theme(self, name: str) -> None:
        """Choose a theme from the settings, and wait until it is there."""
        self.menu("Settings", "Theme", name)
        expect(self.page.locator("body")).to_have_attribute("data-jp-theme-name", name)

    def set_width(self, pixels: int) -> None:
        """Make the page this wide, and wait until JupyterLab has followed."""
        self.page.set_viewport_size({"width": pixels, "height": 1000})
        self.page.wait_for_function(FILLS_THE_PAGE)

    def fold_side_bars(self) -> None:
        """Give the notebook the whole width, as on a narrow screen: the files are folded at first, the log is not."""
        self.page.locator("#solo-quest-log").wait_for()
        self.page.locator("#jp-left-stack").wait_for(state="hidden")
        self.page.keyboard.press("ControlOrMeta+J")
        self.page.locator("#jp-right-stack").wait_for(state="hidden")

    def ids(self, start: str) -> list[str]:
        """The ids of the cells that begin with `start`."""
        return [cell.id for cell in self._cells if cell.id.startswith(start)]

    def cell(self, name: str) -> Locator:
        """The cell with this id."""
        place = [cell.id for cell in self._cells].index(name)
        return self.page.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{place}"]')

    def card(self, exercise: str) -> Locator:
        """The card that the check of `exercise` shows."""
        return self.cell(f"check-{exercise}").locator(".jp-OutputArea-output [role=group]")

    def write(self, name: str, code: str) -> None:
        """Put `code` in place of what a cell says, by the keyboard."""
        self.cell(name).locator(".cm-content").click()
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.insert_text(code)

    def menu(self, name: str, *entries: str) -> None:
        """Choose from JupyterLab's menu: its name, then the entry, through submenus."""
        self.page.get_by_role("menuitem", name=name, exact=True).click()
        for entry in entries:
            label = self.page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{re.escape(entry)}$"))
            label.click()

    def run_all(self) -> None:
        """Run all cells, and wait for the last one."""
        last = [i for i, cell in enumerate(self._cells) if cell.cell_type == "code"][-1]
        prompt = self.page.locator(f'.jp-Cell[data-windowed-list-index="{last}"] .jp-InputPrompt')
        before = prompt.text_content()
        self.menu("Run", "Run All Cells")
        expect(prompt).to_have_text(re.compile(rf"^\[(?!{re.escape(before.strip('[]:'))}\])\d+\]:$"))

    def run_new(self, code: str) -> Locator:
        """Type `code` into a new cell at the end and run it; its output."""
        cells = self.page.locator(".jp-Notebook .jp-Cell")
        cells.last.locator(".jp-InputPrompt").click()
        self.page.keyboard.press("b")
        expect(cells).to_have_count(len(self._cells) + 1)
        self._cells = [*self._cells, nbformat.v4.new_code_cell(code)]
        self.page.keyboard.press("Enter")
        self.page.keyboard.insert_text(code)
        self.page.keyboard.press("Control+Enter")
        return cells.last.locator(".jp-OutputArea-output")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser, without a window."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        missing = "no Chromium is installed: `make browser` does it, or says what to install"
        (pytest.fail if os.environ.get("SOLO_REQUIRE_BROWSER") else pytest.skip)(missing)
    expect.set_options(timeout=1000 * PATIENCE_S)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def desk(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """JupyterLab on a free port with a home, a record and settings of its own; both labs are prepared by `solo`."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    desk.lay()
    subprocess.run(desk.solo("start", "--no-lab"), cwd=desk.home, env=desk.environment, check=True)
    with desk.log.open("w") as log:
        server = psutil.Popen(desk.solo("open", "lab9"), cwd=desk.home, env=desk.environment, stdout=log, stderr=log)
    try:
        desk.await_server(server)
        yield desk
    finally:
        tree = [*server.children(recursive=True), server] if server.is_running() else []
        for process in tree:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(tree, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def window(chromium: Browser) -> Iterator[BrowserContext]:
    """One window for all tests, which keeps what it has loaded of JupyterLab; it shows fine detail."""
    with chromium.new_context(viewport={"width": 1400, "height": 1000}, device_scale_factor=2) as context:
        context.set_default_timeout(1000 * PATIENCE_S)
        yield context


@pytest.fixture
def page(window: BrowserContext, desk: Desk) -> Iterator[Page]:
    """A new page."""
    with window.new_page() as page:
        yield page


@pytest.fixture
def open_notebook(page: Page, desk: Desk) -> Callable[[Path], Notebook]:
    """`open_notebook(path)`: the notebook in JupyterLab, with its kernel ready."""
    return lambda path: Notebook(page, desk, path)


@pytest.fixture(params=LABS)
def lab(request: pytest.FixtureRequest) -> Unit:
    """The real Lab 1, and one that is small."""
    return LABS[request.param]


@pytest.fixture(scope="module")
def tiny() -> Unit:
    """The small one."""
    return LABS["tiny"]


@pytest.fixture(scope="module")
def gallery(window: BrowserContext, desk: Desk, tiny: Unit) -> Iterator[Notebook]:
    """A notebook with our outputs of every kind, on a page without side bars."""
    content = nbformat.read(tiny.notebook, as_version=4)
    for cell in content.cells:
        cell.source = GALLERY.get(cell.id, cell.source)
    content.cells += [nbformat.v4.new_code_cell(code) for code in MORE_IN_THE_GALLERY]
    path = desk.copy(tiny).with_name("gallery.ipynb")
    nbformat.write(content, path)
    with window.new_page() as page:
        notebook = Notebook(page, desk, path)
        notebook.run_all()
        notebook.fold_side_bars()
        yield notebook
