"""The images that weights are trained on, read from files."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from batchfuse.errors import SourceError
from batchfuse.fusion.color import luminance

__all__ = ["Photograph", "read_photograph"]

_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow may take a file for; of others some start programs (EPS) or follow links."""
_HIGHEST = {"1": 1, "L": 255, "I;16": 65535, "I;16L": 65535, "I;16B": 65535, "I;16N": 65535, "I": 65535}


@dataclass(frozen=True, slots=True, eq=False)
class Photograph:
    """A gray image to train on."""

    name: str
    """Name of its file, without the folder."""
    sha256: str
    """Checksum of its file."""
    pixels: NDArray[np.float32]
    """(y, x), 0..1."""


def read_photograph(path: Path) -> Photograph:
    """An image of 8 or 16 bits a channel; a colour image by its luminance.

    Raises:
        SourceError: the file is missing, is no such image, or holds a single value.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise SourceError(f"{path} is no file: name the photographs themselves")
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                image.load()
                pixels = _gray(image, path)
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(f"{path} can't be read as a photograph: {error.strerror or error}") from error
    except Exception as error:  # decoders of damaged files raise anything
        raise SourceError(f"{path} can't be read as a photograph: {error}") from error
    if pixels.min() == pixels.max():
        raise SourceError(f"{path} holds the single value {pixels.flat[0]:g}: train on a photograph")
    return Photograph(path.name, sha256, pixels)


def _gray(image: Image.Image, path: Path) -> NDArray[np.float32]:
    if image.mode in _HIGHEST:
        values = np.asarray(image, dtype=np.float64)
        highest = _HIGHEST[image.mode]
        if values.min() < 0 or values.max() > highest:
            raise SourceError(
                f"{path} has values {values.min():g} to {values.max():g}: train on 8 or 16 bits"
            )
        return (values / highest).astype(np.float32)
    if image.mode in ("F", "CMYK", "LAB", "HSV"):
        raise SourceError(f"{path} is of mode {image.mode}: train on gray or RGB images of 8 or 16 bits")
    bands = np.asarray(image.convert("RGB"), dtype=np.float64)
    return luminance(np.moveaxis(bands, 2, 0) / 255)
