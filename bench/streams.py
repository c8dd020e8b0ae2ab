"""Training on more data than memory allows: python -m bench.streams

A child process may use so much memory, the file is ten times as large (it is sparse on disk: its
pages are zeros that take no room). The child trains through `fastnn.streams.Blocks` and reports its
peak memory, not counting pages of the mapped file. Then the speed of the stream against arrays in
memory, on a file that the page cache holds, in turns A B A B.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from bench.machine import fma_peak, n_cores
from bench.tables import count, markdown, percent
from fastnn import MLP
from fastnn.callbacks import Callback, Run
from fastnn.streams import Blocks

N_IN, N_CLASSES = 784, 10
LAYERS = (N_IN, 128, N_CLASSES)
SPEED_ROWS = 100_000
BAR = 0.9  # of the speed in memory


def write_sparse(folder: Path, n_bytes: int) -> None:
    """X.npy (n, 784) uint8 of about n_bytes, all holes, and y.npy."""
    n = n_bytes // N_IN
    np.lib.format.open_memmap(folder / "X.npy", "w+", np.uint8, (n, N_IN)).flush()
    labels = np.lib.format.open_memmap(folder / "y.npy", "w+", np.int32, (n,))
    labels[:] = np.arange(n) % N_CLASSES
    labels.flush()


def blocks(folder: Path) -> Blocks:
    """The folder's files as a stream."""
    X, y = (np.load(folder / name, mmap_mode="r") for name in ("X.npy", "y.npy"))
    return Blocks(X, y)


def anonymous_memory() -> int:
    """kB that are this process's own: pages of mapped files are not, the system takes them back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


class Watch(Callback):
    """The most memory seen after a native call, of which there are 20 a second."""

    peak = 0

    def on_progress(self, run: Run) -> None:
        self.peak = max(self.peak, anonymous_memory())


def child(folder: Path, seconds: float) -> None:
    """Trains one epoch, or so long, and prints the kB that it took."""
    before, watch = anonymous_memory(), Watch()
    data = blocks(folder)
    MLP(LAYERS).fit(data, epochs=1, batch_size=128, max_seconds=seconds, callbacks=watch)
    print(json.dumps({"before": before, "peak": watch.peak}))


def memory(limit: int, times: int, seconds: float) -> dict[str, float]:
    """Anonymous memory is limited to `limit` bytes; the file has `times` as many."""
    with tempfile.TemporaryDirectory() as name:
        write_sparse(Path(name), times * limit)
        command = [sys.executable, "-m", "bench.streams", "--child", name, str(seconds)]

        def limited() -> None:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited)
    if done.returncode:
        raise RuntimeError(f"the child with {limit / 1e6:.0f} MB failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def rate(data: Blocks | tuple[np.ndarray, np.ndarray]) -> float:
    """Samples per second of the second of two epochs."""
    net = MLP(LAYERS)
    X, y = (data, None) if isinstance(data, Blocks) else data
    return net.fit(X, y, epochs=2, batch_size=128)["samples_per_second"][-1]


def speeds(rounds: int) -> list[tuple[float, float]]:
    """(in memory, streamed), for each round."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (SPEED_ROWS, N_IN), dtype=np.uint8)
    y = rng.integers(0, N_CLASSES, SPEED_ROWS).astype(np.int32)
    with tempfile.TemporaryDirectory() as name:
        np.save(Path(name) / "X.npy", X)
        np.save(Path(name) / "y.npy", y)
        stream = blocks(Path(name))
        return [(rate((X, y)), rate(stream)) for _ in range(rounds)]


def main() -> None:
    """Measures both and prints Markdown; status 1 where the speed misses its bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=float, default=0.5, help="GB of memory for the child")
    parser.add_argument("--times", type=int, default=10, help="the file's size in limits")
    parser.add_argument("--seconds", type=float, default=20.0, help="the child trains at most")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "SECONDS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(Path(args.child[0]), float(args.child[1]))
        return
    result = memory(int(args.limit * 1e9), args.times, args.seconds)
    cells = [f"{args.limit * args.times:.1f} GB", f"{args.limit:.1f} GB"]
    cells += [f"{result[key] / 1e3:.0f} MB" for key in ("before", "peak")]
    print(markdown(["file", "memory allowed", "after imports", "peak"], [cells]))
    measured = speeds(args.rounds)
    ratio = statistics.median(b / a for a, b in measured)
    rates = [count(statistics.median(column)) for column in zip(*measured, strict=True)]
    line = [*rates, percent(ratio), f"{fma_peak(n_cores()) or 0:.0f} GFLOP/s"]
    print()
    print(markdown(["in memory, samples/s", "streamed", "of it", "FMA peak"], [line]))
    sys.exit(ratio < BAR)


if __name__ == "__main__":
    main()
