"""One look for every plot, readable in the light and in the dark theme of JupyterLab."""

import matplotlib as mpl
from cycler import cycler
from IPython import get_ipython

INK = "#797979"
"""Text, axes and grid: as far from white as from #111111, 4.3:1. No colour reaches 4.5:1 on both; the limit is 4.34."""

COLOURS = ("#0072b2", "#ef5b0c", "#870fff", "#a57896", "#a54b3c")
"""Lines and areas: blue, orange, violet, mauve, brown. At least 3:1 on both; distinct in all forms of colour blindness.

White text on the first, third and last reaches 4.5:1, on any page."""

_THEME = {
    "figure.facecolor": "none",
    "figure.edgecolor": "none",
    "figure.figsize": (7.0, 4.0),
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,  # ask with axes.grid(); on by default it would be drawn over images too
    # Solid colours first, then the same ones dashed: with many lines the dash tells what the colour cannot.
    "axes.prop_cycle": cycler(linestyle=["-", "--"]) * cycler(color=COLOURS),
    "grid.color": INK,
    "grid.linestyle": ":",
    "grid.linewidth": 0.5,
    "font.size": 11,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.facecolor": "none",
    "legend.edgecolor": INK,
    "legend.frameon": False,
    "hatch.color": INK,
    "patch.edgecolor": INK,
    "boxplot.boxprops.color": INK,
    "boxplot.whiskerprops.color": INK,
    "boxplot.capprops.color": INK,
    "boxplot.flierprops.color": INK,
    "boxplot.flierprops.markeredgecolor": INK,
    "lines.linewidth": 2.0,
}


def use_theme() -> None:
    """Give every plot from here on a transparent background and colours for light and dark pages; SVG in a notebook."""
    mpl.rcParams.update(_THEME)
    shell = get_ipython()
    if shell is not None:
        from matplotlib_inline.config import InlineBackend  # only where there is a notebook to draw in

        InlineBackend.instance(parent=shell).figure_formats = {"svg"}
