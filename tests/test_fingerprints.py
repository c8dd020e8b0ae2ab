"""Settings and data in words: the same for the same, others for what makes a difference."""

import functools
from dataclasses import dataclass

import numpy as np
import pytest

from fastnn import fingerprints
from fastnn.fingerprints import describe, fingerprint
from fastnn.optimizers import SGD, Adam


def schedule(step):
    return 0.1


@dataclass(frozen=True)
class Warm:
    steps: int
    then: object


class Plain:
    def __init__(self, scale):
        self.scale, self._bound = scale, object()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "None"),
        (True, "True"),
        (3, "3"),
        (0.1, "0.1"),
        (np.float32(0.5), "0.5"),
        (np.float64(0.1), "0.1"),
        ("adam", "'adam'"),
        ((0.5, [1, None]), "(0.5, (1, None))"),
        ({"a": 1, 2: (3,)}, "{'a': 1, 2: (3)}"),
        (Adam(), "Adam(betas=(0.9, 0.999), eps=1e-08, epsilon_hat=False)"),
        (Warm(3, SGD(0.9)), f"Warm(steps=3, then={describe(SGD(0.9))})"),
        (schedule, "test_fingerprints.schedule"),
        (Warm(3, schedule), "Warm(steps=3, then=test_fingerprints.schedule)"),
        (SGD, "fastnn.optimizers.SGD"),
        (Plain(2.0), "Plain(scale=2.0)"),
        (functools.partial(schedule), "partial()"),
    ],
    ids=str,
)
def test_values_in_words(value, words):
    assert describe(value) == words


ARRAY = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    "same",
    [
        np.asfortranarray(ARRAY),
        np.repeat(ARRAY, 2, axis=1)[:, ::2],
        np.concatenate([ARRAY, ARRAY])[:4],
    ],
)
def test_memory_layout_makes_no_difference(same):
    assert fingerprint(same) == fingerprint(ARRAY)


@pytest.mark.parametrize(
    "other",
    [
        ARRAY.astype("float32"),
        ARRAY.reshape(3, 4),
        ARRAY[:3],
        ARRAY[::-1],
        ARRAY + (ARRAY == 7) * 1e-12,
    ],
)
def test_dtype_shape_and_values_make_one(other):
    assert fingerprint(other) != fingerprint(ARRAY)


def test_of_a_large_array_rows_are_sampled(monkeypatch):
    """Of 1000 rows of 24 bytes 100: among them the first and the last, and no two far apart."""
    monkeypatch.setattr(fingerprints, "SAMPLE_BYTES", 2400)
    large = np.zeros((1000, 3))
    before, looked_at = fingerprint(large), []
    for row in range(1000):
        large[row, 1] = 1
        if fingerprint(large) != before:
            looked_at.append(row)
        large[row, 1] = 0
    assert len(looked_at) == 100
    assert looked_at[0] == 0
    assert looked_at[-1] == 999
    assert max(np.diff(looked_at)) <= 11


def test_rows_larger_than_the_sample(monkeypatch):
    monkeypatch.setattr(fingerprints, "SAMPLE_BYTES", 8)
    wide = np.zeros((5, 1000))
    changed = wide.copy()
    changed[4, 999] = 1
    assert fingerprint(wide) != fingerprint(changed)


def test_a_memory_map(tmp_path):
    np.save(tmp_path / "x.npy", ARRAY)
    assert fingerprint(np.load(tmp_path / "x.npy", mmap_mode="r")) == fingerprint(ARRAY)
