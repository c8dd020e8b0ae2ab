"""`fastnn predict`: a saved network applied to the rows of a file."""

from __future__ import annotations

import argparse
import sys
from typing import TextIO

import numpy as np

import fastnn

from .. import tabular
from ..tabular import Array


def run(args: argparse.Namespace) -> int:
    """The command; returns its exit code."""
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
