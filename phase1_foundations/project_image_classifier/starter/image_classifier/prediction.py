"""Pictures from files: whatever people send, made into what the network has seen."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from image_classifier.errors import PictureError


def read_picture(path: Path, channels: int, size: int) -> Tensor:
    """A picture file as uint8 `(channels, size, size)`: grey for one channel, red, green and blue for three.

    Any size will do, and any mode of 8 bits or of 16-bit grey, which is scaled to 8 bits. The picture is turned as its
    EXIF orientation says. What is transparent lies on black; the sides keep their proportion, so the picture is scaled
    to fit (bilinearly; however thin, it keeps a pixel on each side) and stands in the middle of a black square. Raises
    `PictureError`, whose one sentence names the file, if it is missing, is no picture, or breaks off.
    """
    # Your code here
    raise NotImplementedError


def predict(served: nn.Module, images: Tensor, classes: Sequence[str], top: int = 3) -> list[list[tuple[str, float]]]:
    """For each of the uint8 pictures `(n, c, h, w)` its `top` most probable classes with their probabilities.

    The most probable first; all classes if there are fewer than `top`.
    """
    # Your code here
    raise NotImplementedError
