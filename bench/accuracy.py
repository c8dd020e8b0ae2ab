"""Test accuracy on the full data sets, from uint8 input: python -m bench.accuracy

Needs MNIST and Fashion-MNIST where fastnn.datasets finds them. Ends with status 1 if a mean over
the seeds is below its bar.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass

from bench.tables import markdown
from fastnn import schedules


@dataclass(frozen=True)
class Task:
    """A network, how it is trained, and the mean test accuracy that it must reach."""

    data: str
    layer_sizes: tuple[int, ...]
    optimizer: str
    batch_size: int
    learning_rate: float
    bar: float
    epochs: int = 10
    cosine: bool = False  # the rate falls to zero over the run, after an epoch of warm-up
    dropout: float = 0.0
    label_smoothing: float = 0.0

    @property
    def name(self) -> str:
        """Such as mnist 784-128-10 sgd b32 0.1 x10 (epochs)."""
        network = "-".join(map(str, self.layer_sizes))
        how = f"{self.optimizer} b{self.batch_size} {self.learning_rate:g} x{self.epochs}"
        more = " cosine" if self.cosine else ""
        more += f" dropout {self.dropout:g}" if self.dropout else ""
        more += f" smoothing {self.label_smoothing:g}" if self.label_smoothing else ""
        return f"{self.data} {network} {how}{more}"

    def schedule(self) -> float | schedules.Schedule:
        """The learning rate, or what it follows."""
        if not self.cosine:
            return self.learning_rate
        return schedules.WarmUp(schedules.Cosine(self.learning_rate), 1)


TASKS = (
    Task("mnist", (784, 128, 10), "sgd", 32, 0.1, 0.975),
    Task("mnist", (784, 128, 10), "adam", 128, 1e-3, 0.975),
    Task("fashion-mnist", (784, 256, 128, 100, 10), "adam", 128, 1e-3, 0.883, 20),
    Task("mnist", (784, 512, 512, 10), "adamw", 128, 1e-3, 0.984, 20, True, 0.2, 0.1),
    Task("fashion-mnist", (784, 512, 512, 10), "adamw", 128, 1e-3, 0.900, 30, True, 0.2, 0.1),
)


def accuracies(task: Task, seeds: int, backend: str) -> list[float]:
    """Test accuracy after training, for the seeds 0, 1, ..."""
    from fastnn import MLP, datasets

    load = {"mnist": datasets.load_mnist, "fashion-mnist": datasets.load_fashion_mnist}
    X_train, y_train, X_test, y_test = load[task.data](download=False)
    reached = []
    for seed in range(seeds):
        net = MLP(task.layer_sizes, seed=seed, backend=backend)
        net.fit(
            X_train,
            y_train,
            epochs=task.epochs,
            batch_size=task.batch_size,
            optimizer=task.optimizer,
            learning_rate=task.schedule(),
            dropout=task.dropout,
            label_smoothing=task.label_smoothing,
        )
        reached.append(net.evaluate(X_test, y_test)["accuracy"])
        print(f"{task.name}, seed {seed}: {reached[-1]:.2%}", file=sys.stderr, flush=True)
    return reached


def main() -> None:
    """Trains and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", default=[], help="parts of row names; default: all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--backend", default="auto")
    args = parser.parse_args()
    lines, failed = [], False
    for task in TASKS:
        if args.rows and not any(part in task.name for part in args.rows):
            continue
        begin = time.perf_counter()
        reached = accuracies(task, args.seeds, args.backend)
        seconds = (time.perf_counter() - begin) / args.seeds
        mean = statistics.mean(reached)
        failed |= mean < task.bar
        cells = [f"{accuracy:.2%}" for accuracy in (*reached, mean, task.bar)]
        lines.append([task.name, *cells, f"{seconds:.1f}"])
    seeds = [f"seed {seed}" for seed in range(args.seeds)]
    print(markdown(["training", *seeds, "mean", "bar", "s per seed"], lines))
    sys.exit(failed)


if __name__ == "__main__":
    main()
