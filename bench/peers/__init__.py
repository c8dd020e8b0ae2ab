"""What is compared: one module per peer, each of which runs as a process of its own.

    python -m bench.peers.pytorch --threads 2

reads lines on its standard input and answers each with one line of JSON:

    row NAME      makes the network and the data of that row of the table, and the first step:
                  {"title", "version", "n_threads", "import_seconds", "first_step_seconds"},
                  or {"missing": why} if the library is not installed, or fails
    go SECONDS    trains, or predicts, for about that long: {"seconds", "samples", "value"}

So a driver can keep several peers alive and let them take turns. It drops the first turns of
a row as warm-up. The process ends when its input ends.

To add a peer, add a module that defines PEER and calls serve(PEER); nothing lists the peers.
Such a module imports its library inside its functions only, since the driver imports the module
to learn about the peer, and since the number of threads is set by then.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, NoReturn

from bench.networks import IMAGES, ROWS, Case, check_prediction, make_data, other_case

if TYPE_CHECKING:
    import numpy as np

    Forward = Callable[[np.ndarray], np.ndarray]

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Calls between two looks at the clock last at least this long.
BLOCK_SECONDS = 1e-3


@dataclass(frozen=True)
class Peer:
    """A library, and how it trains and predicts; None for what it does not do.

    `train(case, n_threads, turns)` trains for ever and calls `turns.tick` after every step (or
    every few). `predict(case, n_threads, turns)` returns a function from inputs (batch_size, D_0)
    to the outputs of the network of `make_parameters`, both NumPy arrays. A peer that
    `chooses_threads` is given None instead of every possible number; one of `slow_start` takes
    seconds to compile a network. `version_of` is the distribution whose version is reported.
    """

    title: str
    version_of: str
    train: Callable[[Case, int | None, Turns], NoReturn] | None = None
    predict: Callable[[Case, int | None, Turns], Forward] | None = None
    chooses_threads: bool = False
    slow_start: bool = False
    supports: Callable[[Case], bool] = lambda case: True

    def does(self, kind: str) -> bool:
        """Whether the library trains, or predicts, at all."""
        return {"train": self.train, "predict": self.predict}[kind] is not None

    def run(self, case: Case, n_threads: int | None, turns: Turns) -> NoReturn:
        """Trains or predicts for ever."""
        if case.kind == "train":
            self.train(case, n_threads, turns)
        forward = self.predict(case, n_threads, turns)
        predict_in_blocks(forward, case, turns)


class NextRow(BaseException):
    """Leaves a training loop, through whatever library code it is in, for another row."""


class Turns:
    """Stops a training loop between turns.

    The peer calls `imported` when its library is loaded, `begin` when it has its data, then
    `tick` while it trains: the first tick tells the driver that the first step is done, later
    ones answer when the time of the turn is over, and then block until the next turn.
    """

    def __init__(self, about: dict[str, Any]) -> None:
        self._about = about
        self._out = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
        sys.stdout = sys.stderr  # what libraries print must not mix with the answers
        self._begin = self._deadline = time.perf_counter()
        self._samples = 0
        self._first = True
        self.row = ""

    def imported(self) -> None:
        """Ends the time that counts as import; it counts once, with the first row."""
        self._about.setdefault("import_seconds", time.perf_counter() - self._begin)

    def begin(self) -> None:
        """Starts the clock of the first step; making the data does not count."""
        self._begin = time.perf_counter()

    def tick(self, samples: int, value: Any) -> None:
        """Counts `samples` more; `value`, the loss or a prediction, is read once a turn by float().

        Raises NextRow for another row, and SystemExit when there are no more turns.
        """
        self._samples += samples
        now = time.perf_counter()
        if now < self._deadline:
            return
        if self._first:
            self._first = False
            self.tell(self._about | {"first_step_seconds": now - self._begin})
        else:
            answer = {"seconds": now - self._begin, "samples": self._samples}
            self.tell(answer | {"value": float(value)})
        self.wait()

    def tell(self, answer: dict[str, Any]) -> None:
        """Sends one line to the driver."""
        print(json.dumps(answer), file=self._out)

    def wait(self) -> None:
        """Blocks until the driver asks for a turn (then returns), another row, or the end."""
        command, _, argument = sys.stdin.readline().strip().partition(" ")
        if not command:
            sys.exit(0)
        self._samples = 0
        self._begin = self._deadline = time.perf_counter()
        if command == "row":
            self.row, self._first = argument, True
            raise NextRow
        self._deadline += float(argument)


def predict_in_blocks(forward: Forward, case: Case, turns: Turns) -> NoReturn:
    """Predicts for ever, another batch in every call, after the first results are found right."""
    X, _ = make_data(case)
    n = case.batch_size
    # copies, since an array of a user's own begins where the allocator has put it
    batches = [X[first : first + n].copy() for first in range(0, len(X), n)]
    f = forward(batches[0])
    turns.tick(n, f[0, 0])
    check_prediction(case, batches[0], f)
    inputs, calls = cycle(batches), 1
    while True:
        begin = time.perf_counter()
        for batch in islice(inputs, calls):
            f = forward(batch)
        seconds = time.perf_counter() - begin
        turns.tick(calls * n, f[0, 0])
        if seconds < BLOCK_SECONDS:
            calls *= 2


def serve(peer: Peer) -> NoReturn:
    """The main program of a peer's module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, help="default: the library's own choice")
    n_threads = parser.parse_args().threads
    if n_threads is not None:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(n_threads)))
    about = {"title": peer.title, "n_threads": n_threads}
    try:
        about["version"] = version(peer.version_of)
    except PackageNotFoundError:
        about["version"] = "of the source tree"
    turns = Turns(about)
    cases = {case.name: case for case in ROWS + IMAGES}
    while True:
        try:
            if turns.row:
                case = cases.get(turns.row) or other_case(turns.row, ROWS)
                peer.run(case, n_threads, turns)
            turns.wait()
        except NextRow:
            continue
        except Exception as error:
            turns.tell({"missing": f"{type(error).__name__}: {error}".partition("\n")[0]})
            raise
