"""The history of a run as a CSV file."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from .base import Callback, Run


class CSVLogger(Callback):
    """Write a line for every epoch: its number, then its entries of the history.

    path  the file; a new run replaces it. The first line has the names: epoch, loss, ... Numbers
          are written so that they can be read back exactly.

    The file is up to date after every epoch. In a run that is resumed it has the epochs before the
    checkpoint as well, and no epoch twice. Raises OSError.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def on_train_begin(self, run: Run) -> None:
        self.path.write_text("", encoding="utf-8")
        if run.history:
            self._write(run, 0)

    def on_epoch_end(self, run: Run) -> None:
        self._write(run, run.finished_epochs - 1)

    def _write(self, run: Run, first: int) -> None:
        """Append the epochs from index `first` on, below the names if it is 0."""
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if first == 0:
                writer.writerow(["epoch", *run.history])
            columns = (values[first:] for values in run.history.values())
            for epoch, entries in enumerate(zip(*columns, strict=True), first + 1):
                writer.writerow([epoch, *entries])
