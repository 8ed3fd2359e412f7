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
    ### BEGIN SOLUTION
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
        if picture.mode.startswith("I;16"):  # PIL's own conversion to 8 bits cuts them off at 255
            picture = picture.convert("I").point(lambda value: value / 257).convert("L")
        picture = picture.convert("RGBA")
    except FileNotFoundError:
        raise PictureError(f"{path}: there is no such file.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # what PIL raises for a bad file
        raise PictureError(f"{path} is no picture that can be read.") from None
    background = Image.new("RGBA", picture.size, "black")
    flat = Image.alpha_composite(background, picture).convert("L" if channels == 1 else "RGB")
    width, height = (max(1, round(side * size / max(flat.size))) for side in flat.size)
    fitted = Image.new(flat.mode, (size, size))
    scaled = flat.resize((width, height), Image.Resampling.BILINEAR)
    fitted.paste(scaled, ((size - width) // 2, (size - height) // 2))
    return torch.from_numpy(np.array(fitted)).view(size, size, channels).permute(2, 0, 1).contiguous()
    ### END SOLUTION


def predict(served: nn.Module, images: Tensor, classes: Sequence[str], top: int = 3) -> list[list[tuple[str, float]]]:
    """For each of the uint8 pictures `(n, c, h, w)` its `top` most probable classes with their probabilities.

    The most probable first; all classes if there are fewer than `top`.
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        best = served(images).topk(min(top, len(classes)), dim=1)
    return [
        [(classes[c], p) for c, p in zip(columns, probabilities, strict=True)]
        for columns, probabilities in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    ### END SOLUTION
