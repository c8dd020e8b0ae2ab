"""Model files and checkpoints that are damaged, or made to do damage."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data import make_model_files
from model_files import joined, signed, split

from fastnn import MLP

TESTS = Path(__file__).parents[1]
LIMIT = 2**30
FILES_A_PROCESS = 1000
OUTCOMES = {"refused", "loaded", "refused when resuming", "another run"}


@pytest.fixture
def wholes(tmp_path):
    """A folder with whole files: every one of tests/data/models, and three other networks."""
    for path in make_model_files.FOLDER.glob("*.fastnn"):
        (tmp_path / path.name).with_suffix(".whole").write_bytes(path.read_bytes())
    MLP((4, 3)).save(tmp_path / "one-layer.whole")
    MLP((2, 1, 1, 1, 1, 3), "gelu", "identity", "float64", seed=2**64 - 1).save(
        tmp_path / "float64.whole"
    )
    MLP((30, 40, 20), output="sigmoid").save(tmp_path / "larger.whole")
    return tmp_path


def loaded(folder, first, last):
    """What came of the files, in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "reliability.load_hostile"]
    child = subprocess.run(
        [*command, str(folder), str(first), str(last), str(LIMIT)],
        cwd=TESTS,
        env=environment | {"FASTNN_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    *numbers, last_line = child.stdout.splitlines() or [""]
    assert child.returncode == 0, f"file {last_line}: {child.returncode} {child.stderr[-3000:]}"
    outcomes = json.loads(last_line)
    assert outcomes.keys() <= OUTCOMES
    assert sum(outcomes.values()) == len(numbers)
    return outcomes


def try_all(wholes, tally, n):
    for first in range(0, n, FILES_A_PROCESS):
        outcomes = loaded(wholes, first, min(n, first + FILES_A_PROCESS))
        assert outcomes["refused"] > 0
        tally("files", sum(outcomes.values()))
        for what, count in outcomes.items():
            tally(what, count)


def test_mutated_files(wholes, tally):
    """A damaged or hostile file is refused with ModelFileError, or read bit for bit (a few)."""
    try_all(wholes, tally, 500)


@pytest.mark.long
def test_mutated_files_20_000(wholes, tally):
    """A damaged or hostile file is refused with ModelFileError, or read bit for bit."""
    try_all(wholes, tally, 20_000)


def test_files_made_to_take_memory(wholes, tally):
    """A header of 8 MiB that is all small things is refused with less than 1 GB of memory."""
    outcomes = loaded(wholes, -1, -1)
    assert outcomes.keys() == {"refused"}
    tally("files", outcomes["refused"])


# Loads every file with an audit hook, then writes which events were more than reading.
WATCHED = """
import json, sys
import fastnn
from fastnn import files
events, paths = [], sys.argv[1:]
def load_all():
    for path in paths:
        for load in (fastnn.load, files.read):
            try:
                load(path)
            except fastnn.ModelFileError:
                pass
load_all()  # imports what it needs
sys.addaudithook(lambda event, _: events.append(event))
load_all()
print(json.dumps([len(paths), sorted(set(events))]))
"""


class Pickled:
    """To unpickle it is to run a command."""

    def __reduce__(self):
        return os.system, ("exit 1",)


def test_nothing_in_a_file_is_executed(wholes, tally):
    """Loading a file opens it and reads: nothing is unpickled, imported, compiled or run."""
    whole = (wholes / "larger.whole").read_bytes()
    pickled = pickle.dumps(Pickled())
    (wholes / "pickle.whole").write_bytes(pickled)
    (wholes / "pickle-behind.whole").write_bytes(whole + pickled)
    header, data = split(whole)
    (wholes / "pickle-within.whole").write_bytes(signed(joined(header, pickled + data)))
    np.savez(wholes / "objects.npz", np.array([Pickled()], object))
    (wholes / "objects.npz").rename(wholes / "objects.whole")
    paths = sorted(wholes.glob("*.whole"))
    command = [sys.executable, "-c", WATCHED, *map(str, paths)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    n, events = json.loads(text)
    assert n == len(paths)
    assert "open" in events
    assert set(events) <= {"open"}
    tally("files", n)
