"""The C library's allocator, told to keep what it is given back."""

from __future__ import annotations

import ctypes
import functools
import os
import platform

__all__ = ["give_memory_back", "keep_memory"]

# the numbers of glibc's malloc.h, and bytes
_MMAP_THRESHOLD = (-3, 32 << 20)  # the most every glibc accepts, and more than a layer of an inner window
_TRIM_THRESHOLD = (-1, 512 << 20)
_TOP_PAD = (-2, 64 << 20)  # the size of a thread's heap: those are kept too
_DASKS_OWN = ("MALLOC_TRIM_THRESHOLD_", "65536")  # set for every worker, and no wish of the user's
_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


@functools.cache
def keep_memory() -> bool:
    """Keeps freed memory in the process, for the next layer to use; whether that was done.

    By default glibc gives large tensors back to the kernel as soon as they are freed, and the next
    ones are faulted in again page by page. What the user has set by environment variables stays; what
    Dask sets for its workers, which is worse than the default, does not. Elsewhere than on glibc nothing
    is done.
    """
    wishes = [name for name in _VARIABLES if name in os.environ and (name, os.environ[name]) != _DASKS_OWN]
    if platform.libc_ver()[0] != "glibc" or wishes:
        return False
    mallopt = ctypes.CDLL(None).mallopt
    done = [bool(mallopt(*option)) for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD)]
    return all(done)


def give_memory_back() -> None:
    """Gives the kernel what the process has freed: after work in a thread of its own that is soon done.

    Each thread keeps a heap, so that what one has freed is of no use to the others. Elsewhere than on glibc
    nothing is done.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
