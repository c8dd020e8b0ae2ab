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
# A crowd's slices of time make single calls twice as fast or half as fast: there a trial is won by
# so many calls together, against as many of the other size as are remembered.
CALLS_IN_CROWD, REMEMBERED = 3, 6


class TeamSize:
    """The size of the team for each native call of a training.

    That is all threads, as long as each has a core to itself. Where other processes take cores
    away, a barrier waits for whoever lost his, and a smaller team is often much faster: after two
    crowded calls the next smaller team is tried, and from there the larger one again now and then.
    So it is, at once, when barriers tell that the host of a virtual machine has moved its CPUs, to
    cores far from each other or two of them to one core. Not all that a host does shows there, so
    whatever they say, the smaller team is tried now and then, ever more rarely. Many trainings
    are short, so a pause ends nothing of that; but rates are measured anew. Nor does a crowd leave
    with a training: the next one of this process begins with as many threads.
    """

    # To how many threads a crowd brought the last training of this process, and when.
    _left_by_crowd = (0, -math.inf)

    def __init__(self, largest: int, is_open: bool) -> None:
        self.sizes = [largest]  # largest first
        while is_open and largest > 1:
            largest = (largest + 1) // 2
            self.sizes.append(largest)
        self._last_call = 0.0
        self._slowest_barrier = SLOWEST_BARRIER  # that is not too slow
        size, since = TeamSize._left_by_crowd
        self._in_crowd = size in self.sizes and time.monotonic() - since < LONGEST_WAIT
        # indices of sizes; they differ during a trial
        self._chosen = self._present = self.sizes.index(size) if self._in_crowd else 0
        self._wait = SHORTEST_WAIT
        self._stays_in_crowd = False  # since a smaller team was tried there in vain
        self._trained = 0.0  # seconds since the last trial
        self._shortest_call = math.inf
        self._forget_rates()

    def _forget_rates(self) -> None:
        """And the place; not what was chosen, nor how long ago another size was tried."""
        self._present = self._chosen
        if self._chosen > 0:
            self._wait = SHORTEST_WAIT
        # Rows and seconds of the last calls of each size.
        self._done: list[deque[tuple[int, float]]] = [deque(maxlen=REMEMBERED) for _ in self.sizes]
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
            self._begin_trial(self._chosen - 1)
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
        self._done[self._present].append((rows, seconds))
        self._shortest_call = min(self._shortest_call, seconds)
        self._crowded = self._crowded + 1 if share < CROWDED else 0
        self._stays_in_crowd = self._stays_in_crowd and self._crowded > 0
        is_new_crowd = self._crowded >= 2 and not self._stays_in_crowd
        has_changed = self._note_place(barrier_seconds) or is_new_crowd
        if self._present != self._chosen:
            self._judge_trial()
        elif self._chosen + 1 < len(self.sizes) and (
            has_changed or (self._chosen == 0 and self._may_try_smaller())
        ):
            if has_changed:  # what was before does not count
                self._done[self._chosen] = deque([(rows, seconds)], REMEMBERED)
            self._in_crowd = self._crowded >= 2
            self._begin_trial(self._chosen + 1)

    def _begin_trial(self, index: int) -> None:
        self._present = index
        self._done[index].clear()

    def _speed(self, index: int) -> float:
        """Rows per second of sizes[index], 0 if unknown: in a crowd of all calls together, else of
        the faster one of the last two, since one may have been disturbed.
        """
        done = list(self._done[index])
        if self._in_crowd and done:
            return sum(rows for rows, _ in done) / sum(seconds for _, seconds in done)
        return max((rows / seconds for rows, seconds in done[-2:]), default=0.0)

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

    def _judge_trial(self) -> None:
        """End it, unless more calls are to confirm what it has won."""
        larger = min(self._present, self._chosen)
        if self._speed(self._present) > self._speed(self._chosen):
            if self._in_crowd and len(self._done[self._present]) < CALLS_IN_CROWD:
                return
            self._stays_in_crowd = False
            self._chosen, self._wait = self._present, SHORTEST_WAIT
        else:
            self._stays_in_crowd = self._in_crowd and self._present > self._chosen
            self._present, self._wait = self._chosen, min(2 * self._wait, LONGEST_WAIT)
        if self._chosen == larger:
            self._slowest_barrier = max(self._slowest_barrier, SLOWER * self._barrier)
        size = self.sizes[self._chosen] if self._in_crowd and self._chosen > 0 else 0
        TeamSize._left_by_crowd = size, self._last_call
        self._trained, self._crowded = 0.0, 0
