"""Cost against size: python -m bench.scaling

Two questions. Does a sample cost the same from ten thousand samples to ten million, the larger
sets memory-mapped from disk and read in random order? And does a floating-point operation cost the
same in hidden layers from 64 to 4096 wide? Each size is trained for a bounded time, in turns.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench import machine
from bench.networks import Case, make_data
from bench.tables import count, markdown, percent
from bench.turns import Turn, alternate, train_for
from fastnn import MLP

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
IN_MEMORY = 100_000  # samples; larger sets are mapped
IMAGES = Case((784, 128, 10), 128, "sgd", SIZES[-1])
CHUNK = 50_000  # samples written at a time
WIDTHS = (64, 128, 256, 512, 1024, 2048, 4096)
WIDE_BATCH = 256
BAR = 1.5  # dearest over cheapest, in either table
DENSE = 0.2  # share of non-zero pixels, MNIST's


def write_images(path: Path, n: int) -> None:
    """An .npy file of n rows of 784 pixels, a fifth of them not zero: about as MNIST has them."""
    rng = np.random.default_rng(0)
    X = np.lib.format.open_memmap(path, "w+", np.uint8, (n, IMAGES.layer_sizes[0]))
    chunk = rng.integers(1, 256, (CHUNK, X.shape[1]), dtype=np.uint8)
    chunk *= rng.random(chunk.shape, np.float32) < DENSE
    for start in range(0, n, CHUNK):
        X[start : start + CHUNK] = np.roll(chunk, start // CHUNK, axis=1)[: n - start]
    X.flush()


def resident(path: Path) -> int | None:
    """Bytes of the file that are in memory, as the page cache has them; None if nobody knows."""
    import subprocess

    if shutil.which("fincore") is None:
        return None
    command = ["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def sample_cost(turns: list[Turn], n: int) -> dict[str, float]:
    """Nanoseconds for a sample in an epoch of n, its share of making the random order included.

    A turn that saw several epochs has made the later orders within its time.
    """
    order = [1e9 * turn.order_seconds / max(n, turn.samples) for turn in turns]
    steps = [1e9 / turn.rate for turn in turns]
    return {
        "order_ns": statistics.median(order),
        "ns": statistics.median(a + b for a, b in zip(order, steps, strict=True)),
    }


def over_samples(
    folder: Path, sizes: list[int], n_threads: int | None, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """The figures of each number of samples."""
    path = folder / "images.npy"
    needed = max(sizes) * IMAGES.layer_sizes[0]
    if needed > 0.8 * shutil.disk_usage(folder).free:
        raise OSError(f"{folder} has no room for {needed / 1e9:.1f} GB; see --folder and --sizes")
    print(f"writing {needed / 1e9:.2f} GB to {folder}", file=sys.stderr, flush=True)
    write_images(path, max(sizes))
    mapped = np.load(path, mmap_mode="r")
    y = np.random.default_rng(1).integers(0, 10, len(mapped), dtype=np.int32)

    def player(n: int):
        X = np.array(mapped[:n]) if n <= IN_MEMORY else mapped[:n]
        net = MLP(IMAGES.layer_sizes, n_threads=n_threads)
        settings = {"batch_size": IMAGES.batch_size, "optimizer": IMAGES.optimizer}
        settings["learning_rate"] = IMAGES.learning_rate
        return lambda: train_for(seconds, net, X, y[:n], **settings)

    turns = alternate({n: player(n) for n in sizes}, rounds)
    in_cache = resident(path)
    rows: list[dict[str, Any]] = []
    for n in sizes:
        costs = sample_cost(turns[n], n)
        rows.append({"samples": n, "megabytes": n * IMAGES.layer_sizes[0] / 1e6, **costs})
        rows[-1]["mapped"] = n > IN_MEMORY
        rows[-1]["file_in_memory"] = None if in_cache is None else in_cache / needed
        rows[-1]["gflops"] = IMAGES.flops_per_sample / costs["ns"]
    return rows


def over_widths(
    widths: list[int], n_threads: int | None, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """The figures of each width: inputs and three hidden layers of it, so three square products."""
    cases = {}
    for width in widths:
        n = max(2 * WIDE_BATCH, min(51_200, 20_000_000 // width // WIDE_BATCH * WIDE_BATCH))
        cases[width] = Case((width, width, width, width, 10), WIDE_BATCH, "sgd", n)

    def player(case: Case):
        X, y = make_data(case)
        net = MLP(case.layer_sizes, n_threads=n_threads)
        settings = {"batch_size": WIDE_BATCH, "optimizer": "sgd", "learning_rate": 0.001}
        return lambda: train_for(seconds, net, X, y, **settings)

    turns = alternate({width: player(case) for width, case in cases.items()}, rounds)
    rows = []
    for width, case in cases.items():
        gflops = [turn.rate * case.flops_per_sample / 1e9 for turn in turns[width]]
        rate = statistics.median(turn.rate for turn in turns[width])
        row = {"row": case.name, "width": width, "samples_per_second": rate}
        rows.append(row | {"gflops": statistics.median(gflops), "all_gflops": gflops})
    return rows


def samples_table(rows: list[dict[str, Any]], peak: float | None) -> str:
    """One line per number of samples."""
    cheapest = min(row["ns"] for row in rows)
    lines = []
    for row in rows:
        share = percent(row["gflops"] / peak if peak else None)
        inside = f"mapped, {percent(row['file_in_memory'])} of the file in memory"
        cells = [count(row["samples"]), f"{row['megabytes']:.0f} MB"]
        cells += [inside if row["mapped"] else "array", f"{row['ns']:.0f}"]
        cells += [f"{row['order_ns']:.0f}", f"{row['ns'] / cheapest:.2f}x"]
        lines.append([*cells, f"{row['gflops']:.3g}", share])
    header = [f"samples, {IMAGES.network} b{IMAGES.batch_size} uint8", "size", "where"]
    header += ["ns a sample", "of it random order", "of the cheapest", "GFLOP/s", "of FMA peak"]
    return markdown(header, lines)


def widths_table(rows: list[dict[str, Any]], peak: float | None) -> str:
    """One line per width."""
    best = max(row["gflops"] for row in rows)
    lines = [
        [
            row["row"],
            count(row["samples_per_second"]),
            f"{1e3 / row['gflops']:.2f}",
            f"{best / row['gflops']:.2f}x",
            f"{row['gflops']:.3g}",
            percent(row["gflops"] / peak if peak else None),
        ]
        for row in rows
    ]
    header = ["width", "samples/s", "ps a FLOP", "of the cheapest", "GFLOP/s", "of FMA peak"]
    return markdown(header, lines)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["samples", "widths"], help="default: both")
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="of data sets")
    parser.add_argument("--widths", nargs="+", type=int, default=list(WIDTHS))
    parser.add_argument("--threads", type=int, help="default: fastnn's own choice")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="a turn")
    parser.add_argument("--folder", type=Path, help="for the mapped file; default: temporary")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args()


def main() -> None:
    """Measures, and prints Markdown tables; status 1 where the bar is missed."""
    args = arguments()
    cores, peaks = args.threads or machine.n_cores(), []
    how = args.threads, args.rounds, args.seconds
    samples: list[dict[str, Any]] = []
    widths: list[dict[str, Any]] = []
    peaks.append(machine.fma_peak(cores))
    if args.only != "widths":
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            samples = over_samples(Path(folder), args.sizes, *how)
        peaks.append(machine.fma_peak(cores))
    if args.only != "samples":
        widths = over_widths(args.widths, *how)
        peaks.append(machine.fma_peak(cores))
    peak = max(p for p in peaks if p) if all(peaks) else None
    print(f"{machine.describe()}, FMA peak {peak or float('nan'):.0f} GFLOP/s")
    print(f"\n{samples_table(samples, peak)}" if samples else "")
    print(f"\n{widths_table(widths, peak)}" if widths else "")
    print(f"\nThe bar: the dearest costs at most {BAR}x the cheapest.")
    if args.json:
        text = json.dumps({"fma_peak": peak, "samples": samples, "widths": widths}, indent=1)
        args.json.write_text(text + "\n")
    spreads = [
        max(values) / min(values)
        for values in ([row["ns"] for row in samples], [row["gflops"] for row in widths])
        if values
    ]
    sys.exit(any(spread > BAR for spread in spreads))


if __name__ == "__main__":
    main()
