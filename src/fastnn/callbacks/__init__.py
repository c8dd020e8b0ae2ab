"""Callbacks: code that follows a training run.

`MLP.fit(callbacks=...)` takes objects of `Callback` and plain functions `f(run)`, which are called
at the end of every epoch. All of them run in the thread that called fit, between native calls, in
the order given, those that write checkpoints after all others. What a callback raises ends the
training; the model keeps the weights of the last step.

    Progress        a live line on a terminal, else a line per epoch
    EarlyStopping   ends the training when a value of the history stops improving
    Checkpoint      writes the run to a file from which fit(resume=...) goes on
    CSVLogger       the history as a CSV file
    EMA, SWA        averages of the weights
"""

from .averaging import EMA, SWA, WeightAverage
from .base import AtEpochEnd, Callback, History, Run
from .checkpoint import Checkpoint
from .csv_logger import CSVLogger
from .early_stopping import EarlyStopping
from .progress import Progress

__all__ = [
    "EMA",
    "SWA",
    "AtEpochEnd",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "Progress",
    "Run",
    "WeightAverage",
]
