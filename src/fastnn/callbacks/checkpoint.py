"""Writing checkpoints while a training goes on."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

from .. import files
from ..checks import check_count
from .base import Callback, Run


class Checkpoint(Callback):
    """Write the run to `path` so that `fit(..., resume=path)` goes on to the same bits.

    path         the newest checkpoint. A folder for it must be there. At every moment there is a
                 whole file of this name, once there is one: a new one takes its place in one go.
    every        epochs from one checkpoint to the next, None: only as every_steps says
    every_steps  also after so many steps of the run, whatever the epoch; None: not
    keep         so many of the newest are kept, the others as path.1, path.2, ..., the higher the
                 number the older

    One more is written when the training ends, be it within an epoch (max_seconds), but not when an
    error or Ctrl-C ends it: then the last one is what is left. A checkpoint holds the weights in
    training, not what other callbacks make of them at the end, the optimizer's state, the history
    and the states of the other callbacks. `fastnn.load(path)` gives the model alone.

    Raises FileNotFoundError if there is no such folder, else OSError where writing fails.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: int | None = 1,
        *,
        every_steps: int | None = None,
        keep: int = 1,
    ) -> None:
        self.path = Path(os.path.realpath(path))
        self.every = every if every is None else check_count(every, "every")
        self.every_steps = (
            every_steps if every_steps is None else check_count(every_steps, "every_steps")
        )
        self.keep = check_count(keep, "keep")

    def on_train_begin(self, run: Run) -> None:
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"Checkpoint: there is no folder {self.path.parent}")
        files.remove_leftovers(self.path)
        self._saved = (run.step, run.finished_epochs)

    def on_steps(self, run: Run) -> None:
        self._save(run)

    def on_epoch_end(self, run: Run) -> None:
        if self.every is not None and run.epoch % self.every == 0:
            self._save(run)

    def on_train_end(self, run: Run) -> None:
        if run.error is None and self._saved != (run.step, run.finished_epochs):
            self._save(run)

    def _save(self, run: Run) -> None:
        names = [self.path.with_name(f"{self.path.name}.{k}") for k in range(1, self.keep)]
        if names and self.path.exists():
            make_room(self.path, names)
        run.save(self.path)
        self._saved = (run.step, run.finished_epochs)


def make_room(path: Path, names: list[Path]) -> None:
    """What `path` is gets the first of the names too, that one the second, the last is dropped.

    Unless it has it already, as a process that was killed at this place leaves it.
    """
    if names[0].exists() and names[0].samefile(path):
        return
    names[-1].unlink(missing_ok=True)
    for newer, older in reversed(list(pairwise(names))):
        if newer.exists():
            os.replace(newer, older)
    try:
        names[0].hardlink_to(path)
    except OSError:  # a file system that has no links
        files.write_atomically(names[0], [path.read_bytes()])
