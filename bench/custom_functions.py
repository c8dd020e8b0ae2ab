"""Users' own activations and losses beside the built-in ones: python -m bench.custom_functions

Training speed of 784-512-512-10 with silu, tanh and relu as a user would write them, turn by turn
with the built-in ones, and of Snake, which is in none, beside silu; of 32-256-256-1 with losses.
--accuracy trains 784-512-512-10 with silu and its copy on MNIST, or else on the digits that come
with fastnn, and prints the test accuracy of both.
"""

from __future__ import annotations

import argparse
import math
import statistics
from functools import partial
from typing import Any

from bench.networks import Case, make_data
from bench.turns import alternate, train_for
from fastnn import MLP, activation, datasets, loss

WIDE = Case((784, 512, 512, 10), 128, "sgd", 12_800)
NARROW = Case((32, 256, 256, 1), 256, "sgd", 12_800, output="identity")


@activation
def own_silu(a: float) -> float:
    return a / (1 + math.exp(-a))


@activation
def own_tanh(a: float) -> float:
    return math.tanh(a)


@activation
def own_relu(a: float) -> float:
    return max(a, 0)


@activation
def snake(a: float, frequency: float = 1.0) -> float:
    return a + math.sin(frequency * a) ** 2 / frequency


@loss
def own_squared_error(f: float, y: float) -> float:
    return 0.5 * (f - y) ** 2


@loss
def clipped_mse(f: float, y: float, limit: float = 1.0) -> float:
    d = f - y
    return 0.5 * d * d if abs(d) < limit else 0.5 * limit * limit


@loss
def tweedie(f: float, y: float, power: float = 1.5) -> float:
    return f ** (2 - power) / (2 - power) - y * f ** (1 - power) / (1 - power)


# The case, the output, and activation and loss of the built-in and of the custom row.
ROWS: list[tuple[Case, str, tuple[Any, Any], tuple[Any, Any]]] = [
    (WIDE, "softmax", ("silu", None), (own_silu, None)),
    (WIDE, "softmax", ("tanh", None), (own_tanh, None)),
    (WIDE, "softmax", ("relu", None), (own_relu, None)),
    (WIDE, "softmax", ("silu", None), (snake, None)),
    (NARROW, "identity", ("relu", "squared_error"), ("relu", own_squared_error)),
    (NARROW, "identity", ("relu", "squared_error"), ("relu", clipped_mse)),
    (NARROW, "exp", ("relu", "poisson"), ("relu", tweedie)),
]


def compare(row: tuple[Any, ...], args: argparse.Namespace) -> None:
    """One line: samples per second of both, and the median of the ratios within a round."""
    case, output, *both = row
    X, y = make_data(case)
    if output == "exp":
        y = abs(y)
    turns = {}
    for name, (g, chosen) in zip(("built-in", "custom"), both, strict=True):
        net = MLP(case.layer_sizes, g, output, backend=args.backend, n_threads=args.threads)
        settings = {"batch_size": case.batch_size, "optimizer": "sgd", "learning_rate": 1e-3}
        turns[name] = partial(train_for, args.seconds, net, X, y, loss=chosen, **settings)
    results = alternate(turns, args.rounds)
    rates = [[turn.rate for turn in results[name]] for name in turns]
    ratio = statistics.median(b / a for a, b in zip(*rates, strict=True))
    names = " | ".join(str(chosen or g) for g, chosen in both)
    medians = " | ".join(f"{statistics.median(r):,.0f}" for r in rates)
    print(f"| {case.name} | {names} | {medians} | {ratio:.2f} |", flush=True)


def accuracies(args: argparse.Namespace) -> None:
    """silu and its copy, trained alike for three epochs."""
    try:
        X, y, X_test, y_test = datasets.load_mnist(download=False)
    except FileNotFoundError:
        X, y, X_test, y_test = datasets.load_digits_subset()
    print("| activation | test accuracy |\n|---|---|")
    for g in ("silu", own_silu):
        net = MLP(WIDE.layer_sizes, g, backend=args.backend, n_threads=args.threads)
        net.fit(X, y, epochs=3, batch_size=WIDE.batch_size, optimizer="adam")
        accuracy = net.evaluate(X_test, y_test)["accuracy"]
        print(f"| {g} | {accuracy:.4f} |", flush=True)


def main() -> None:
    """Prints Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=7)
    add("--seconds", type=float, default=0.2, help="a turn")
    add("--threads", type=int, default=2)
    add("--backend", default="cython")
    add("--accuracy", action="store_true", help="test accuracy in place of speed")
    args = parser.parse_args()
    if args.accuracy:
        accuracies(args)
        return
    print("| network, batch | built-in | custom | samples/s | of the custom one | ratio |")
    print("|---|---|---|---|---|---|")
    for row in ROWS:
        compare(row, args)


if __name__ == "__main__":
    main()
