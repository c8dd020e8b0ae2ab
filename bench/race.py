"""The MNIST race: a new interpreter's way to 98 % test accuracy: python -m bench.race

784-256-10, Adam 1e-3, batches of 128: imports, loading of the compressed files, training and an
evaluation after every epoch all count. The racers are the scripts in bench/racers; they take
turns, seed by seed. How many epochs it takes is luck of the seed, hence medians over seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench import machine
from bench.networks import Case
from bench.racers import BATCH_SIZE, N_HIDDEN
from bench.tables import markdown

# Titles of the scripts in bench/racers, fastnn first.
RACERS = {
    "fastnn": "fastnn",
    "pytorch": "PyTorch",
    "pytorch_compile": "PyTorch compiled",
    "jax": "JAX",
    "sklearn": "scikit-learn",
    "numpy": "NumPy",
}
CHOOSES_THREADS = ("fastnn",)
LIMIT_SECONDS = 600
PAUSE_SECONDS = 0.5
TASK = Case((784, N_HIDDEN, 10), BATCH_SIZE, "adam", n_samples=60_000)
BAR, STRETCH = 4.0, 8.0  # so many times sooner than the soonest peer


def race(name: str, seed: int, n_threads: int | None, *extra: str) -> dict[str, Any]:
    """One racer's figures, or {"gap": why there are none}; the clock stops at its line.

    The rest of `seconds` beside the splits is the interpreter's start.
    """
    command = [sys.executable, "-m", f"bench.racers.{name}", "--seed", str(seed), *extra]
    if n_threads is not None:
        command += ["--threads", str(n_threads)]
    begin = time.perf_counter()
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - begin
        _, errors = process.communicate(timeout=LIMIT_SECONDS)
    about = {"racer": name, "title": RACERS[name], "seed": seed, "n_threads": n_threads}
    if not line:
        return about | {"gap": (errors.strip().splitlines() or ["no answer"])[-1]}
    result = json.loads(line)
    splits = {"start": seconds - sum(result["splits"].values())} | result.pop("splits")
    return about | result | {"gap": "", "seconds": seconds, "splits": splits}


def best_threads(name: str) -> tuple[int | None, str]:
    """The number of threads with which two epochs end soonest; and why there is none, if so."""
    if name in CHOOSES_THREADS:
        return None, ""
    cores, times = machine.n_cores(), {}
    # Twice, in turns: the first run fills caches of files and of compiled code.
    for n_threads in (1, cores, 1, cores):
        result = race(name, 0, n_threads, "--target", "1", "--epochs", "2")
        if result["gap"]:
            return None, result["gap"]
        seconds = result["splits"]["training"]
        times[n_threads] = min(seconds, times.get(n_threads, seconds))
    return min(times, key=lambda n: times[n]), ""


def table(results: list[dict[str, Any]], target: float) -> str:
    """One line per racer: medians over the seeds, the soonest first."""
    ours = [r["seconds"] for r in results if r["racer"] == "fastnn" and not r["gap"]]
    lines = []
    for name in dict.fromkeys(r["racer"] for r in results):
        own = [r for r in results if r["racer"] == name]
        if own[0]["gap"]:
            lines.append((float("inf"), [RACERS[name], f"gap: {own[0]['gap']}", *["-"] * 8]))
            continue
        seconds = statistics.median(r["seconds"] for r in own)
        splits = [statistics.median(r["splits"][part] for r in own) for part in own[0]["splits"]]
        an_epoch = statistics.median(r["splits"]["training"] / r["epochs"] for r in own)
        n_threads = own[0]["n_threads"]
        missed = sum(r["accuracy"] < target for r in own)
        cells = [
            RACERS[name] + (f" ({missed} of {len(own)} never)" if missed else ""),
            f"{seconds:.2f}",
            f"{min(r['seconds'] for r in own):.2f} to {max(r['seconds'] for r in own):.2f}",
            f"{seconds / statistics.median(ours):.3g}x" if ours else "-",
            f"{statistics.median(r['epochs'] for r in own):g}",
            f"{an_epoch:.3f}",
            *(f"{split:.2f}" for split in splits[:3]),
            "own choice" if n_threads is None else str(n_threads),
        ]
        lines.append((seconds, cells))
    header = [f"to {target:.0%} on MNIST", "s", "spread", "fastnn is sooner by", "epochs"]
    header += ["s an epoch", "s start", "s imports", "s loading", "threads"]
    return markdown(header, [cells for _, cells in sorted(lines, key=lambda line: line[0])])


def verdict(results: list[dict[str, Any]]) -> str:
    """How many times sooner than the soonest peer."""
    finished = [r for r in results if not r["gap"]]
    medians = {
        name: statistics.median(r["seconds"] for r in finished if r["racer"] == name)
        for name in dict.fromkeys(r["racer"] for r in finished)
    }
    ours = medians.pop("fastnn", None)
    if ours is None or not medians:
        return ""
    soonest = min(medians, key=lambda name: medians[name])
    factor = medians[soonest] / ours
    return (
        f"fastnn is {factor:.2f}x sooner than the soonest peer, {RACERS[soonest]} "
        f"(bar {BAR:g}x, stretch {STRETCH:g}x)."
    )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = list(RACERS)
    parser.add_argument("--racers", nargs="+", choices=names, default=names, help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--target", type=float, default=0.98, help="test accuracy")
    parser.add_argument(
        "--json",
        type=Path,
        help="keep all figures in this file; races that it already holds are not run again",
    )
    return parser.parse_args()


def main() -> None:
    """Races, and prints Markdown on stdout and progress on stderr."""
    args = arguments()
    results: list[dict[str, Any]] = []
    if args.json and args.json.exists():
        results = json.loads(args.json.read_text())
    done = {(r["racer"], r["seed"]): r["n_threads"] for r in results}
    n_threads: dict[str, Any] = {name: n for (name, _), n in done.items()}
    peak = machine.fma_peak(machine.n_cores())
    others = machine.Others()
    for seed in args.seeds:
        for name in args.racers:
            if (name, seed) in done:
                continue
            gap = ""
            if name not in n_threads:
                n_threads[name], gap = best_threads(name)
            time.sleep(PAUSE_SECONDS)
            result = race(name, seed, n_threads[name], "--target", str(args.target))
            results.append(result)
            said = gap or f"{result['seconds']:.2f} s, {result['epochs']} epochs"
            print(f"seed {seed}, {RACERS[name]}: {said}", file=sys.stderr, flush=True)
            if args.json:
                args.json.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{machine.describe()}\n\n{table(results, args.target)}\n\n{verdict(results)}")
    if peak:
        at_peak = TASK.n_samples * TASK.flops_per_sample / peak / 1e9
        print(
            f"\nFMA peak {peak:.0f} GFLOP/s, at which an epoch's products, zeros included, take "
            f"{at_peak:.3f} s; others kept {others.busy_cores():.2f} cores busy."
        )


if __name__ == "__main__":
    main()
