"""The command line: `fastnn train`, `fastnn predict`, `fastnn info`.

Exit codes: 0, 1 for a training that diverged, 2 for wrong arguments or files, 130 for Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np

import fastnn

from . import backends, datasets, tabular
from .callbacks import Callback, History, Progress, Run
from .callbacks.progress import duration
from .mlp import MLP
from .network import ACTIVATIONS, DTYPES
from .optimizers import OPTIMIZERS, SGD, Optimizer
from .tabular import TASKS, Array, Scaling, Table
from .training import DivergenceError

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


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `argv` None means the process's arguments. Returns the exit code."""
    try:
        args = _parser().parse_args(argv)
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse: --help, or a wrong argument
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone; nothing more can be said to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except DivergenceError as error:
        return _fail(error, 1)
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        return _fail(error, 2)


def _fail(error: Exception, code: int) -> int:
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}"
    message = " ".join(text.split()) or type(error).__name__
    print(f"fastnn: error: {message}", file=sys.stderr)
    return code


# ---- arguments ----


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (--help shows the arguments)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastnn", description="Neural networks (MLPs), fast, on CPUs.")
    parser.add_argument("--version", action="version", version=f"fastnn {fastnn.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_predict(commands)
    info = commands.add_parser("info", help="version, backends, instruction sets, threads, caches")
    info.set_defaults(run=_info)
    return parser


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
    train.set_defaults(run=_train)
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
    predict.set_defaults(run=_predict)
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


# ---- train ----


class LowerAtTheEnd(Callback):
    """Small steps in the last third of the epochs, so that the last one is not a random jump."""

    def __init__(self, share: float) -> None:
        self.share = share

    def on_epoch_end(self, run: Run) -> None:
        if run.epoch == math.ceil(run.epochs * 2 / 3):
            run.learning_rate *= self.share


def _train(args: argparse.Namespace) -> int:
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


# ---- predict, info ----


def _predict(args: argparse.Namespace) -> int:
    if args.output is not None and args.output.suffix.lower() not in (".csv", ".npy"):
        raise ValueError(f"--output {args.output}: expected a name in .csv or .npy")
    net = fastnn.load(args.model, n_threads=args.threads)
    X = tabular.read_features(args.file, net.network.n_in)
    values = net.predict_proba(X) if args.proba else net.predict(X)
    if args.output is None:
        _write_csv(sys.stdout, values)
    elif args.output.suffix.lower() == ".npy":
        np.save(args.output, values)
    else:
        with open(args.output, "w", encoding="utf-8") as file:
            _write_csv(file, values)
    return 0


def _write_csv(file: TextIO, values: Array) -> None:
    rows = values.reshape(len(values), -1).tolist()
    digits = 9 if values.dtype == np.float32 else 17  # enough to read the same value back
    for row in rows:
        file.write(",".join(f"{value:.{digits}g}" for value in row) + "\n")


def _info(args: argparse.Namespace) -> int:
    fastnn.show_config()
    return 0
