"""Plots are readable on a light and on a dark page, also for readers who see fewer colours."""

import itertools
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from io import BytesIO
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from labkit.plots import COLOURS, INK, use_theme

PAGES = ("#ffffff", "#111111")  # JupyterLab's --jp-layout-color0, light and dark
GRAPHICS = 3.0  # WCAG 2.2, 1.4.11
TEXT = 4.5  # WCAG 2.2, 1.4.3; 3.0 for large text
BEST_ON_BOTH = 4.3  # what one colour can have against both pages: see test_no_ink_is_better

TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
# Machado, Oliveira and Fernandes (2009), full severity, on linear RGB.
VISION = {
    "all cones": np.eye(3),
    "no red cones": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green cones": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "no blue cones": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


@pytest.fixture(autouse=True)
def theme() -> Iterator[None]:
    with mpl.rc_context():
        use_theme()
        yield


def linear_rgb(colour: str) -> np.ndarray:
    c = np.array(to_rgb(colour))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    return float(TO_XYZ[1] @ linear_rgb(colour))


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def cie_lab(linear: np.ndarray) -> np.ndarray:
    t = TO_XYZ @ linear.clip(0, 1) / TO_XYZ.sum(1)
    x, y, z = np.where(t > 216 / 24389, np.cbrt(t), t * 841 / 108 + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("colour", COLOURS)
def test_lines_stand_out(colour: str, page: str) -> None:
    assert contrast(colour, page) >= GRAPHICS


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("part", ["text", "xtick", "ytick", "grid"])
def test_ink_is_as_readable_as_one_ink_can_be(part: str, page: str) -> None:
    assert contrast(mpl.rcParams[f"{part}.color"], page) >= BEST_ON_BOTH


def test_no_ink_is_better() -> None:
    """A transparent figure cannot give its text 4.5:1 on both pages: the pages themselves are only 18.9:1 apart."""
    limit = contrast(*PAGES) ** 0.5
    assert BEST_ON_BOTH < limit < TEXT


@pytest.mark.parametrize("fill", [COLOURS[0], COLOURS[2], COLOURS[4]])
def test_white_text_on_a_filled_box_is_readable_on_any_page(fill: str) -> None:
    assert contrast("#ffffff", fill) >= TEXT


@pytest.mark.parametrize("vision", VISION)
def test_colours_stay_distinct(vision: str) -> None:
    seen = [cie_lab(VISION[vision] @ linear_rgb(colour)) for colour in COLOURS]
    for (i, a), (j, b) in itertools.combinations(enumerate(seen), 2):
        assert np.linalg.norm(a - b) > 20, f"{COLOURS[i]} and {COLOURS[j]} look alike with {vision}"


def test_ten_lines_differ_by_colour_or_dash() -> None:
    axes = Figure().subplots()
    lines = [axes.plot([0, 1])[0] for _ in range(10)]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 10


def test_a_figure_renders_on_a_transparent_page() -> None:
    figure = Figure(figsize=(4, 3), dpi=100)
    axes = figure.subplots()
    axes.plot([0, 1, 4], label="squares")
    axes.set(title="Title", xlabel="x", ylabel="y")
    axes.legend()
    png, svg = BytesIO(), BytesIO()
    figure.savefig(png, format="png")
    figure.savefig(svg, format="svg")
    pixels = mpl.image.imread(BytesIO(png.getvalue()))
    assert pixels[0, 0, 3] == 0, "the corner is opaque"
    opaque = pixels[pixels[..., 3] == 1][:, :3]
    assert {INK, COLOURS[0]} <= {mpl.colors.to_hex(c) for c in np.unique(opaque, axis=0)}
    assert ElementTree.fromstring(svg.getvalue()).tag.endswith("svg")


@pytest.mark.parametrize("first", ["use_theme()", "plt.figure(); plt.close()"])
def test_a_notebook_shows_svg_whatever_comes_first(first: str) -> None:
    """Runs in a process of its own: an IPython shell changes the process it lives in."""
    code = f"""
        import os
        os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
        from IPython.core.interactiveshell import InteractiveShell
        from IPython.utils.capture import capture_output
        shell = InteractiveShell.instance()
        shell.run_cell("import matplotlib.pyplot as plt\\nfrom labkit.plots import use_theme\\n{first}\\nuse_theme()")
        with capture_output() as shown:
            shell.run_cell("plt.plot([1, 2]); plt.show()")
        print(*(kind for output in shown.outputs for kind in output.data))
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert "image/svg+xml" in run.stdout, run.stdout + run.stderr
    assert "image/png" not in run.stdout


def test_outside_a_notebook_no_shell_is_made() -> None:
    code = "from labkit.plots import use_theme; use_theme(); import IPython; print(IPython.get_ipython())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "None"
