"""Res2NetFuse over arrays of any size, in windows that suit the device."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import reduce
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batchfuse.fusion.allocator import keep_memory
from batchfuse.fusion.device import resolved_device
from batchfuse.fusion.extremes import Extremes
from batchfuse.fusion.layers import CPU_WINDOW, DECODER_RADIUS, ENCODER_RADIUS
from batchfuse.fusion.moments import Moments
from batchfuse.fusion.precision import resolved_precision
from batchfuse.fusion.prepacked import PrepackedNetwork
from batchfuse.fusion.res2netfuse import Res2NetFuse, Sides
from batchfuse.fusion.rules import rule_of
from batchfuse.fusion.shipped import weights_path
from batchfuse.fusion.strategies import channel_mean
from batchfuse.fusion.surveys import Survey
from batchfuse.fusion.weights import load_weights
from batchfuse.geometry.window import Window

__all__ = ["Res2NetFuser"]

Pixels = NDArray[np.floating[Any]]

T = TypeVar("T")

_SMALLEST = 64  # edge of a core: with less, nearly all that is computed is its surroundings
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
        parameters: Mapping[str, float] | None = None,
    ) -> None:
        """Makes it ready; the weights are loaded when the network is first needed.

        Args:
            strategy: l1, mean, average or detail.
            weights: a shipped name or a .safetensors file.
            device: auto, cpu, cuda or cuda:N.
            precision: auto or float32; float64 for tests.
            threads: windows that are computed at a time on a CPU, each by one thread; None takes as many as
                torch has threads.
            inner: edge of the cores computed at once; None takes what suits the device.
            parameters: all that the strategy has.
        """
        self.strategy = strategy
        self.precision = resolved_precision(precision)
        self._device = resolved_device(device)
        self.device = str(self._device)
        self._threads = threads or torch.get_num_threads()
        self._inner = inner
        self.notes: tuple[str, ...] = ()
        """What a person should know of how it computes."""
        self._most: int | None = None  # edge of the cores that there was memory for
        self._rule = rule_of(strategy, parameters or {})
        self._weights = weights_path(weights)
        self._loaded: _Network | None = None
        self._loading = threading.Lock()
        self._turn = threading.Lock()

    def survey(self, sources: Pixels, valid: NDArray[np.bool_], core: Window) -> Survey:
        """See ``Fuser.survey``."""
        if self._rule.surveys_pixels:
            rows, columns = core.slices
            return Moments.of(sources[..., rows, columns], valid[..., rows, columns])
        slices, there = _slices(sources), _slices(valid)
        with self._computing():
            return self._fitted(len(sources), lambda: self._surveyed(slices, there, core))

    def _surveyed(self, slices: Pixels, there: NDArray[np.bool_], core: Window) -> Extremes:
        def found_in(inner: Window) -> Extremes:
            found = Extremes.empty(len(slices))
            window = inner.grown(ENCODER_RADIUS, slices.shape[-2:])
            for some in self._batches(slices, window):
                features = self._features(self._images(slices[:, some], window), window, inner)
                means = np.stack([channel_mean(feature)[:, 0].cpu().numpy() for feature in features])
                found = found.merge(_extremes(means, there[:, some, *inner.slices]))
            return found

        return reduce(Extremes.merge, self._each(found_in, _parts(core, self._edge(len(slices)))))

    def fuse(self, sources: Pixels, core: Window, survey: Survey | None) -> NDArray[Any]:
        """See ``Fuser.fuse``; float64 where the precision is."""
        slices = _slices(sources)
        with self._computing():
            fused = self._fitted(len(sources), lambda: self._whole(slices, core, survey))
        return fused if sources.ndim == 4 else fused[0]

    def _whole(self, slices: Pixels, core: Window, survey: Survey | None) -> NDArray[Any]:
        """The fused core of each slice, (n, y, x), part by part."""
        fused = np.empty((slices.shape[1], *core.shape), self.precision)

        def fill(inner: Window) -> None:
            # the further a pixel has come, the less around it is still needed
            part = inner.grown(DECODER_RADIUS, slices.shape[-2:])
            for some in self._batches(slices, part):
                image = self._fused(slices[:, some], part, survey)[:, 0].cpu().numpy()
                kept = image[:, *inner.relative_to(part).slices]
                fused[some, *inner.relative_to(core).slices] = kept

        for _ in self._each(fill, _parts(core, self._edge(len(slices)))):
            pass
        return fused

    def _each(self, compute: Callable[[Window], T], parts: Iterable[Window]) -> Iterator[T]:
        """What ``compute`` gives of each part: on a CPU of several at a time, each in one thread.

        Not torch's own threads: how many there are decides how a layer's sums are cut, and so the last bit.
        """
        if self._device.type != "cpu":
            yield from map(compute, parts)
            return
        windows = list(parts)
        if min(self._threads, len(windows)) == 1:
            with _one_thread():
                yield from map(compute, windows)
            return

        def alone(window: Window) -> T:
            with _one_thread(), torch.inference_mode():
                return compute(window)

        with ThreadPoolExecutor(min(self._threads, len(windows)), thread_name_prefix="window") as pool:
            yield from pool.map(alone, windows)

    def _fitted(self, sources: int, compute: Callable[[], T]) -> T:
        """What ``compute`` gives, with windows half as wide each time a device has too little memory.

        Other errors are not taken for that. From the smallest windows on, the error is raised.
        """
        while True:
            edge = self._edge(sources)
            try:
                return compute()
            except torch.OutOfMemoryError:
                if edge <= _SMALLEST:
                    raise
            # here the error is gone, and with it the tensors that its frames held
            self._most = max(_SMALLEST, edge // 2)
            self.notes = (
                f"{self.device} was short of memory: computed in windows of {self._most} pixels in place of "
                f"{edge}, with the same result",
            )
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _batches(self, slices: Pixels, window: Window) -> Iterator[slice]:
        """Slices whose windows are computed at once: as many as fit where one large window would."""
        many = max(1, self._edge(len(slices)) ** 2 // window.size)
        for first in range(0, slices.shape[1], many):
            yield slice(first, min(first + many, slices.shape[1]))

    def _fused(self, slices: Pixels, part: Window, survey: Survey | None) -> Tensor:
        """The fused images of a part, (n, 1, y, x): on a side that is cut, 4 pixels of it are wrong."""
        seen = part.grown(self._rule.reach, slices.shape[-2:])
        window = seen.grown(ENCODER_RADIUS, slices.shape[-2:])
        images = list(self._images(slices, window))
        features = self._features(images, window, seen)
        rows, columns = seen.relative_to(window).slices
        pixels = [image[:, :, rows, columns] for image in images]
        merged = self._rule.merged(features, pixels, survey)
        del features  # before the decoder wants memory
        if seen != part:
            merged = merged.at(*part.relative_to(seen).slices)
        return merged.finished(self._network().decode(merged.features))

    def _network(self) -> _Network:
        with self._loading:
            if self._loaded is None:
                network = load_weights(self._weights).network()
                self._loaded = _prepared(network, self._device, self.precision)
            return self._loaded

    def _features(self, images: Iterable[Tensor], window: Window, part: Window) -> list[Tensor]:
        """The features in ``part`` of each source's images of the window: (n, 64, y, x) each."""
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
        network = self._network()
        encoded = (network.encode(image, cut) for image in images)
        return [features[:, :, at_rows, at_columns] for features in encoded]

    def _images(self, slices: Pixels, window: Window) -> Iterator[Tensor]:
        """The window of each source's slices, (n, 1, y, x), on the device."""
        for source in slices:
            pixels = np.array(source[:, *window.slices], self.precision, order="C")  # torch wants to own it
            yield torch.from_numpy(pixels).to(self._device)[:, None]

    def _edge(self, sources: int) -> int:
        edge = self._wanted_edge(sources)
        return edge if self._most is None else min(edge, self._most)

    def _wanted_edge(self, sources: int) -> int:
        if self._inner is not None:
            return self._inner
        if self._device.type != "cuda":
            return CPU_WINDOW
        free, _ = torch.cuda.mem_get_info(self._device)
        # what torch has taken and holds ready is free for us too
        free += torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        pixels = free / 2 / (_BYTES_A_PIXEL * max(1, sources / 2))
        around = ENCODER_RADIUS + DECODER_RADIUS + self._rule.reach
        return int(max(CPU_WINDOW, min(4096, pixels**0.5 - 2 * around)))

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Inference by this thread; on a GPU by one thread at a time, so that memory doesn't multiply."""
        if self._device.type == "cpu":
            with torch.inference_mode():
                yield
        else:
            with self._turn, torch.inference_mode():
                yield


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch has one thread for what this thread asks of it; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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


def _slices(images: NDArray[Any]) -> NDArray[Any]:
    """(source, y, x) as one slice a source, (source, 1, y, x); of a volume as they are."""
    return images if images.ndim == 4 else images[:, None]


def _extremes(means: NDArray[Any], valid: NDArray[np.bool_]) -> Extremes:
    low = np.where(valid, means, np.inf).min(axis=(1, 2, 3), initial=np.inf)
    high = np.where(valid, means, -np.inf).max(axis=(1, 2, 3), initial=-np.inf)
    # -0.0 becomes 0.0: which of the two a merge keeps would depend on the order
    return Extremes(tuple(float(v) + 0.0 for v in low), tuple(float(v) + 0.0 for v in high))
