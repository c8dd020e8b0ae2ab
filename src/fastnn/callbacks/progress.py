"""What a training run shows while it goes on: a live line on a terminal, else a line per epoch."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from .base import Callback, History, Run

if TYPE_CHECKING:
    from rich.progress import TaskID

# The display is drawn ten times a second; telling it more often costs time and shows nothing.
SECONDS_BETWEEN_UPDATES = 0.05
NOT_SHOWN = ("learning_rate", "seconds", "samples_per_second")


class Progress(Callback):
    """Show how far the training is.

    live  True: one line that changes as the training goes on, with a bar; needs rich. False: a
          plain line for every epoch, with its entries of the history, the speed and the time left.
          None: live where stdout is a terminal and rich is installed, else plain. A notebook, a
          pipe and a log file are no terminals.

    Raises ImportError, with the pip command, for live=True without rich.
    """

    def __init__(self, live: bool | None = None) -> None:
        self.live = live
        self._display = Callback()

    def on_train_begin(self, run: Run) -> None:
        self._display = self._choose()
        self._display.on_train_begin(run)

    def on_progress(self, run: Run) -> None:
        self._display.on_progress(run)

    def on_epoch_end(self, run: Run) -> None:
        self._display.on_epoch_end(run)

    def on_train_end(self, run: Run) -> None:
        self._display.on_train_end(run)

    def _choose(self) -> Callback:
        if self.live is False or (self.live is None and not sys.stdout.isatty()):
            return PlainLines()
        try:
            return LiveLine()
        except ImportError:
            how = "for a live display: pip install 'fastnn-cpu[cli]'"
            if self.live:
                raise ImportError(f"rich is not installed; {how}") from None
            print(how)
            return PlainLines()


class PlainLines(Callback):
    """One line per finished epoch."""

    def on_train_begin(self, run: Run) -> None:
        self._clock = Clock(run)

    def on_epoch_end(self, run: Run) -> None:
        width = len(str(run.epochs))
        parts = [
            f"epoch {run.epoch:{width}}/{run.epochs}",
            *(f"{k} {values[-1]:#.4g}" for k, values in run.history.items() if k not in NOT_SHOWN),
            f"{run.history['samples_per_second'][-1]:,.0f} samples/s",
            self._clock.left(run, run.epoch * run.n_samples),
        ]
        print("  ".join(parts), flush=True)


class LiveLine(Callback):
    """A bar with loss, validation metric, samples per second and time left; needs rich."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=10),  # with the rest it fits 80 columns
            TextColumn("{task.fields[numbers]}"),
        )
        self._task: TaskID | None = None

    def on_train_begin(self, run: Run) -> None:
        self._task = self._progress.add_task("", total=None, numbers="")
        self._progress.start()
        self._clock = self._of_epoch = Clock(run)
        self._updated = 0.0

    def on_progress(self, run: Run) -> None:
        now = time.perf_counter()
        if now - self._updated >= SECONDS_BETWEEN_UPDATES:
            self._updated = now
            done = (run.epoch - 1) * run.n_samples + run.position
            self._show(run, done, run.loss, self._of_epoch.speed(done))

    def on_epoch_end(self, run: Run) -> None:
        done = run.epoch * run.n_samples
        self._show(run, done, run.history["loss"][-1], run.history["samples_per_second"][-1])
        self._of_epoch = Clock(run, done)

    def on_train_end(self, run: Run) -> None:
        self._progress.stop()

    def _show(self, run: Run, done: int, loss: float, speed: float) -> None:
        assert self._task is not None
        numbers = [
            f"loss {loss:.4f}",
            *metric(run.history),
            f"{speed:,.0f} samples/s",
            self._clock.left(run, done),
        ]
        self._progress.update(
            self._task,
            description=f"epoch {run.epoch}/{run.epochs}",
            completed=done,
            total=run.epochs * run.n_samples or None,
            numbers="  ".join(numbers),
        )


class Clock:
    """Time and samples since it was made, `done` counting the samples of the whole run."""

    def __init__(self, run: Run, done: int | None = None) -> None:
        self._began = time.perf_counter()
        self._before = run.epoch * run.n_samples + run.position if done is None else done

    def speed(self, done: int) -> float:
        """Samples per second."""
        return (done - self._before) / (time.perf_counter() - self._began)

    def left(self, run: Run, done: int) -> str:
        if done == self._before or run.n_samples == 0:
            return "? left"
        return f"{duration((run.epochs * run.n_samples - done) / self.speed(done))} left"


def metric(history: History) -> list[str]:
    """The newest validation metric in few words, [] if there is none."""
    if history.get("val_accuracy"):
        return [f"validation {100 * history['val_accuracy'][-1]:.2f} %"]
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
