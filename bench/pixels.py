"""What zeros in real pixels are worth: python -m bench.pixels

784-128-10, batches of 128, trains from uint8 images of MNIST and of Fashion-MNIST and, taking
turns with these, from as many images of dense random pixels (1 ... 255). Each of them also with
FASTNN_SKIP_ZEROS=0: then no product leaves a zero out, be it of a pixel or behind the relu.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench import machine
from bench.networks import Case
from bench.tables import count, markdown, percent
from bench.turns import alternate, fit_player
from fastnn import datasets

LAYER_SIZES = (784, 128, 10)
BATCH_SIZE = 128
BARS = {"MNIST": 1.4, "Fashion-MNIST": 0.97}


def images() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """X uint8 (60000, 784) and y (60000,) of each kind; the dense ones keep MNIST's labels."""
    X, y = datasets.load_mnist(download=False)[:2]
    dense = np.random.default_rng(0).integers(1, 256, X.shape, dtype=np.uint8)
    fashion = datasets.load_fashion_mnist(download=False)[:2]
    return {"dense": (dense, y), "MNIST": (X, y), "Fashion-MNIST": fashion}


def measured(optimizer: str, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """The figures of every kind of images."""
    case = Case(LAYER_SIZES, BATCH_SIZE, optimizer, 60_000)
    kinds = images()

    before = machine.fma_peak(machine.n_cores())
    players = {
        (name, skip): fit_player(case, *data, seconds, skip)
        for name, data in kinds.items()
        for skip in (True, False)
    }
    results = alternate(players, rounds)
    after = machine.fma_peak(machine.n_cores())

    def ratio(a: tuple[str, bool], b: tuple[str, bool]) -> float:
        return statistics.median(x / y for x, y in zip(results[a], results[b], strict=True))

    rows = []
    for name, (X, _) in kinds.items():
        rates = results[name, True]
        rate = statistics.median(rates)
        rows.append(
            {
                "row": case.name,
                "images": name,
                "nonzero": float(np.count_nonzero(X) / X.size),
                "rates": rates,
                "rates_zeros_kept": results[name, False],
                "samples_per_second": rate,
                "ratio": ratio((name, True), ("dense", True)),
                "ratio_to_zeros_kept": ratio((name, True), (name, False)),
                "gflops": rate * case.flops_per_sample / 1e9,
                "fma_peak_gflops": max(before, after) if before and after else None,
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """One line per kind of images and optimizer; GFLOP/s as if no zero were skipped."""
    lines = []
    for row in rows:
        peak, bar = row["fma_peak_gflops"], BARS.get(row["images"])
        lines.append(
            [
                f"{row['row']}, {row['images']}",
                percent(row["nonzero"]),
                count(row["samples_per_second"]),
                f"{count(min(row['rates']))} to {count(max(row['rates']))}",
                f"{row['ratio']:.3f}x",
                f"{bar}x" if bar else "-",
                f"{row['ratio_to_zeros_kept']:.3f}x",
                f"{row['gflops']:.3g}",
                percent(row["gflops"] / peak if peak else None),
            ]
        )
    header = ["uint8 pixels", "non-zero", "samples/s", "spread", "of dense", "bar", "of zeros kept"]
    return markdown([*header, "GFLOP/s", "of FMA peak"], lines)


def main() -> None:
    """Measures, and prints a Markdown table; status 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--optimizers", nargs="+", default=["sgd", "adam"])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=0.5, help="a turn")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args()
    rows = [
        row
        for optimizer in args.optimizers
        for row in measured(optimizer, args.rounds, args.seconds)
    ]
    print(f"{machine.describe()}\n\n{table(rows)}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(any(row["ratio"] < BARS.get(row["images"], 0) for row in rows))


if __name__ == "__main__":
    main()
