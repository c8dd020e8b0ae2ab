"""fastnn.sklearn and scikit-learn on small data sets: python -m bench.estimators

Both at their default settings, one after the other on each of ten splits (a quarter of the rows for
testing) with the same random_state: seconds of fit, and the score on the rows for testing. Inputs
are standardized, the images divided by 255; the regressor's targets are standardized, too. A third
player is fastnn with dtype="float32". Status 1 if accuracy differs beyond noise.

"at peak" is how many times as fast as scikit-learn a fit would be that did nothing but the
multiply-adds of its matrix products, zeros included, at the FMA peak of all cores. --quick: three
seeds, and no MNIST subset.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import sklearn.neural_network
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

import fastnn.sklearn
from bench import machine
from bench.tables import markdown
from bench.turns import alternate
from fastnn import datasets

# How many times as fast as scikit-learn fit is to be: above LARGE rows of the data set, and below.
BARS, LARGE = (10, 5), 1000
# A mean difference within so many of its standard errors counts as noise: Student's t for nine
# degrees of freedom and a chance of one in a hundred.
NOISE = 3.25
DTYPES = ("float64", "float32")
SLOWEST = "MNIST subset"
SPIN_SECONDS = 0.1


def mnist_subset() -> tuple[np.ndarray, np.ndarray]:
    parts = datasets.load_digits_subset()
    return np.concatenate(parts[0::2]) / 255, np.concatenate(parts[1::2])


def standardized(load: Any, name: str) -> tuple[str, np.ndarray, np.ndarray]:
    X, y = load(return_X_y=True)
    return name, scale(X), scale(y) if name == "MLPRegressor" else y


def data_sets() -> dict[str, tuple[str, np.ndarray, np.ndarray]]:
    """The estimator's name, X float64 and y of each."""
    return {
        "digits": standardized(load_digits, "MLPClassifier"),
        "breast_cancer": standardized(load_breast_cancer, "MLPClassifier"),
        "wine": standardized(load_wine, "MLPClassifier"),
        "diabetes": standardized(load_diabetes, "MLPRegressor"),
        SLOWEST: ("MLPClassifier", *mnist_subset()),
    }


def spin(seconds: float) -> None:
    """Keeps this core awake while BLAS's threads, which spin on after their last work, fall asleep.

    A core that has slept itself is slow for longer than the shortest fits last.
    """
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def player(module: Any, name: str, X: np.ndarray, y: np.ndarray, **settings: Any):
    """A function that fits on the next seed's split; it returns (seconds, score, epochs, flops)."""
    seeds = iter(range(-1, sys.maxsize))  # the round that `alternate` drops has none that counts

    def play() -> tuple[float, float, int, int]:
        seed = max(0, next(seeds))
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, random_state=seed, stratify=y if name == "MLPClassifier" else None
        )
        model = getattr(module, name)(random_state=seed, **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            spin(SPIN_SECONDS)
            begin = time.perf_counter()
            model.fit(X_train, y_train)
            seconds = time.perf_counter() - begin
        # as Network.flops_per_sample: the first layer needs no gradient of its input
        products = sum(6 * W.size for W in model.coefs_) - 2 * model.coefs_[0].size
        flops = products * len(X_train) * model.n_iter_
        return seconds, model.score(X_test, y_test), model.n_iter_, flops

    return play


def peaks() -> dict[str, float]:
    """GFLOP/s of all cores; NaN without the compiled backend."""
    found = {dtype: machine.fma_peak(machine.n_cores(), dtype) for dtype in DTYPES}
    return {dtype: math.nan if peak is None else peak for dtype, peak in found.items()}


def measured(name: str, data: tuple[str, np.ndarray, np.ndarray], rounds: int) -> dict[str, Any]:
    players = {
        "scikit-learn": player(sklearn.neural_network, *data),
        "fastnn": player(fastnn.sklearn, *data),
        "float32": player(fastnn.sklearn, *data, dtype="float32"),
    }
    before = peaks()
    others = machine.Others()
    results = alternate(players, rounds, pause=0)
    busy = others.busy_cores()
    best = {dtype: max(peak, before[dtype]) for dtype, peak in peaks().items()}
    theirs, *ours = (
        [list(column) for column in zip(*results[who], strict=True)] for who in players
    )
    row = {"data": name, "rows": len(data[1]), "busy_cores_of_others": busy}
    row |= {"fma_peak_gflops": best, "seconds": theirs[0], "scores": theirs[1], "epochs": theirs[2]}
    for label, (seconds, scores, epochs, flops) in zip(DTYPES, ours, strict=True):
        differences = np.subtract(scores, theirs[1])
        row[label] = {
            "seconds": seconds,
            "scores": scores,
            "epochs": epochs,
            "speedup": statistics.median(np.divide(theirs[0], seconds)),
            "speedup_at_peak": statistics.median(np.divide(theirs[0], flops) * 1e9 * best[label]),
            "difference": float(differences.mean()),
            "standard_error": float(differences.std(ddof=1) / math.sqrt(rounds)),
        }
    return row


def bar(row: dict[str, Any]) -> int:
    return BARS[row["rows"] <= LARGE]


def agrees(row: dict[str, Any]) -> bool:
    return all(
        abs(row[label]["difference"]) <= max(NOISE * row[label]["standard_error"], 1e-9)
        for label in DTYPES
    )


def table(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        cells = [row["data"], str(row["rows"]), f"{1e3 * statistics.median(row['seconds']):.1f} ms"]
        for label in DTYPES:
            ours = row[label]
            cells += [f"{1e3 * statistics.median(ours['seconds']):.1f} ms"]
            cells += [f"{ours['speedup']:.1f}x", f"{ours['speedup_at_peak']:.1f}x"]
        cells += [f"{bar(row)}x", f"{statistics.mean(row['scores']):.4f}"]
        for label in DTYPES:
            ours = row[label]
            cells += [f"{ours['difference']:+.4f} ± {ours['standard_error']:.4f}"]
        lines.append(cells)
    header = ["data", "rows", "scikit-learn"]
    header += ["fastnn", "ratio", "at peak", "float32", "ratio", "at peak"]
    return markdown([*header, "bar", "score", "fastnn's - it", "float32's - it"], lines)


def main() -> None:
    """Measures, and prints a Markdown table; status 1 if accuracy differs beyond noise."""
    parser = argparse.ArgumentParser(description=__doc__)
    data = data_sets()
    parser.add_argument("--data", nargs="+", choices=data, default=list(data))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.data = 3, [name for name in args.data if name != SLOWEST]
    rows = [measured(name, data[name], args.seeds) for name in args.data]
    print(f"{machine.describe()}, scikit-learn {sklearn.__version__}\n\n{table(rows)}\n")
    for dtype in DTYPES:
        found = [row["fma_peak_gflops"][dtype] for row in rows]
        print(f"FMA peak {min(found):.0f} to {max(found):.0f} GFLOP/s in {dtype}, all cores;")
    busiest = max(row["busy_cores_of_others"] for row in rows)
    print(f"others kept up to {busiest:.1f} cores busy; scores: accuracy, R^2 for diabetes")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(not all(map(agrees, rows)))


if __name__ == "__main__":
    main()
