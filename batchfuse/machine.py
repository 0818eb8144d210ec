"""What this machine offers."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cores", "cores_each"]

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


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
