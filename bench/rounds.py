"""Runs peers as processes and lets them take turns: A B C A B C ..."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import select
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import machine, peers
from bench.networks import Case
from bench.peers import Peer

# Threads of a pool may spin after their last work (OpenBLAS's for a tenth of a second): a turn
# ends when they sleep, and the next begins a little later. bench.pause shows what that is worth.
PAUSE_SECONDS, POLL_SECONDS, MOST_POLLS = 0.02, 0.005, 100
ANSWER_SECONDS = 300
FAR_BEHIND = 0.6


def known_peers() -> dict[str, Peer]:
    """Every module of bench.peers, fastnn first."""
    names = sorted(module.name for module in pkgutil.iter_modules(peers.__path__))
    names.sort(key=lambda name: name != "fastnn")
    return {name: importlib.import_module(f"bench.peers.{name}").PEER for name in names}


def thread_counts(peer: Peer, most: int | None) -> list[int | None]:
    """What to try: 1, 2, 4, ... up to `most` (default: all cores), or the peer's own choice."""
    if peer.chooses_threads:
        return [most]
    limit = most or machine.n_cores()
    return [*(2**i for i in range(limit.bit_length()) if 2**i < limit), limit]


def any_thread_runs(pid: int) -> bool:
    """Whether a thread of the process has work to do, or spins."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):  # a thread that has ended
            if stat.read_text().rpartition(")")[2].split()[0] == "R":
                return True
    return False


@dataclass
class Result:
    """How one peer did on one row; `gap` says why there are no figures."""

    peer: str
    title: str
    gap: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Samples per second."""
        return statistics.median(self.rates)


class Player:
    """A living process of one peer with one number of threads; `environment` is added to ours."""

    def __init__(self, name: str, n_threads: int | None, **environment: str) -> None:
        self.name = name
        self._environment = os.environ | environment
        self.about: dict[str, Any] = {}
        self.gap = ""
        command = [sys.executable, "-m", f"bench.peers.{name}"]
        if n_threads is not None:
            command += ["--threads", str(n_threads)]
        self._command = command
        self._launch()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def take_row(self, case: Case) -> None:
        """Prepares the row, up to the first step; starts the process anew if it has died."""
        if not self.alive:
            self.close()
            self._launch()
        self.about = self._ask(f"row {case.name}")

    def turn(self, seconds: float, pause: float = PAUSE_SECONDS, settle: bool = True) -> float:
        """Samples per second over about `seconds`, or 0 once the peer has failed."""
        if self.gap:
            return 0.0
        time.sleep(pause)
        answer = self._ask(f"go {seconds}")
        if settle:
            self.settle()
        return 0.0 if self.gap else answer["samples"] / answer["seconds"]

    def settle(self) -> None:
        """Waits until all threads of the process sleep."""
        asleep = 0
        for _ in range(MOST_POLLS):
            asleep = 0 if any_thread_runs(self.pid) else asleep + 1
            if asleep == 2:
                return
            time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _launch(self) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, lives as long as the process
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            self._command,
            stdin=pipe,
            stdout=pipe,
            stderr=self._errors,
            text=True,
            env=self._environment,
        )

    def _ask(self, line: str) -> dict[str, Any]:
        """The answer to one line; sets `gap` if there is none."""
        print(line, file=self._process.stdin, flush=True)
        ready, _, _ = select.select([self._process.stdout], [], [], ANSWER_SECONDS)
        if not ready:
            self.gap = f"no answer in {ANSWER_SECONDS} s"
            self._process.kill()
            return {}
        answer = json.loads(self._process.stdout.readline() or "{}")
        self.gap = answer.pop("missing", "" if answer else self._last_words())
        return answer

    def _last_words(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return "failed: " + (lines[-1] if lines else f"exit status {status}")


def fastest(players: list[Player], seconds: float) -> Player:
    """Warms all up, and of several finds the fastest; who is far behind gets no second turn."""
    for player in players:
        player.turn(seconds / 2)
    if len(players) == 1:
        return players[0]
    rates = {player: player.turn(seconds) for player in players}
    near = [player for player in players if rates[player] >= FAR_BEHIND * max(rates.values())]
    if len(near) > 1:
        rates = {player: max(rates[player], player.turn(seconds)) for player in near}
    return max(near, key=lambda player: rates[player])


def begin(case: Case, players: list[Player], seconds: float) -> None:
    """Has all take the row and warms them up, one by one."""
    for player in players:
        player.take_row(case)
        fastest([player], seconds)


def demand_all(case: Case, players: list[Player]) -> None:
    """Ends the program where one has failed at the row."""
    for player in players:
        if player.gap:
            raise SystemExit(f"{case.name}: {player.gap}")


def compared(own: list[Player], peer: Peer, case: Case) -> list[Player]:
    """The players of a peer that are to find out the best number of threads.

    Where that is plain, or matters little, a peer of slow start does not start twice.
    """
    if peer.slow_start and case.small:
        return own[:1]
    return own[-1:] if peer.slow_start and case.kind == "predict" else own


def prepare(
    case: Case, competitors: dict[str, Peer], players: list[Player], seconds: float
) -> tuple[dict[str, Result], list[Player]]:
    """Lets every peer prepare the row, up to its first step, and finds its best player.

    The results, by the name of the peer, have no rates yet.
    """
    results, best = {}, []
    for name, peer in competitors.items():
        if not peer.does(case.kind):
            continue
        results[name] = Result(name, peer.title)
        own = [player for player in players if player.name == name]
        if not peer.supports(case):
            results[name].gap = f"cannot {case.kind} such a network"
        elif not own:
            results[name].gap = "left out by --quick, since it takes long to start"
        else:
            own = compared(own, peer, case)
            for player in own:
                player.take_row(case)
            best.append(fastest(own, seconds))
    return results, best


def play(results: dict[str, Result], best: list[Player], rounds: int, seconds: float) -> None:
    """Lets the players alternate, and puts their rates into the results."""
    for _ in range(rounds):
        for player in best:
            results[player.name].rates.append(player.turn(seconds))
    for player in best:
        results[player.name].about = player.about
        results[player.name].gap = player.gap
