"""How many threads train, where the user leaves it open. The result does not depend on it."""

from __future__ import annotations

import math
import time
from collections import deque

# Seconds that a barrier of two or more cores near to each other takes; less where a host gives two
# virtual CPUs one core, more where the cores are far apart. Elsewhere all are: where a barrier was
# so slow and the larger team faster, one is not too slow until it takes SLOWER times as long.
QUICKEST_BARRIER, SLOWEST_BARRIER = 5e-8, 2.5e-7
SLOWER = 1.5
# A team whose threads had their cores for a smaller share of the time than this is crowded.
CROWDED = 0.9
# Seconds: how long a trial of another size lasts, training from trial to trial, and the pause after
# which rates are of the past.
TRIAL_SECONDS = 0.02
SHORTEST_WAIT = 0.1
LONGEST_WAIT = 3.2
STALE = 0.1
# So many times as long as the shortest call so far is trained until a trial that nothing calls for;
# after trials in vain up to MOST_PATIENCE times as long.
PATIENCE, MOST_PATIENCE = 20, 8


class TeamSize:
    """The size of the team for each native call of a training.

    That is all threads, as long as each has a core to itself. Where other processes take cores
    away, a barrier waits for whoever lost his, and a smaller team is often much faster: after two
    crowded calls the next smaller team is tried, and from there the larger one again now and then.
    So it is, at once, when barriers tell that the host of a virtual machine has moved its CPUs, to
    cores far from each other or two of them to one core. Not all that a host does shows there, so
    whatever they say, the smaller team is tried now and then, ever more rarely. Many trainings
    are short, so a pause ends nothing of that; but rates are measured anew.
    """

    def __init__(self, largest: int, is_open: bool) -> None:
        self.sizes = [largest]  # largest first
        while is_open and largest > 1:
            largest = (largest + 1) // 2
            self.sizes.append(largest)
        self._last_call = 0.0
        self._slowest_barrier = SLOWEST_BARRIER  # that is not too slow
        self._chosen = self._present = 0  # indices of sizes; they differ during a trial
        self._wait = SHORTEST_WAIT
        self._trained = 0.0  # seconds since the last trial
        self._shortest_call = math.inf
        self._forget_rates()

    def _forget_rates(self) -> None:
        """And the place; not what was chosen, nor how long ago another size was tried."""
        self._present = self._chosen
        if self._chosen > 0:
            self._wait = SHORTEST_WAIT
        # Rows per second in the last two calls of each size: one alone may have been disturbed.
        self._rates: list[deque[float]] = [deque([0.0], maxlen=2) for _ in self.sizes]
        self._crowded = self._calls = 0  # crowded calls in a row, calls of any kind
        self._barrier, self._is_good = 0.0, True  # in the place that the host has given the team

    def next_call(self, seconds: float) -> tuple[int, float]:
        """Size and length of the next call. Trials are short, as are the first two calls, so that
        a crowd is noticed soon.
        """
        now = time.monotonic()
        if now > self._last_call + STALE:
            self._forget_rates()
        elif self._present == self._chosen > 0 and self._trained > self._wait:
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
        self._trained += seconds
        self._rates[self._present].append(rows / seconds)
        self._shortest_call = min(self._shortest_call, seconds)
        self._crowded = self._crowded + 1 if share < CROWDED else 0
        has_changed = self._note_place(barrier_seconds) or self._crowded >= 2
        if self._present != self._chosen:
            self._end_trial()
        elif self._chosen + 1 < len(self.sizes) and (
            has_changed or (self._chosen == 0 and self._may_try_smaller())
        ):
            if has_changed:  # what was before does not count
                self._rates[self._chosen] = deque([rows / seconds], maxlen=2)
            self._present = self._chosen + 1

    def _note_place(self, barrier_seconds: float) -> bool:
        """Whether the team has been moved to where a smaller one may be faster."""
        was_good = self._is_good
        if barrier_seconds > 0 and self._calls > 1:  # in the first one, threads are woken
            self._barrier = barrier_seconds
            self._is_good = QUICKEST_BARRIER < barrier_seconds < self._slowest_barrier
        return was_good and not self._is_good

    def _may_try_smaller(self) -> bool:
        calls = PATIENCE * min(self._wait / SHORTEST_WAIT, MOST_PATIENCE)
        patience = calls * self._shortest_call  # a call cannot be shorter than one step
        return self._trained > max(self._wait, patience)

    def _end_trial(self) -> None:
        larger = min(self._present, self._chosen)
        if max(self._rates[self._present]) > max(self._rates[self._chosen]):
            self._chosen, self._wait = self._present, SHORTEST_WAIT
        else:
            self._present, self._wait = self._chosen, min(2 * self._wait, LONGEST_WAIT)
        if self._chosen == larger:
            self._slowest_barrier = max(self._slowest_barrier, SLOWER * self._barrier)
        self._trained, self._crowded = 0.0, 0
