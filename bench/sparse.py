"""What a sparse X is worth: python -m bench.sparse

20000-128-10 with relu and softmax trains from a CSR matrix of which 1 % is stored, at random
places, taking turns with the same matrix as an array, of which fastnn leaves the zeros out, too;
with that array and FASTNN_SKIP_ZEROS=0, so that its products are those of any dense X; and with
scikit-learn's MLPClassifier on the CSR matrix, an epoch a turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from bench import machine
from bench.networks import Case
from bench.tables import count, markdown, percent
from bench.turns import alternate, fit_player

N_COLUMNS, STORED = 20_000, 0.01
LAYER_SIZES = (N_COLUMNS, 128, 10)
BATCH_SIZES = (32, 128, 512, 2048)
N_SAMPLES = 8192


def make_data() -> tuple[csr_matrix, np.ndarray]:
    """X float32 (N_SAMPLES, N_COLUMNS) and y (N_SAMPLES,); X as an array takes 650 MB."""
    rng = np.random.default_rng(0)
    n_stored = rng.binomial(N_COLUMNS, STORED, N_SAMPLES)
    indices = [np.sort(rng.choice(N_COLUMNS, n, replace=False)) for n in n_stored]
    indptr = np.concatenate([[0], np.cumsum(n_stored)])
    data = rng.random(indptr[-1], dtype=np.float32)
    X = csr_matrix((data, np.concatenate(indices), indptr), (N_SAMPLES, N_COLUMNS))
    return X, rng.integers(0, LAYER_SIZES[-1], N_SAMPLES)


def scikit_player(case: Case, X: csr_matrix, y: np.ndarray) -> Callable[[], float]:
    """Samples per second of one call of partial_fit, which is an epoch in mini-batches."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        LAYER_SIZES[1:-1],
        solver=case.optimizer,
        alpha=0.0,
        batch_size=case.batch_size,
        learning_rate_init=case.learning_rate,
        momentum=0.0,
        nesterovs_momentum=False,
    )

    def play() -> float:
        start = time.perf_counter()
        model.partial_fit(X, y, classes=np.arange(LAYER_SIZES[-1]))
        return N_SAMPLES / (time.perf_counter() - start)

    return play


def measured(
    case: Case, X: csr_matrix, dense: np.ndarray, y: np.ndarray, rounds: int, seconds: float
) -> dict[str, Any]:
    """The rates of every player in every round, and what follows from them."""
    players = {
        "CSR": fit_player(case, X, y, seconds),
        "array": fit_player(case, dense, y, seconds),
        "zeros kept": fit_player(case, dense, y, seconds, skip_zeros=False),
        "scikit-learn": scikit_player(case, X, y),
    }
    rates = alternate(players, rounds)
    rate = statistics.median(rates["CSR"])
    peak = machine.fma_peak(machine.n_cores())
    # what a sample's products take, zeros left out: forward and dW of the first layer
    flops = case.flops_per_sample - 4 * (1 - STORED) * LAYER_SIZES[0] * LAYER_SIZES[1]
    return {
        "row": case.name,
        "rates": rates,
        "samples_per_second": rate,
        "times": {
            name: statistics.median(a / b for a, b in zip(rates["CSR"], rates[name], strict=True))
            for name in ("array", "zeros kept", "scikit-learn")
        },
        "gflops": rate * flops / 1e9,
        "fma_peak_gflops": peak,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """One line per optimizer and batch size; ratios are medians of those within a round."""
    lines = []
    for row in rows:
        peak = row["fma_peak_gflops"]
        lines.append(
            [
                row["row"],
                count(row["samples_per_second"]),
                f"{count(min(row['rates']['CSR']))} to {count(max(row['rates']['CSR']))}",
                *(count(statistics.median(row["rates"][name])) for name in row["times"]),
                *(f"{times:.1f}x" for times in row["times"].values()),
                f"{row['gflops']:.3g}",
                percent(row["gflops"] / peak if peak else None),
            ]
        )
    header = ["1 % stored", "CSR samples/s", "spread", "array", "zeros kept", "scikit-learn"]
    header += ["of array", "of zeros kept", "of scikit-learn", "GFLOP/s", "of FMA peak"]
    return markdown(header, lines)


def main() -> None:
    """Measures, and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--optimizers", nargs="+", default=["sgd", "adam"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=BATCH_SIZES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="a turn of fastnn")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn's, of too few iterations
    X, y = make_data()
    dense = X.toarray()
    rows, others = [], machine.Others()
    for optimizer in args.optimizers:
        for batch_size in args.batch_sizes:
            case = Case(LAYER_SIZES, batch_size, optimizer, N_SAMPLES)
            rows.append(measured(case, X, dense, y, args.rounds, args.seconds))
    peak = machine.fma_peak(machine.n_cores())
    print(f"{machine.describe()}\n\n{table(rows)}\n")
    print(f"FMA peak {peak:.0f} GFLOP/s. ", end="")
    print(f"Other processes kept {others.busy_cores():.2f} cores busy on average.")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
