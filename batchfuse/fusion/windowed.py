"""Res2NetFuse over arrays of any size, in windows that suit the device."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batchfuse.fusion.allocator import keep_memory
from batchfuse.fusion.device import resolved_device
from batchfuse.fusion.extremes import Extremes
from batchfuse.fusion.layers import DECODER_RADIUS, ENCODER_RADIUS, RADIUS
from batchfuse.fusion.precision import resolved_precision
from batchfuse.fusion.prepacked import PrepackedNetwork
from batchfuse.fusion.res2netfuse import Res2NetFuse, Sides
from batchfuse.fusion.strategies import channel_mean, fused_features
from batchfuse.fusion.weights import load_weights
from batchfuse.geometry.window import Window

__all__ = ["Res2NetFuser"]

Pixels = NDArray[np.floating[Any]]

_CPU_INNER = 256
_BYTES_A_PIXEL = 6000  # on a GPU, two sources: what torch holds at a time, with room for its workspaces


class _Network(Protocol):
    def encode(self, images: Tensor, cut: Sides) -> Tensor: ...

    def decode(self, features: Tensor) -> Tensor: ...


class Res2NetFuser:
    """The ``Fuser`` of Res2NetFuse; any number of threads may share it."""

    def __init__(
        self,
        strategy: str,
        weights: str | os.PathLike[str],
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        inner: int | None = None,
    ) -> None:
        """Loads the weights.

        Args:
            strategy: l1, mean or average.
            weights: a shipped name or a .safetensors file.
            device: auto, cpu, cuda or cuda:N.
            precision: auto or float32; float64 for tests.
            threads: torch's own threads in each calling thread; None leaves them as they are.
            inner: edge of the cores computed at once; None takes what suits the device.
        """
        self.strategy = strategy
        self.precision = resolved_precision(precision)
        self._device = resolved_device(device)
        self.device = str(self._device)
        self._threads = threads
        self._inner = inner
        self._network = _prepared(load_weights(weights).network(), self._device, self.precision)
        self._turn = threading.Lock()

    def survey(self, sources: Pixels, valid: NDArray[np.bool_], core: Window) -> Extremes:
        """See ``Fuser.survey``."""
        found = Extremes.empty(len(sources))
        with self._computing():
            for inner in _parts(core, self._edge(len(sources))):
                window = inner.grown(ENCODER_RADIUS, sources.shape[1:])
                features = self._features(sources, window, inner)
                means = np.stack([channel_mean(feature)[0, 0].cpu().numpy() for feature in features])
                found = found.merge(_extremes(means, valid[(slice(None), *inner.slices)]))
        return found

    def fuse(self, sources: Pixels, core: Window, survey: Extremes | None) -> NDArray[Any]:
        """See ``Fuser.fuse``; float64 where the precision is."""
        fused = np.empty(core.shape, self.precision)
        with self._computing():
            for inner in _parts(core, self._edge(len(sources))):
                window = inner.grown(RADIUS, sources.shape[1:])
                # the decoder reaches less far than the encoder: the rest of the halo has served
                part = inner.grown(DECODER_RADIUS, sources.shape[1:])
                merged = fused_features(self.strategy, self._features(sources, window, part), survey)
                image = self._network.decode(merged)[0, 0].cpu().numpy()
                fused[inner.relative_to(core).slices] = image[inner.relative_to(part).slices]
        return fused

    def _features(self, sources: Pixels, window: Window, part: Window) -> list[Tensor]:
        """The features of each source in ``part``, read through ``window``: (1, 64, y, x) each."""
        kept = part.relative_to(window)
        (top, left), (bottom, right) = kept.start, kept.stop
        rows, columns = window.shape
        # a margin is smaller only where the window ends with the image: nothing is wrong there
        cut = (
            top == ENCODER_RADIUS,
            rows - bottom == ENCODER_RADIUS,
            left == ENCODER_RADIUS,
            columns - right == ENCODER_RADIUS,
        )
        start = (0 if cut[0] else top, 0 if cut[2] else left)
        at_rows, at_columns = (slice(a, a + n) for a, n in zip(start, part.shape, strict=True))
        encoded = (self._network.encode(image, cut) for image in self._images(sources, window))
        return [features[:, :, at_rows, at_columns] for features in encoded]

    def _images(self, sources: Pixels, window: Window) -> Iterator[Tensor]:
        """Each source in the window, (1, 1, y, x), on the device."""
        for source in sources:
            pixels = np.array(source[window.slices], self.precision, order="C")  # torch wants to own it
            yield torch.from_numpy(pixels).to(self._device)[None, None]

    def _edge(self, sources: int) -> int:
        if self._inner is not None:
            return self._inner
        if self._device.type != "cuda":
            return _CPU_INNER
        free, _ = torch.cuda.mem_get_info(self._device)
        # what torch has taken and holds ready is free for us too
        free += torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        pixels = free / 2 / (_BYTES_A_PIXEL * max(1, sources / 2))
        return int(max(_CPU_INNER, min(4096, pixels**0.5 - 2 * RADIUS)))

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Inference by this thread; on a GPU by one thread at a time, so that memory doesn't multiply."""
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        if self._device.type == "cpu":
            with torch.inference_mode():
                yield
        else:
            with self._turn, torch.inference_mode():
                yield


def _prepared(network: Res2NetFuse, device: torch.device, precision: str) -> _Network:
    if device.type == "cpu" and precision == "float32" and PrepackedNetwork.is_possible():
        keep_memory()
        return PrepackedNetwork(network)
    if device.type == "cuda":
        # TF32 is off by 5e-4, which tiles and whole would still share, but not with a CPU
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    return network.to(device, getattr(torch, precision))


def _parts(core: Window, edge: int) -> Iterator[Window]:
    """The core cut evenly into parts of at most ``edge`` pixels a side."""
    rows, columns = (_cuts(a, b, edge) for a, b in zip(core.start, core.stop, strict=True))
    for (top, down), (left, right) in itertools.product(rows, columns):
        yield Window((top, left), (down, right))


def _cuts(start: int, stop: int, edge: int) -> list[tuple[int, int]]:
    count = max(1, -(-(stop - start) // edge))
    at = [start + (stop - start) * i // count for i in range(count + 1)]
    return list(itertools.pairwise(at))


def _extremes(means: NDArray[Any], valid: NDArray[np.bool_]) -> Extremes:
    low = np.where(valid, means, np.inf).min(axis=(1, 2), initial=np.inf)
    high = np.where(valid, means, -np.inf).max(axis=(1, 2), initial=-np.inf)
    # -0.0 becomes 0.0: which of the two a merge keeps would depend on the order
    return Extremes(tuple(float(v) + 0.0 for v in low), tuple(float(v) + 0.0 for v in high))
