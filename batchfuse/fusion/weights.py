"""Weights files: safetensors, with the network's configuration and how they were made inside."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from batchfuse.errors import WeightsError
from batchfuse.fusion.res2netfuse import Res2NetFuse, Res2NetFuseConfig
from batchfuse.fusion.shipped import weights_path
from batchfuse.fusion.tensors import read_tensors, tells_kind, write_tensors

__all__ = ["Weights", "are_weights", "load_weights", "save_weights"]

_ARCHITECTURE = "res2netfuse"


@dataclass(frozen=True, slots=True)
class Weights:
    """What a weights file holds."""

    config: Res2NetFuseConfig
    """Which variant of the network."""
    tensors: Mapping[str, torch.Tensor]
    """By name, as in ``Res2NetFuse.state_dict``."""
    made: Mapping[str, Any]
    """How they were made: settings, image, loss, PSNR; empty where the file doesn't say."""

    def network(self) -> Res2NetFuse:
        """The network with these weights, on the CPU, in float32, for inference."""
        network = Res2NetFuse(self.config)
        network.load_state_dict(dict(self.tensors))
        return network.eval().requires_grad_(False)


def save_weights(network: Res2NetFuse, path: Path, made: Mapping[str, Any]) -> None:
    """Writes the weights of a network with a checksum; equal networks and ``made`` give equal bytes.

    Raises:
        WeightsError: the file can't be written.
    """
    about = {"architecture": _ARCHITECTURE, "config": network.config.to_json(), "made": dict(made)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, _ARCHITECTURE, about, network.state_dict())
    except OSError as error:
        raise WeightsError(f"the weights file {path} can't be written: {error}") from error


def are_weights(path: Path) -> bool:
    """Whether a file says that it holds weights that batchfuse wrote, damaged or not."""
    return tells_kind(path, _ARCHITECTURE)


def load_weights(weights: str | os.PathLike[str]) -> Weights:
    """The weights of a shipped name or of a .safetensors file.

    Raises:
        WeightsError: no such file, a pickled checkpoint, a damaged file, or one of another network.
    """
    path = weights_path(weights)
    try:
        found = read_tensors(path, _ARCHITECTURE)
    except (OSError, ValueError) as error:
        raise WeightsError(f"the weights file {path} can't be read: {error}") from error
    if found.about.get("architecture") != _ARCHITECTURE:
        raise WeightsError(
            f"{path} holds no weights of Res2NetFuse (its metadata don't say so): give a file that batchfuse "
            "train wrote, or the shipped name 'res2netfuse'"
        )
    config = _config(found.about, path)
    _check_shapes(found.tensors, config, path)
    if found.is_damaged:
        raise WeightsError(
            f"{path} is damaged: its content does not have the checksum that it tells; copy it again, or "
            "train anew"
        )
    made = found.about.get("made")
    return Weights(config, found.tensors, made if isinstance(made, dict) else {})


def _config(about: Mapping[str, Any], path: Path) -> Res2NetFuseConfig:
    try:
        return Res2NetFuseConfig.from_json(about["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} describes a network this version does not know ({about.get('config')!r}): train anew"
        ) from error


def _check_shapes(tensors: Mapping[str, torch.Tensor], config: Res2NetFuseConfig, path: Path) -> None:
    with torch.device("meta"):
        wanted = {name: tuple(t.shape) for name, t in Res2NetFuse(config).state_dict().items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise WeightsError(
            f"{path} does not fit Res2NetFuse: {name} has shape {found.get(name, 'none')}, wanted "
            f"{wanted.get(name, 'none')} ({len(wrong)} tensors differ); give weights of this network"
        )
    unfit = [name for name, tensor in tensors.items() if not _is_real_and_finite(tensor)]
    if unfit:
        raise WeightsError(f"{path} is damaged: {unfit[0]} is not of finite real numbers; train anew")


def _is_real_and_finite(tensor: torch.Tensor) -> bool:
    # torch can't tell it of every type of 8 bits
    return tensor.is_floating_point() and bool(torch.isfinite(tensor.float()).all())
