"""How long a peer's threads disturb the next turn: python -m bench.pause

Threads that have nothing to do may spin for a while before they sleep. This lets every peer train
before fastnn does, with pauses of several lengths between them, and prints fastnn's speed as a
share of its speed after a long pause. rounds.PAUSE_SECONDS is chosen by it.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from bench import machine
from bench.networks import cases_named
from bench.rounds import Player, known_peers
from bench.tables import markdown, percent

PAUSES = (0.0, 0.02, 0.05, 0.1)
LONG_PAUSE, SECONDS = 0.5, 0.1


def shares(fastnn: Player, before: Player, rounds: int) -> list[float]:
    """fastnn's speed after a turn of `before` and each of the pauses, in medians over rounds."""
    ratios: list[list[float]] = [[] for _ in PAUSES]
    for _ in range(rounds):
        before.turn(SECONDS)
        undisturbed = fastnn.turn(SECONDS, LONG_PAUSE)
        for pause, found in zip(PAUSES, ratios, strict=True):
            before.turn(SECONDS)
            found.append(fastnn.turn(SECONDS, pause) / undisturbed)
    return [statistics.median(found) for found in ratios]


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
            lines.append([peer.title, *map(percent, shares(fastnn, before, args.rounds))])
        before.close()
    fastnn.close()
    print(markdown([f"{case.name}, after", *(f"{pause * 1e3:g} ms" for pause in PAUSES)], lines))


if __name__ == "__main__":
    main()
