"""The pictures of the README, as small as they can be."""

from io import BytesIO
from pathlib import Path

from PIL import Image

COLOURS = 128
MOST_KB = 150


def save_picture(screenshot: bytes, place: Path) -> None:
    """Write a screenshot to `place` with few colours; it must be small."""
    picture = Image.open(BytesIO(screenshot)).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(place, optimize=True)
    assert place.stat().st_size < 1000 * MOST_KB
