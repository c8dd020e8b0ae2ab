"""How many cores this process may use."""

from __future__ import annotations

import functools
import itertools
import os

# What holds the limit, and its length of time, by version of control groups.
QUOTA_FILES = ("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")


def cpu_count(root: str = "/") -> int:
    """The cores in this thread's affinity, but no more than the container's quota, and at least 1.

    The quota is the least of this process's control group and of all above it, in whole cores,
    rounded down; both versions of control groups are looked at. Which group that is, is found out
    once, its quota at every call.

    root  the folder of proc and sys
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    for paths in _quota_files(root):
        try:
            text = [_read(path) for path in paths]
            quota, period = map(int, " ".join(text).split())
        except (OSError, ValueError):  # gone, or "max"
            continue
        if quota > 0:
            cores = min(cores, max(1, quota // period))
    return cores


def _read(path: str) -> str:
    """A quota; a file object would take three times as long, at every fit."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 100).decode()
    finally:
        os.close(file)


@functools.cache
def _quota_files(root: str) -> list[list[str]]:
    """Those of the control groups that may limit this process: its own and all above it.

    A container often sees its own group at the top, but by the path that it has on the host: what
    is not there is left out.
    """
    try:
        with open(os.path.join(root, "proc/self/cgroup")) as file:
            lines = file.read().splitlines()
    except OSError:
        lines = []
    folders: dict[str, None] = {}  # an ordered set
    for line in ["0::/", "0:cpu:/", *lines]:
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):
            folder = os.path.join(root, "sys/fs/cgroup", controllers)
            for part in ["", *path.split("/")]:
                folder = os.path.normpath(os.path.join(folder, part))
                folders[folder] = None
    groups = itertools.product(folders, QUOTA_FILES)
    found = [[os.path.join(folder, name) for name in names] for folder, names in groups]
    return [paths for paths in found if all(map(os.path.exists, paths))]
