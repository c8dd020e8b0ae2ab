"""What a training run shows while it goes on: a live line on a terminal, else a line per epoch."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from .callbacks import Callback, History, Run

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# The display is drawn ten times a second; telling it more often costs time and shows nothing.
_SECONDS_BETWEEN_UPDATES = 0.05


def progress() -> Callback:
    """The display that fits stdout; a terminal without rich gets the log and a hint."""
    if sys.stdout.isatty():
        try:
            return LiveDisplay()
        except ImportError:
            print("for a live display: pip install 'fastnn-cpu[cli]'")
    return EpochLog()


class EpochLog(Callback):
    """One line per finished epoch."""

    def on_train_begin(self, run: Run) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, run: Run) -> None:
        width = len(str(run.epochs))
        per_epoch = (time.perf_counter() - self._began) / run.epoch
        parts = [
            f"epoch {run.epoch:{width}}/{run.epochs}",
            f"loss {run.history['loss'][-1]:.4f}",
            *metric(run.history),
            f"{run.history['samples_per_second'][-1]:,.0f} samples/s",
            f"{duration(per_epoch * (run.epochs - run.epoch))} left",
        ]
        print("  ".join(parts), flush=True)


class LiveDisplay(Callback):
    """A bar with loss, validation metric, samples per second and time left; needs rich."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._progress: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=10),  # with the rest it fits 80 columns
            TextColumn("{task.fields[numbers]}"),
        )
        self._task: TaskID | None = None

    def on_train_begin(self, run: Run) -> None:
        self._task = self._progress.add_task("", total=run.epochs * run.n_samples, numbers="")
        self._progress.start()
        self._began = self._epoch_began = time.perf_counter()
        self._updated = 0.0

    def on_progress(self, run: Run) -> None:
        now = time.perf_counter()
        if now - self._updated >= _SECONDS_BETWEEN_UPDATES:
            self._updated = now
            self._show(run, run.loss, run.position / (now - self._epoch_began))

    def on_epoch_end(self, run: Run) -> None:
        self._show(run, run.history["loss"][-1], run.history["samples_per_second"][-1])
        self._epoch_began = time.perf_counter()

    def on_train_end(self, run: Run) -> None:
        self._progress.stop()

    def _show(self, run: Run, loss: float, speed: float) -> None:
        assert self._task is not None
        done = (run.epoch - 1) * run.n_samples + run.position
        seconds_left = (time.perf_counter() - self._began) * (run.epochs * run.n_samples / done - 1)
        numbers = [
            f"loss {loss:.4f}",
            *(text.replace("accuracy ", "") for text in metric(run.history)),
            f"{speed:,.0f} samples/s",
            f"{duration(seconds_left)} left",
        ]
        self._progress.update(
            self._task,
            description=f"epoch {run.epoch}/{run.epochs}",
            completed=done,
            numbers="  ".join(numbers),
        )


def metric(history: History) -> list[str]:
    """The newest validation metric in words, [] if there is none."""
    if history.get("val_accuracy"):
        return [f"validation accuracy {100 * history['val_accuracy'][-1]:.2f} %"]
    if history.get("val_r2"):
        return [f"validation R2 {history['val_r2'][-1]:.4f}"]
    return []


def duration(seconds: float) -> str:
    """`seconds` for people: 3.2 s, 4:05, 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
