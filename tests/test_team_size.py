"""The number of threads that training chooses for itself, by a clock that the tests turn."""

import itertools
import math

import pytest

from fastnn.backends import team_size
from fastnn.backends.team_size import TeamSize


class Machine:
    """Trains at rates[size] rows per second, in steps of `step_rows`, which a call does not cut;
    each thread has a core for `share` of the time.
    """

    def __init__(self, monkeypatch, largest, rates, share=1.0, is_open=True, step_rows=1):
        self.now, self.rates, self.share, self.barrier = 100.0, rates, share, 1e-7
        self.step_rows = step_rows
        monkeypatch.setattr(team_size.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(TeamSize, "_left_by_crowd", (0, -math.inf))
        self.team = TeamSize(largest, is_open)

    def rate(self, size):
        """rates[size], or the next of them, where they are an iterator."""
        rate = self.rates[size]
        return rate if isinstance(rate, float) else next(rate)

    def call(self):
        """One native call of at most 0.05 s, or one step; its size and length."""
        size, seconds = self.team.next_call(0.05)
        rate = self.rate(size)
        seconds = max(seconds, self.step_rows / rate)
        self.now += seconds
        barrier = self.barrier if size > 1 else 0.0
        self.team.report(round(rate * seconds), seconds, self.share, barrier)
        return size, seconds

    def share_of_time(self, size, seconds):
        """For how much of about `seconds` the team had that size."""
        end, own = self.now + seconds, 0.0
        while self.now < end:
            chosen, took = self.call()
            own += took * (chosen == size)
        return own / seconds


def test_a_given_number_is_kept(monkeypatch):
    machine = Machine(monkeypatch, 4, {4: 1.0e6}, share=0.1, is_open=False)
    assert {machine.call()[0] for _ in range(100)} == {4}


@pytest.mark.parametrize("largest", [1, 2, 3, 8])
def test_sizes_halve_down_to_one(largest):
    sizes = TeamSize(largest, is_open=True).sizes
    assert sizes[0] == largest
    assert sizes[-1] == 1
    assert all(b == (a + 1) // 2 for a, b in itertools.pairwise(sizes))


def test_on_a_quiet_machine_the_whole_team_works_nearly_always(monkeypatch):
    machine = Machine(monkeypatch, 2, {1: 1.0e6, 2: 1.9e6})
    assert machine.share_of_time(2, 10.0) > 0.97


def test_long_steps_on_a_smaller_team_become_rare(monkeypatch):
    """Each costs another step's time: 1/20 of it all, were it tried every 20 steps."""
    machine = Machine(monkeypatch, 2, {1: 1.0e3, 2: 1.9e3}, step_rows=1000)
    machine.share_of_time(2, 100.0)
    assert machine.share_of_time(2, 500.0) > 0.98


def test_a_crowded_team_shrinks_at_once(monkeypatch):
    machine = Machine(monkeypatch, 2, {1: 1.0e6, 2: 0.4e6}, share=0.5)
    calls = [machine.call() for _ in range(3)]
    assert [size for size, _ in calls] == [2, 2, 1]
    assert sum(seconds for _, seconds in calls) < 0.1
    assert machine.share_of_time(1, 10.0) > 0.95


def test_a_crowded_team_that_is_still_faster_stays(monkeypatch):
    machine = Machine(monkeypatch, 2, {1: 1.0e6, 2: 1.3e6}, share=0.8)
    machine.call()
    assert machine.share_of_time(2, 10.0) > 0.95


def test_a_lucky_slice_of_time_wins_no_trial_in_a_crowd(monkeypatch):
    """A thread has a core to itself half of the time; a team, now and then, for one call."""
    single, team = itertools.cycle([1.0e6, 0.5e6, 0.5e6, 1.0e6]), itertools.cycle([0.9e6, 0.1e6])
    machine = Machine(monkeypatch, 2, {1: single, 2: team}, share=0.5)
    assert machine.share_of_time(1, 10.0) > 0.95


def test_a_crowd_is_still_there_for_the_next_training(monkeypatch):
    machine = Machine(monkeypatch, 2, {1: 1.0e6, 2: 0.4e6}, share=0.5)
    machine.share_of_time(1, 1.0)
    machine.team = TeamSize(2, is_open=True)
    assert machine.call()[0] == 1
    machine.team = TeamSize(2, is_open=False)
    assert machine.call()[0] == 2
    machine.now += team_size.LONGEST_WAIT
    machine.team = TeamSize(2, is_open=True)
    assert machine.call()[0] == 2


def test_when_the_crowd_is_gone_so_is_its_memory(monkeypatch):
    machine = Machine(monkeypatch, 2, {1: 1.0e6, 2: 0.4e6}, share=0.5)
    machine.share_of_time(1, 1.0)
    machine.rates, machine.share = {1: 1.0e6, 2: 1.9e6}, 1.0
    machine.share_of_time(2, 1.0)
    machine.team = TeamSize(2, is_open=True)
    assert machine.call()[0] == 2


def test_a_slow_team_shrinks_though_no_clock_shows_a_crowd(monkeypatch):
    machine = Machine(monkeypatch, 2, {1: 1.0e6, 2: 0.5e6})
    assert machine.share_of_time(1, 10.0) > 0.85


@pytest.mark.parametrize("barrier", [3e-8, 4e-7])  # on one core, far apart
@pytest.mark.parametrize(("rate", "kept"), [(0.8e6, 1), (1.2e6, 2)])
def test_a_team_that_is_moved_tries_a_smaller_one_at_once(monkeypatch, rate, kept, barrier):
    machine = Machine(monkeypatch, 2, {1: 1.0e6, 2: 1.9e6})
    machine.share_of_time(2, 10.0)
    machine.rates[2], machine.barrier = rate, barrier
    assert [machine.call()[0] for _ in range(2)] == [2, 1]
    assert machine.share_of_time(kept, 10.0) > 0.9


def test_a_shrunk_team_grows_again_when_the_others_are_gone(monkeypatch):
    machine = Machine(monkeypatch, 2, {1: 1.0e6, 2: 0.4e6}, share=0.5)
    machine.share_of_time(1, 5.0)
    machine.rates, machine.share = {1: 1.0e6, 2: 1.9e6}, 1.0
    machine.share_of_time(2, team_size.LONGEST_WAIT)
    assert machine.share_of_time(2, 5.0) > 0.95


def test_large_teams_find_the_best_size_step_by_step(monkeypatch):
    machine = Machine(monkeypatch, 8, {8: 1.0e6, 4: 2.0e6, 2: 3.0e6, 1: 2.5e6}, share=0.5)
    machine.share_of_time(2, 1.0)
    assert machine.share_of_time(2, 10.0) > 0.95


def test_the_choice_outlives_pauses(monkeypatch):
    machine = Machine(monkeypatch, 2, {1: 1.0e6, 2: 0.8e6})
    own = 0.0
    for _ in range(50):  # trainings too short for a trial each
        machine.now += 2 * team_size.STALE
        own += machine.share_of_time(1, 0.2)
    assert own / 50 > 0.7


def test_after_a_pause_the_larger_team_is_tried_soon(monkeypatch):
    machine = Machine(monkeypatch, 2, {1: 1.0e6, 2: 0.4e6}, share=0.5)
    machine.share_of_time(1, 10.0)
    machine.rates, machine.share = {1: 1.0e6, 2: 1.9e6}, 1.0
    machine.now += 2 * team_size.STALE
    assert machine.call()[0] == 1
    assert machine.share_of_time(2, 1.0) > 0.7


def test_a_trial_compares_what_was_measured_since_the_pause(monkeypatch):
    machine = Machine(monkeypatch, 2, {1: 1.0e6, 2: 0.8e6})
    machine.share_of_time(1, 5.0)
    machine.now += 2 * team_size.STALE
    machine.rates = {1: 0.5e6, 2: 0.4e6}  # another network, or a slower host
    assert machine.share_of_time(1, 10.0) > 0.85
