"""Which weights there are, where their files lie, and what they hash to; needs no torch."""

from __future__ import annotations

import difflib
import hashlib
import os
from pathlib import Path

from batchfuse.errors import WeightsError

__all__ = ["SHIPPED", "weights_checksum", "weights_path"]

SHIPPED = ("res2netfuse", "res2netfuse-paper")
"""Names of the weights that come with batchfuse."""
_FOLDER = Path(__file__).resolve().parents[1] / "weights"
_PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".tar")
_REMEDY = (
    "such a file can run any code when it is read: save its tensors with safetensors.torch.save_file "
    "and name the .safetensors file"
)


def weights_path(weights: str | os.PathLike[str]) -> Path:
    """The file of a shipped name, or of a path to a .safetensors file.

    Raises:
        WeightsError: an unknown name, a file that is not there, or a pickled checkpoint.
    """
    name = os.fspath(weights)
    if name in SHIPPED:
        return _FOLDER / f"{name}.safetensors"
    path = Path(name)
    if path.suffix.lower() in _PICKLES:
        raise WeightsError(f"{name} is a pickled checkpoint, and {_REMEDY}")
    if path.suffix.lower() != ".safetensors" and not os.path.exists(path):  # noqa: PTH110 (never raises)
        raise WeightsError(
            f"there are no weights {name!r}: {_known(name)}, or give the path of a .safetensors file"
        )
    if not os.path.isfile(path):  # noqa: PTH113 (never raises)
        raise WeightsError(f"the weights file {name} does not exist: {_known(name)}, or correct the path")
    _refuse_pickle(path)
    return path


def weights_checksum(weights: str | os.PathLike[str]) -> str:
    """SHA-256 of the weights' file, in hexadecimal digits.

    Raises:
        WeightsError: as ``weights_path``, or the file can't be read.
    """
    path = weights_path(weights)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"the weights file {path} can't be read: {error.strerror}") from error


def _refuse_pickle(path: Path) -> None:
    """A safetensors file begins with a length of 8 bytes and a brace, whatever its name says."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise WeightsError(f"the weights file {path} can't be read: {error.strerror}") from error
    if start[8:9] == b"{":
        return
    if start[:2] == b"PK" or start[:1] == b"\x80":
        raise WeightsError(f"{path} is a pickled checkpoint, and {_REMEDY}")
    raise WeightsError(
        f"{path} is not a safetensors file: give one that batchfuse train or safetensors wrote"
    )


def _known(name: str) -> str:
    close = difflib.get_close_matches(name, SHIPPED, n=1)
    return f"did you mean {close[0]!r}?" if close else f"shipped is {', '.join(SHIPPED)}"
