"""How long a peer's threads disturb the next turn: python -m bench.pause

Threads that have nothing to do may spin for a while before they sleep. This lets every peer train
before fastnn does, with pauses of several lengths between them, and prints fastnn's speed as a
share of its speed after a long pause. The last column is what bench.compare does: it waits until
the threads sleep. `awake` is how long that takes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from bench import machine
from bench.networks import cases_named
from bench.rounds import Player, known_peers
from bench.tables import markdown, percent

PAUSES = (0.0, 0.02, 0.05, 0.1)
LONG_PAUSE, SECONDS = 0.5, 0.1


def figures(fastnn: Player, before: Player, rounds: int) -> list[str]:
    """How long `before` stays awake, and fastnn's speed after each of the pauses."""
    awake: list[float] = []
    ratios: list[list[float]] = [[] for _ in (*PAUSES, None)]
    for _ in range(rounds):
        before.turn(SECONDS, settle=False)
        undisturbed = fastnn.turn(SECONDS, LONG_PAUSE)
        for pause, found in zip(PAUSES, ratios, strict=False):
            before.turn(SECONDS, settle=False)
            found.append(fastnn.turn(SECONDS, pause) / undisturbed)
        before.turn(SECONDS, settle=False)
        begin = time.perf_counter()
        before.settle()
        awake.append(time.perf_counter() - begin)
        ratios[-1].append(fastnn.turn(SECONDS) / undisturbed)
    return [
        f"{statistics.median(awake) * 1e3:.0f} ms",
        *map(percent, map(statistics.median, ratios)),
    ]


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--row", default="784-128-10-b128-sgd")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    case = cases_named([args.row])[0]
    fastnn = Player("fastnn", None)
    fastnn.take_row(case)
    fastnn.turn(SECONDS)
    lines = []
    for name, peer in known_peers().items():
        if not (peer.does(case.kind) and peer.supports(case)):
            continue
        print(name, file=sys.stderr, flush=True)
        before = Player(name, None if peer.chooses_threads else machine.n_cores())
        before.take_row(case)
        before.turn(SECONDS)
        if not before.gap:
            lines.append([peer.title, *figures(fastnn, before, args.rounds)])
        before.close()
    fastnn.close()
    pauses = [f"{pause * 1e3:g} ms" for pause in PAUSES]
    print(markdown([f"{case.name}, after", "awake", *pauses, "asleep"], lines))


if __name__ == "__main__":
    main()
