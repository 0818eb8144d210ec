"""What this machine offers."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

__all__ = ["cores", "cores_each", "memory"]

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
MEMORY_MAX = Path("/sys/fs/cgroup/memory.max")


def cores() -> int:
    """Cores this process may use: a container's quota counts as well as the process's affinity."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:
        allowed = os.cpu_count() or 1
    try:
        quota, period = CPU_MAX.read_text().split()
        return max(1, min(allowed, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup, or "max": no quota
        return allowed


def cores_each(slots: int, tasks: int) -> int:
    """Cores for each of the tasks that run at a time, in so many slots at most."""
    return max(1, cores() // min(slots, max(1, tasks)))


def memory() -> int:
    """Bytes of memory that this machine has, or the container that this process is in."""
    there = int(psutil.virtual_memory().total)
    try:
        return min(there, int(MEMORY_MAX.read_text()))
    except (OSError, ValueError):  # no cgroup, or "max": no limit
        return there
