"""How many threads train, where the user leaves it open. The result does not depend on it."""

from __future__ import annotations

import math
import time

# Seconds that a barrier of two or more cores near to each other takes; less where a host gives two
# virtual CPUs one core, more where the cores are far apart.
QUICKEST_BARRIER, SLOWEST_BARRIER = 5e-8, 2.5e-7
# A team whose threads had their cores for a smaller share of the time than this is crowded.
CROWDED = 0.9
# Seconds: how long a trial of another size lasts, from trial to trial, and until all is forgotten.
TRIAL_SECONDS = 0.02
SHORTEST_WAIT = 0.1
LONGEST_WAIT = 3.2
STALE = 0.1
# So many times as long as the shortest call so far is waited for a trial that nothing calls for.
PATIENCE = 20


class TeamSize:
    """The size of the team for each native call of a training.

    That is all threads, as long as each has a core to itself. Where other processes take cores
    away, a barrier waits for whoever lost his, and a smaller team is often much faster: after two
    crowded calls the next smaller team is tried, and from there the larger one again now and then.
    So it is, at once, when barriers tell that the host of a virtual machine has moved its CPUs, to
    cores far from each other or two of them to one core. Not all that a host does shows there, so
    whatever they say, the smaller team is tried now and then, ever more rarely.
    """

    def __init__(self, largest: int, is_open: bool) -> None:
        self.sizes = [largest]  # largest first
        while is_open and largest > 1:
            largest = (largest + 1) // 2
            self.sizes.append(largest)
        self._rates = [0.0] * len(self.sizes)  # rows per second in the last call of each size
        self._last_call = -STALE
        self._forget(0.0)

    def _forget(self, now: float) -> None:
        self._chosen = self._present = 0  # indices of sizes; they differ during a trial
        self._crowded = self._calls = 0  # crowded calls in a row, calls of any kind
        self._is_good = True  # the place that the host has given the team
        self._wait, self._next_trial, self._begin = SHORTEST_WAIT, now + SHORTEST_WAIT, now
        self._shortest_call = math.inf

    def next_call(self, seconds: float) -> tuple[int, float]:
        """Size and length of the next call. Trials are short, as are the first two calls, so that
        a crowd is noticed soon.
        """
        now = time.monotonic()
        if now > self._last_call + STALE:
            self._forget(now)
        elif self._chosen > 0 and self._present == self._chosen and now > self._next_trial:
            self._present = self._chosen - 1
        if self._present != self._chosen or self._calls < 2:
            seconds = min(seconds, TRIAL_SECONDS)
        self._calls += 1
        return self.sizes[self._present], seconds

    def report(self, rows: int, seconds: float, share: float, barrier_seconds: float = 0.0) -> None:
        """What that call did; share is the least part of its time that a thread had a core for,
        barrier_seconds what a barrier took, 0 for one thread.
        """
        self._last_call = time.monotonic()
        self._rates[self._present] = rows / seconds
        self._shortest_call = min(self._shortest_call, seconds)
        self._crowded = self._crowded + 1 if share < CROWDED else 0
        is_moved = self._note_place(barrier_seconds)
        if self._present != self._chosen:
            self._end_trial()
        elif self._chosen + 1 < len(self.sizes) and (
            self._crowded >= 2 or is_moved or (self._chosen == 0 and self._may_try_smaller())
        ):
            self._present = self._chosen + 1

    def _note_place(self, barrier_seconds: float) -> bool:
        """Whether the team has been moved to where a smaller one may be faster."""
        was_good = self._is_good
        if barrier_seconds > 0:
            self._is_good = QUICKEST_BARRIER < barrier_seconds < SLOWEST_BARRIER
        return was_good and not self._is_good

    def _may_try_smaller(self) -> bool:
        patience = PATIENCE * self._shortest_call  # a call cannot be shorter than one step
        return self._last_call > max(self._next_trial, self._begin + patience)

    def _end_trial(self) -> None:
        if self._rates[self._present] > self._rates[self._chosen]:
            self._chosen, self._wait = self._present, SHORTEST_WAIT
        else:
            self._present, self._wait = self._chosen, min(2 * self._wait, LONGEST_WAIT)
        self._next_trial, self._crowded = self._last_call + self._wait, 0
