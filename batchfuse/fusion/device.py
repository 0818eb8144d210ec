"""Which device computes."""

from __future__ import annotations

import torch

from batchfuse.errors import RecipeError

__all__ = ["gpus_for", "resolved_device"]


def resolved_device(name: str, rank: int = 0) -> torch.device:
    """The device of this name; ``auto`` is a CUDA GPU where there is one, else the CPU.

    Args:
        name: auto, cpu, cuda, cuda:N or mps.
        rank: of several processes on one machine, which this is: each takes a GPU of its own while there are
            enough, else they share them evenly.

    Raises:
        RecipeError: an unknown device, or one this machine lacks.
    """
    if not isinstance(name, str):
        raise RecipeError(f"a device is named auto, cpu, cuda, cuda:N or mps, not {name!r}")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (":" in name and not (kind == "cuda" and number.isdecimal())):
        raise RecipeError(f"there is no device {name!r}: use auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return _cuda(name, int(number) if number else rank % max(1, count), count)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise RecipeError("device 'mps' is not available on this machine: use auto or cpu")
    return torch.device(kind)


def gpus_for(name: str) -> int:
    """GPUs that processes told this device share out among them: none where it names one, or the CPU."""
    return torch.cuda.device_count() if name in ("auto", "cuda") and torch.cuda.is_available() else 0


def _cuda(name: str, number: int, count: int) -> torch.device:
    if number >= count:
        raise RecipeError(f"device {name!r} is not available, torch sees {count} CUDA GPUs: use auto or cpu")
    return torch.device("cuda", number)
