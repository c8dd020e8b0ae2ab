"""The Numba backend beside the compiled one, NumPy and PyTorch: python -m bench.numba_backend

Training speed on the training networks of `bench.networks`, in turns, after compiling, with the
FMA peak.
--first-call: the time of the first step of a new process, with an empty cache on disk and then a
full one. --assembly: what the inner loops of the products are compiled to.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile

import numpy as np

from bench import machine
from bench.networks import Case, cases_named
from bench.peers import Peer
from bench.rounds import Player, known_peers, play, prepare, thread_counts
from fastnn import MLP

FIRST_CALL = """
import time
import numpy as np, fastnn
X, y = np.zeros((128, 784), np.float32), np.zeros(128, int)
begin = time.perf_counter()
import numba
imported = time.perf_counter()
fastnn.MLP((784, 128, 10), backend="numba", n_threads=2).fit(X, y, epochs=1)
print(imported - begin, time.perf_counter() - imported)
"""


def players_of(threads: int | None) -> tuple[dict[str, Peer], list[Player]]:
    """What is compared, by name, the Numba backend first, and their processes."""
    known = known_peers()
    competitors = {"numba": known["fastnn"], "compiled": known["fastnn"]}
    players = []
    for name, backend in (("numba", "numba"), ("compiled", "cython")):
        players.append(Player("fastnn", threads, FASTNN_BACKEND=backend))
        players[-1].name = name
    for name in ("numpy", "pytorch"):
        competitors[name] = known[name]
        players += [Player(name, n) for n in thread_counts(known[name], threads)]
    return competitors, players


def compare(cases: list[Case], args: argparse.Namespace) -> None:
    """A row for each case; ratios are medians of the ratios within one round."""
    competitors, players = players_of(args.threads)
    others = [name for name in competitors if name != "numba"]
    columns = ["row", "numba, samples/s", "GFLOP/s", "FMA peak", *(f"x {o}" for o in others)]
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns) + "|")
    for case in cases:
        results, best = prepare(case, competitors, players, args.seconds)
        peak = machine.fma_peak(args.threads or machine.n_cores())
        play(results, best, args.rounds, args.seconds)
        ours = results["numba"]
        figures = [f"{ours.median:,.0f}", f"{ours.median * case.flops_per_sample / 1e9:.1f}"]
        figures.append(f"{peak or 0:.0f}")
        for name in others:
            pairs = zip(ours.rates, results[name].rates, strict=True)
            gap = results[name].gap
            figures.append(gap or f"{statistics.median(a / b for a, b in pairs):.2f}")
        print("|", " | ".join([case.name, *figures]), "|", flush=True)
    for player in players:
        player.close()


def first_calls() -> None:
    """First steps in new processes: cache empty, then full."""
    print("| cache on disk | import numba, s | first step, s |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for state in ("empty", "full", "full"):
            done = subprocess.run(
                [sys.executable, "-c", FIRST_CALL],
                env=os.environ | {"NUMBA_CACHE_DIR": folder},
                capture_output=True,
                text=True,
                check=True,
            )
            imported, step = map(float, done.stdout.split())
            print(f"| {state} | {imported:.2f} | {step:.2f} |", flush=True)


def assembly() -> None:
    """Every loop over k of a training in float32: its instructions, by kind."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NUMBA_CACHE_DIR"] = folder  # what comes from a cache has no assembly to show
        net = MLP((784, 128, 10), backend="numba", n_threads=1)
        net.fit(np.zeros((128, 784), np.float32), np.zeros(128, int), epochs=1)
    from fastnn.backends._numba import products, stages

    register = {64: "zmm", 32: "ymm", 16: "xmm"}[products.VECTOR_BYTES]
    print("| stage | multiply-adds | loads | broadcasts | vectors on the stack |")
    print("|---|---|---|---|---|")
    for name, text in stages.assembly().items():
        if "loops" not in name:
            continue
        for block in re.split(r"^[.\w$]+:", text, flags=re.MULTILINE):
            lines = [line for line in block.splitlines() if "%" + register in line]
            n_fma = sum("vfmadd" in line for line in lines)
            if not lines or n_fma < products.MR or not re.search(r"\tj\w+\t", block):
                continue
            broadcasts = sum("vbroadcast" in line or "{1to" in line for line in lines)
            stack = sum("(%rsp" in line for line in lines)
            loads = sum("vmovu" in line or "vmova" in line for line in lines) - stack
            print(f"| {name} | {n_fma} | {loads} | {broadcasts} | {stack} |")


def main() -> None:
    """Prints Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--rows", nargs="+", default=[], help="parts of row names; default: all training rows")
    add("--rounds", type=int, default=5)
    add("--seconds", type=float, default=0.2, help="a turn")
    add("--threads", type=int, help="most threads; default: all cores")
    add("--first-call", action="store_true", help="compiling, and loading what was compiled")
    add("--assembly", action="store_true", help="the inner loops of the products")
    args = parser.parse_args()
    if args.assembly:
        assembly()
    elif args.first_call:
        first_calls()
    else:
        compare([case for case in cases_named(args.rows) if case.kind == "train"], args)


if __name__ == "__main__":
    main()
