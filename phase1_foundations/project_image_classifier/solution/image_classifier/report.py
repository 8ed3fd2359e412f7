"""The report: one HTML file that needs no other, readable on light and dark pages."""

import base64
import html
import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from image_classifier.data import Pictures
from image_classifier.evaluation import Assessment, Latency
from labkit.plots import COLOURS, INK, use_theme

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Image classifier: report</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #7977; }}
th:first-child, td:first-child {{ text-align: left; }}
svg {{ max-width: 100%; height: auto; }}
figure {{ display: inline-block; margin: .4rem; text-align: center; font-size: .8rem; }}
figure img {{ width: 84px; image-rendering: pixelated; }}
</style>
<h1>Image classifier: report</h1>
{summary}
<h2>Training</h2>
{curves}
<h2>Classes</h2>
{classes}
{matrix}
<h2>Calibration</h2>
<p>A network is calibrated if, of all answers that it is 80 % sure of, 80 % are right. The temperature was fitted on the
validation part.</p>
{reliability}
<h2>The worst mistakes</h2>
{worst}
</html>
"""


def write(
    path: Path, assessment: Assessment, pictures: Pictures, history: list[dict[str, float]], latency: Latency
) -> None:
    """Write the report on the test `pictures` to `path`."""
    use_theme()
    page = PAGE.format(
        summary=_summary(assessment, latency, len(pictures.labels)),
        curves=_svg(_curves(history)),
        classes=_classes(assessment, pictures.classes),
        matrix=_svg(_matrix(assessment.matrix, pictures.classes)),
        reliability=_svg(_reliability(assessment)),
        worst="\n".join(_mistake(assessment, pictures, row) for row in assessment.worst.tolist()),
    )
    path.write_text(page, encoding="utf-8")


def _summary(assessment: Assessment, latency: Latency, n: int) -> str:
    (loss, cooled), (error, corrected) = assessment.loss, assessment.calibration_error
    rows = [
        ("pictures", f"{n}", ""),
        ("accuracy", f"{assessment.accuracy:.2%}", ""),
        ("cross-entropy", f"{loss:.4f}", f"{cooled:.4f}"),
        ("calibration error", f"{error:.4f}", f"{corrected:.4f}"),
        ("latency p50 / p95", f"{latency.p50:.2f} / {latency.p95:.2f} ms", ""),
    ]
    return _table(("", "", f"with T = {assessment.temperature:.3f}"), rows)


def _classes(assessment: Assessment, names: tuple[str, ...]) -> str:
    columns = (*assessment.per_class, assessment.matrix.sum(1))
    rows = [(name, *(f"{values[c]:.3f}" for values in columns[:3]), f"{columns[3][c]}") for c, name in enumerate(names)]
    return _table(("class", "precision", "recall", "F1", "pictures"), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    return "<table>" + line(head, "th") + "".join(line(row, "td") for row in rows) + "</table>"


def _curves(history: list[dict[str, float]]) -> Figure:
    figure, axes = plt.subplots(figsize=(7, 3))
    epochs = [record["epoch"] for record in history]
    for name in ("train_loss", "validation_loss"):
        axes.plot(epochs, [record[name] for record in history], "o-", label=name.replace("_", " "))
    axes.set(xlabel="epoch", ylabel="cross-entropy", xticks=epochs)
    axes.legend()
    return figure


def _matrix(matrix: Tensor, names: tuple[str, ...]) -> Figure:
    figure, axes = plt.subplots(figsize=(6, 5))
    share = (matrix / matrix.sum(1, keepdim=True).clamp(min=1)).numpy()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(share.shape):
        axes.text(j, i, int(matrix[i, j]), ha="center", va="center", fontsize=7,
                  color="white" if share[i, j] > 0.5 else "black")  # fmt: skip
    places = range(len(names))
    axes.set(xticks=places, yticks=places, yticklabels=names, xlabel="predicted", ylabel="true")
    axes.set_xticklabels(names, rotation=45, ha="right")
    return figure


def _reliability(assessment: Assessment) -> Figure:
    figure, axes = plt.subplots(figsize=(5, 4))
    axes.plot([0, 1], [0, 1], linestyle=":", color=INK, label="calibrated")
    labels = ("as trained", f"with T = {assessment.temperature:.2f}")
    for bins, colour, label in zip(assessment.reliability, COLOURS, labels, strict=False):
        filled = bins.count > 0
        axes.plot(bins.confidence[filled], bins.accuracy[filled], "o-", color=colour, label=label)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    return figure


def _mistake(assessment: Assessment, pictures: Pictures, row: int) -> str:
    probability, predicted = assessment.probabilities[row].max(0)
    true, guess = (html.escape(pictures.classes[c]) for c in (int(pictures.labels[row]), int(predicted)))
    caption = f"{true}<br>taken for {guess} ({probability:.0%})"
    return f'<figure><img alt="{true}" src="{_png(pictures.images[row])}"><figcaption>{caption}</figcaption></figure>'


def _png(image: Tensor) -> str:
    pixels = image.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True)
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
