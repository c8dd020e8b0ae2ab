"""What the commands take."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

import fastnn

from .. import backends
from ..network import ACTIVATIONS, DTYPES
from ..optimizers import OPTIMIZERS
from ..tabular import TASKS
from .train import LEARNING_RATES


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (--help shows the arguments)\n")


def parser() -> argparse.ArgumentParser:
    """Of `fastnn ...`: what it returns has `command`, and the arguments of that one."""
    whole = _Parser(prog="fastnn", description="Neural networks (MLPs), fast, on CPUs.")
    whole.add_argument("--version", action="version", version=f"fastnn {fastnn.__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_predict(commands)
    commands.add_parser("info", help="version, backends, instruction sets, threads, caches")
    return whole


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a network on a data set",
        description="Train a network and test it on samples that it has not seen.",
        epilog="FILE.npz holds X_train, y_train, X_test, y_test, or X, y. FILE.csv holds the "
        "features and, in its last column, the target; a first line without a number above the "
        "features is a header. A target of integers or text is a class label, one with decimal "
        "numbers (1.5, 3.0) is a value for regression. Features other than uint8, and regression "
        "targets, are standardized for the training; the saved model takes them as they are.",
    )
    train.add_argument("data", help="mnist, fashion-mnist, digits, FILE.npz or FILE.csv")
    add = train.add_argument
    add("--hidden", type=_sizes, metavar="N,N,...",
        help="neurons of the hidden layers, or 'none' (512 for images, else 64)")  # fmt: skip
    add("--activation", choices=ACTIVATIONS, default="relu", metavar="NAME",
        help=f"of the hidden layers: {', '.join(ACTIVATIONS)} (relu)")  # fmt: skip
    add("--epochs", type=_count, metavar="N",
        help="passes over the data (15, more for small data, at most 200)")  # fmt: skip
    add("--batch-size", type=_count, metavar="N",
        help="samples per step (128; below 20,000 samples 32)")  # fmt: skip
    add("--optimizer", choices=list(OPTIMIZERS), default="adam", help="(adam)")
    rates = ", ".join(f"{name} {rate:g}" for name, rate in LEARNING_RATES.items())
    add("--lr", type=_rate, metavar="RATE", help=f"learning rate ({rates})")
    add("--lr-end", type=_rate, default=0.1, metavar="SHARE",
        help="share of the learning rate for the last third of the epochs (0.1)")  # fmt: skip
    add("--momentum", type=float, metavar="M", help="of sgd, at least 0 and below 1 (0)")
    add("--l2", type=float, default=0.0, metavar="L2", help="penalty L2/2 ||W||^2 (0)")
    add("--seed", type=int, default=0, metavar="N", help="of every random choice (0)")
    add("--threads", type=_count, metavar="N", help="threads (FASTNN_NUM_THREADS, or all cores)")
    add("--backend", choices=("auto", *backends.BACKENDS), default="auto", help="(auto)")
    add("--dtype", choices=DTYPES, default="float32", help="(float32)")
    add("--task", choices=TASKS, default="auto", help="what the target of a file is (auto)")
    add("--validation", type=_share, default=0.1, metavar="SHARE",
        help="share of the training set that is kept out to measure each epoch (0.1)")  # fmt: skip
    add("--test", type=_share, default=0.2, metavar="SHARE",
        help="share of FILE's rows kept for the test, unless it has X_test (0.2)")  # fmt: skip
    add("--save", type=Path, metavar="MODEL", help="write the network to this file")
    add("--report", type=Path, metavar="FILE",
        help="write the results as JSON to this file; its n_train counts the training set, "
        "n_validation the part of it that measured")  # fmt: skip


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser(
        "predict",
        help="apply a saved network",
        description="Print one line per row of FILE: its class, or its values.",
        epilog="FILE is .csv (a last column beyond the features, the target, is left out), .npy, "
        ".npz with X or X_test, or an IDX file of images such as t10k-images-idx3-ubyte.gz.",
    )
    predict.add_argument("model", type=Path, help="file written by fastnn train --save")
    predict.add_argument("file", type=Path, help="rows of features")
    predict.add_argument("--proba", action="store_true", help="probabilities instead of classes")
    predict.add_argument("--output", type=Path, metavar="FILE", help="write .csv or .npy")
    predict.add_argument("--threads", type=_count, metavar="N")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return rate


def _sizes(text: str) -> tuple[int, ...]:
    return () if text == "none" else tuple(_count(part.strip()) for part in text.split(","))


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share, at least 0 and below 1")
    return share
