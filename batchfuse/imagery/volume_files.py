"""Voxels of NIfTI files, window by window; compressed files are inflated once, into a file without a name."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import weakref
import zlib
from collections import OrderedDict
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from batchfuse.errors import ChangedError, SourceError, is_full
from batchfuse.geometry.window import Window
from batchfuse.imagery.files import changed_part, fault_of, told_if_away
from batchfuse.imagery.scene import SourceFile
from batchfuse.imagery.volume_header import VolumeHeader, header_of

__all__ = ["read_volume"]

KEPT = 16  # files a process keeps open, or inflated: each inflated one takes its size in the temporary folder
PIECE = 4 * 1024 * 1024  # bytes read or inflated at once


def read_volume(file: SourceFile, number: int, window: Window) -> NDArray[Any]:
    """File values (z, y, x) of a window of a volume, counted from 1, in the machine's byte order.

    Memory is that of the window and a few MiB more. The first call for a compressed file inflates it to its
    size into the temporary folder (TMPDIR), where there is room for it; other threads wait for that.

    Raises:
        SourceError: the file is cut off or damaged, or the temporary folder has not so much room.
        SourceAwayError: it can't be read now.
    """
    with told_if_away(file):
        return _read(file, number, window)


def _read(file: SourceFile, number: int, window: Window) -> NDArray[Any]:
    header = header_of(file)
    depth, height, width = header.grid.shape
    (z0, y0, x0), (z1, y1, x1) = window.start, window.stop
    within = 0 <= z0 <= z1 <= depth and 0 <= y0 <= y1 <= height and 0 <= x0 <= x1 <= width
    if not within or not 1 <= number <= header.volumes:
        raise ChangedError.of(file.path)
    out = np.empty(window.shape, header.dtype.newbyteorder("="))
    if not out.size:
        return out
    row = width * header.dtype.itemsize
    first = header.start + (number - 1) * depth * height * row
    # whole rows are read, and what is wanted of them is copied; whole slices follow upon each other
    runs = [(z * height + y0, y1 - y0) for z in range(z0, z1)]
    if (y0, y1) == (0, height):
        runs = [(z0 * height, (z1 - z0) * height)]
    most = max(1, PIECE // row)
    piece = np.empty(min(most, runs[0][1]) * row, np.uint8)
    lines, done = out.reshape(-1, x1 - x0), 0
    opened = _kept.get(header)
    for start, count in runs:
        for at in range(0, count, most):
            some = min(most, count - at)
            try:
                opened.read(piece[: some * row], first + (start + at) * row)
            except SourceError:
                _kept.drop(header)  # of a mount that went away: opened anew when it is tried again
                raise
            voxels = piece[: some * row].view(header.dtype).reshape(some, width)
            lines[done : done + some] = voxels[:, x0:x1]
            done += some
    return out


class _Opened:
    """One file of voxels, ready to be read from any thread; its handle is closed when nobody needs it."""

    def __init__(self, header: VolumeHeader) -> None:
        self.path = header.data
        try:
            if header.compressed:
                handle = _inflated(header)
            else:
                handle = os.open(header.data, os.O_RDONLY | os.O_CLOEXEC)
            part = changed_part(header.file)
        except OSError as error:
            raise _refused(header, error) from error
        self.handle = handle
        # evicted while another thread reads, it stays open until that one lets go of it
        weakref.finalize(self, os.close, handle)
        if part is not None:
            raise ChangedError.of(part)

    def read(self, into: NDArray[np.uint8], start: int) -> None:
        """Fill ``into`` with the bytes from ``start`` on."""
        left = into.data
        try:
            while left:
                count = os.preadv(self.handle, [left], start)
                if not count:
                    raise SourceError(f"{self.path} was cut off while it was read: copy or download it again")
                left, start = left[count:], start + count
        except OSError as error:
            raise SourceError(f"{self.path} can't be read: {error.strerror}") from error


class _Kept:
    """The files last used by this process: each is opened, or inflated, once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[SourceFile, _Entry] = OrderedDict()

    def get(self, header: VolumeHeader) -> _Opened:
        key = header.file
        with self._lock:
            entry = self._entries.pop(key, None) or _Entry()
            self._entries[key] = entry
            while len(self._entries) > KEPT:
                self._entries.popitem(last=False)
        return entry.opened(header)

    def drop(self, header: VolumeHeader) -> None:
        """Forgets a file."""
        with self._lock:
            self._entries.pop(header.file, None)

    def keep_only(self, header: VolumeHeader) -> None:
        """Forgets all other files: those that nobody reads any more give back their room."""
        with self._lock:
            for file in [file for file in self._entries if file != header.file]:
                del self._entries[file]


class _Entry:
    """A file that one thread opens while the others that want it wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: _Opened | None = None

    def opened(self, header: VolumeHeader) -> _Opened:
        with self._lock:
            if self._opened is None:
                self._opened = _Opened(header)
            return self._opened


_kept = _Kept()


def _inflated(header: VolumeHeader) -> int:
    """Handle of a file without a name, as the file is uncompressed; OSError where there is no room for it."""
    with tempfile.TemporaryFile() as plain:
        try:
            _claim(plain.fileno(), header.size)
        except OSError as error:
            if not is_full(error):
                raise
            _kept.keep_only(header)
            _claim(plain.fileno(), header.size)
        _inflate(header, plain)
        return os.dup(plain.fileno())


def _claim(handle: int, size: int) -> None:
    """Take room for a file before a byte of it is written, so that no other process counts on it, too."""
    disk = os.fstatvfs(handle)
    free = disk.f_bavail * disk.f_frsize
    if disk.f_blocks and free < size:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}, {free:,} bytes are free")
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        # a file system that can't promise room: it is seen when it is full
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def _inflate(header: VolumeHeader, plain: IO[bytes]) -> None:
    """Write the file as it is uncompressed, up to the last voxel: what follows is of no matter."""
    inflater = zlib.decompressobj(31)
    left, beyond, raw = header.size, PIECE, b""
    with header.data.open("rb") as stream:
        # past the last voxel it goes on a while, to have the checksum at the end of the data compared
        while left or (beyond > 0 and not inflater.eof):
            raw = raw or stream.read(PIECE // 4)
            if not raw:
                told = f"{left:,} bytes before its last voxel" if left else "after its last voxel"
                raise SourceError(f"{header.data} is cut off {told}: copy or download it again")
            if inflater.eof:  # gzip files may have several members
                inflater = zlib.decompressobj(31)
            try:
                piece = inflater.decompress(raw, PIECE)
            except zlib.error as error:
                raise SourceError(f"{header.data} is damaged ({error}): copy or download it again") from error
            raw = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            plain.write(piece[:left])
            beyond -= max(0, len(piece) - left)
            left -= min(left, len(piece))
    plain.flush()


def _refused(header: VolumeHeader, error: OSError) -> SourceError:
    if fault := fault_of(header.data, error):
        return SourceError(fault)
    if not header.compressed:
        return SourceError(f"{header.data} can't be read: {error.strerror}")
    folder = tempfile.tempdir or os.environ.get("TMPDIR", "/tmp")
    return SourceError(
        f"{header.data} takes {header.size:,} bytes inflated and can't be inflated into {folder} "
        f"({error.strerror}): free some space there, or name a larger folder with TMPDIR"
    )
