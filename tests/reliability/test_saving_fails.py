"""Saves that fail or are killed: the old file is whole and nothing is left beside it."""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
IN_ITS_OWN_MOUNTS = ["unshare", "--mount", "--propagation", "private", "sh", "-ec"]
MOUNT = "mount -t tmpfs -o size=1m none {}"


@pytest.fixture
def folder():
    """Where any user may look; pytest's own folders are for their owner alone."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        folder = Path(name) / "models"
        folder.mkdir()
        yield folder
        folder.chmod(0o755)


def tried(*arguments, mount=""):
    """What a function of save_in_trouble.py returns, in a process of its own."""
    command = [sys.executable, "-m", "reliability.save_in_trouble", *map(str, arguments)]
    if mount:
        command = [*IN_ITS_OWN_MOUNTS, f"{mount}; exec {shlex.join(command)}"]
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    child = subprocess.run(
        command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=1800
    )
    assert child.returncode == 0, child.stderr
    return int(child.stdout)


def test_full_disk(folder, tally):
    """Where a save finds the disk full, at any place in the file, the old file is whole."""
    mount = MOUNT.format(shlex.quote(str(folder)))
    try:
        subprocess.run([*IN_ITS_OWN_MOUNTS, mount], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system cannot be mounted here: {error}")
    tally("saves", tried("full", folder, mount=mount))


def test_limit_of_file_size(folder, tally):
    """Where a save meets the limit of file size, at any place, the old file is whole."""
    tally("saves", tried("size_limit", folder))


def test_read_only_folder(folder, tally):
    """In a folder that may not be written to, a save is a PermissionError and changes nothing."""
    tally("saves", tried("read_only", folder))


@pytest.mark.parametrize("n", [30, pytest.param(1000, marks=pytest.mark.long)])
def test_killed_saves(folder, tally, n):
    """A save killed at any moment leaves the old file or the new one, and at most one beside it."""
    tally("kills", tried("killed", folder, n))
