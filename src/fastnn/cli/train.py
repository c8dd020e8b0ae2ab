"""`fastnn train`: a data set by name or from a file, a network for it, its training and test."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastnn

from .. import backends, datasets, tabular
from ..callbacks import Callback, History, Progress, Run
from ..callbacks.progress import duration
from ..mlp import MLP
from ..optimizers import OPTIMIZERS, SGD, Optimizer
from ..tabular import Scaling, Table

NAMED = ("mnist", "fashion-mnist", "digits")
DOWNLOADED = {
    "mnist": (datasets.load_mnist, "11 MB"),
    "fashion-mnist": (datasets.load_fashion_mnist, "31 MB"),
}
LEARNING_RATES = {
    "sgd": 0.1,
    "adagrad": 0.01,
    "rmsprop": 1e-3,
    "adam": 1e-3,
    "adamw": 1e-3,
    "lion": 1e-4,
}


class LowerAtTheEnd(Callback):
    """Small steps in the last third of the epochs, so that the last one is not a random jump."""

    def __init__(self, share: float) -> None:
        self.share = share

    def on_epoch_end(self, run: Run) -> None:
        if run.epoch == math.ceil(run.epochs * 2 / 3):
            run.learning_rate *= self.share


def run(args: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    optimizer = _optimizer(args)
    for path in (args.save, args.report):
        if path is not None and not path.absolute().parent.is_dir():
            raise ValueError(f"{path}: there is no folder {path.absolute().parent}")
    name, table = _table(args)
    scaling = Scaling.of(table)
    X, y = scaling.apply(table.X_train, table.y_train, args.dtype)
    net = _network(args, table)
    n_validation = min(round(args.validation * len(X)), len(X) - 1)  # as MLP.fit counts them
    plan = _plan(args, len(X) - n_validation)
    _announce(name, net, table, n_validation, plan)
    peaks = [_fma_peak(net)]  # before and after: other processes take their share of the cores
    start = time.perf_counter()
    try:
        history = net.fit(
            X,
            y,
            **plan,
            optimizer=optimizer,
            validation=args.validation if n_validation else None,
            callbacks=(Progress(), LowerAtTheEnd(args.lr_end)),
        )
    except KeyboardInterrupt:
        return _interrupted(net, scaling, args.save)
    seconds = time.perf_counter() - start
    scaling.fold_into(net)
    if args.save is not None:
        net.save(args.save)
    peaks.append(_fma_peak(net))
    results = _results(net, table, history, seconds, max(peaks))
    _print_results(results, args.save)
    if args.report is not None:
        settings = {"data": name, "n_validation": n_validation, "activation": args.activation}
        settings |= {"optimizer": args.optimizer, "lr_end": args.lr_end, "seed": args.seed}
        settings |= plan
        args.report.write_text(json.dumps(results | settings, indent=2) + "\n", encoding="utf-8")
    return 0


def _network(args: argparse.Namespace, table: Table) -> MLP:
    hidden, y = args.hidden, table.y_train
    if hidden is None:
        hidden = (512,) if table.X_train.dtype == np.uint8 else (64,)
    n_outputs = len(table.classes) if table.classes else 1 if y.ndim == 1 else y.shape[1]
    return MLP(
        (table.X_train.shape[1], *hidden, n_outputs),
        activation=args.activation,
        output="softmax" if table.classes else "identity",
        dtype=args.dtype,
        seed=args.seed,
        backend=args.backend,
        n_threads=args.threads,
    )


def _optimizer(args: argparse.Namespace) -> Optimizer:
    if args.momentum is None:
        return OPTIMIZERS[args.optimizer]()
    if args.optimizer != "sgd":
        raise ValueError(f"--momentum belongs to --optimizer sgd, not to {args.optimizer}")
    return SGD(momentum=args.momentum)


def _table(args: argparse.Namespace) -> tuple[str, Table]:
    """The name of what is trained on, and its samples."""
    if args.data in NAMED:
        name, arrays = _named(args.data)
        return name, Table(*arrays, classes=[str(label) for label in range(10)])
    path = Path(args.data)
    if path.suffix.lower() not in (".npz", ".csv"):
        raise ValueError(f"{args.data}: expected {', '.join(NAMED)}, FILE.npz or FILE.csv")
    if not args.test:
        raise ValueError("--test 0 leaves no row to test with")
    return path.name, tabular.read_table(path, args.task, args.test, args.seed)


def _named(name: str) -> tuple[str, datasets.Arrays]:
    if name == "digits":
        return name, datasets.load_digits_subset()
    load, size = DOWNLOADED[name]
    try:
        return name, load(download=False)
    except FileNotFoundError:
        print(f"{name} is not on this machine: downloading it ({size})", flush=True)
    try:
        return name, load()
    except FileNotFoundError:
        if name != "mnist":
            raise
    print("mnist cannot be downloaded: using the 6,000 of its images that come with fastnn")
    return "digits", datasets.load_digits_subset()


def _plan(args: argparse.Namespace, n: int) -> dict[str, Any]:
    """What to pass to fit for n training samples: about 2,000 steps at least."""
    batch_size = args.batch_size or (128 if n >= 20_000 else 32)
    steps_per_epoch = -(-n // batch_size)
    return {
        "epochs": args.epochs or min(max(15, -(-2000 // steps_per_epoch)), 200),
        "batch_size": batch_size,
        "learning_rate": LEARNING_RATES[args.optimizer] if args.lr is None else args.lr,
        "l2": args.l2,
    }


def _announce(name: str, net: MLP, table: Table, n_validation: int, plan: dict[str, Any]) -> None:
    engine = net._engine()
    threads = "1 thread" if engine.n_threads == 1 else f"{engine.n_threads} threads"
    print(
        f"{name}: {len(table.X_train) - n_validation:,} samples to train on, {n_validation:,} to "
        f"validate, {len(table.X_test):,} to test; "
        + ("regression" if table.classes is None else f"{len(table.classes)} classes")
    )
    print(
        f"{'-'.join(map(str, net.layer_sizes))}, {net.n_parameters:,} parameters, "
        f"{net.network.dtype.name}; {' '.join(filter(None, (net.backend, engine.isa)))}, "
        f"{threads}; batches of {plan['batch_size']}, learning rate {plan['learning_rate']:g}",
        flush=True,
    )


def _interrupted(net: MLP, scaling: Scaling, path: Path | None) -> int:
    message = "interrupted"
    if path is not None:
        scaling.fold_into(net)
        net.save(path)
        message += f"; the network as it was is in {path}"
    print(message, file=sys.stderr)
    return 130


def _fma_peak(net: MLP) -> float:
    """GFLOP/s that the engine's threads can reach, measured now; 0 for the reference backend."""
    if net.backend != "cython":
        return 0.0
    peak: Callable[[int, str], float] = backends.load("cython").fma_peak
    return peak(net._engine().n_threads, net.network.dtype.name)


def _results(
    net: MLP, table: Table, history: History, seconds: float, peak: float
) -> dict[str, Any]:
    """The report; rates are of the training alone, without validation."""
    engine = net._engine()
    trained = history["seconds"]
    samples = sum(a * b for a, b in zip(trained, history["samples_per_second"], strict=True))
    speed = samples / sum(trained)
    gflops = speed * net.network.flops_per_sample / 1e9
    scores = net.evaluate(table.X_test, table.y_test)
    return {
        **{f"test_{name}": value for name, value in scores.items()},
        "epochs": len(trained),
        "train_seconds": seconds,
        "samples_per_second": speed,
        "gflops": gflops,
        "fma_peak_gflops": peak or None,
        "fma_peak_share": gflops / peak if peak else None,
        "n_train": len(table.X_train),
        "n_test": len(table.X_test),
        "layer_sizes": list(net.layer_sizes),
        "dtype": net.network.dtype.name,
        "backend": net.backend,
        "isa": engine.isa,
        "n_threads": engine.n_threads,
        "classes": table.classes,
        "fastnn": fastnn.__version__,
    }


def _print_results(results: dict[str, Any], saved: Path | None) -> None:
    classes = results["classes"]
    if classes is None:
        print(f"test R2 {results['test_r2']:.4f}, mean loss {results['test_loss']:.6g}")
    else:
        print(f"test accuracy {100 * results['test_accuracy']:.2f} %")
    peak = results["fma_peak_share"]
    share = "" if peak is None else f", {100 * peak:.{0 if peak > 0.01 else 2}f} % of the FMA peak"
    print(
        f"{results['epochs']} epochs in {duration(results['train_seconds'])}: "
        f"{results['samples_per_second']:,.0f} samples/s, {results['gflops']:.3g} GFLOP/s{share}"
    )
    if saved is not None:
        print(f"saved to {saved}")
        if classes and classes != [str(k) for k in range(len(classes))]:
            print("its classes: " + ", ".join(f"{k} {label}" for k, label in enumerate(classes)))
