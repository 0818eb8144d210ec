"""Which device computes, and in which arithmetic."""

from __future__ import annotations

import torch

from batchfuse.errors import RecipeError

__all__ = ["resolved_device", "resolved_precision"]

_LATER = ("bfloat16", "float16")


def resolved_device(name: str) -> torch.device:
    """The device of this name; ``auto`` is a CUDA GPU where there is one, else the CPU.

    Raises:
        RecipeError: an unknown device, or one this machine lacks.
    """
    if not isinstance(name, str):
        raise RecipeError(f"a device is named auto, cpu, cuda, cuda:N or mps, not {name!r}")
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (":" in name and not (kind == "cuda" and number.isdecimal())):
        raise RecipeError(f"there is no device {name!r}: use auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda":
        return _cuda(name, int(number or 0))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise RecipeError("device 'mps' is not available on this machine: use auto or cpu")
    return torch.device(kind)


def _cuda(name: str, number: int) -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if number >= count:
        raise RecipeError(f"device {name!r} is not available, torch sees {count} CUDA GPUs: use auto or cpu")
    return torch.device("cuda", number)


def resolved_precision(name: str) -> str:
    """The arithmetic of this name; ``auto`` is float32.

    Raises:
        RecipeError: an unknown one, or one that is not built yet.
    """
    if name in ("auto", "float32"):
        return "float32"
    if name == "float64":  # tests tell a halo of 11 from 12 by it
        return name
    if name in _LATER:
        raise RecipeError(f"precision {name!r} is not built yet: use auto or float32")
    raise RecipeError(f"there is no precision {name!r}: use auto or float32")
