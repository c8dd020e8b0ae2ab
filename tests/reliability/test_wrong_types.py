"""Every public function, class and method with values of every wrong type.

ROWS of public_calls.py has a row for each public name; a new one without a row fails.
test_wrong_input.py and test_wrong_arguments.py have what is wrong in more particular ways, and the
messages.
"""

import inspect
import pathlib

import numpy as np
import pytest

import fastnn
from fastnn import callbacks, datasets, losses, metrics, optimizers, schedules, streams
from reliability.public_calls import ROWS, X, Y

# What is given in place of every parameter, unless ACCEPTED says that it is a right value.
VALUES = {
    "None": None,
    "True": True,
    "0": 0,
    "1": 1,
    "-1": -1,
    "0.5": 0.5,
    "1.5": 1.5,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "10**400": 10**400,
    "complex": 1j,
    "text": "text",
    "empty text": "",
    "number in text": "1",
    "text with NUL": "a\0b",
    "lone surrogate": "\udc00",
    "bytes": b"1",
    "list": [],
    "list of texts": ["a"],
    "ragged list": [[1], [2, 3]],
    "dict": {},
    "dict of texts": {"a": "b"},
    "set": {1},
    "object": object(),
    "class": int,
    "function without parameters": lambda: None,
    "function that returns text": lambda *given: "text",
    "generator": (number for number in ()),
    "array": np.zeros(3),
    "3-D array": np.zeros((2, 2, 2)),
    "array of one": np.ones(1),
    "array of objects": np.array([None]),
    "array of text": np.array("x"),
    "date": np.datetime64("2020-01-01"),
    "path": pathlib.Path("path"),
    "module": np,
}
NUMBERS = {"0", "1", "0.5", "1.5", "True"}
EMPTY = {"list", "dict", "generator"}
ACCEPTED = {
    "nothing": set(),
    "count": {"1"},
    "count from 0": {"0", "1"},
    "count or None": {"1", "None"},
    "amount": NUMBERS,
    "positive": NUMBERS - {"0"},
    "positive or None": NUMBERS - {"0"} | {"None"},
    "at least 1": {"1", "1.5", "True"},
    "from 0 below 1": {"0", "0.5"},
    "between 0 and 1": {"0.5"},
    "smoothing": {"0", "0.5"},
    "fraction or None": {"0.5", "None"},
    "truth": set(VALUES),
    "path": {"text", "number in text", "path"},  # a file that is not there
    "none": {"None"},
    "layer": {"1", "-1", "True"},
    "metrics": EMPTY,
    "callbacks": EMPTY | {"function that returns text"},
    "mapping": {"None", "dict"},
    "class": {"class"},
    "folder": {"empty text", *EMPTY},
    "path or None": {"None"},
    "returns": {"function that returns text"},
    "decorator": {"None"},
    "name": {"text"},
    "no groups": EMPTY,
    "seed or None": {"0", "1", "None"},
}
# Public in their modules, but not for users to call: bases, what others are made of, type names.
WITHOUT_ROW = {
    "MLP.backend", "MLP.n_threads", "MLP.layer_sizes", "MLP.n_parameters",  # read only
    "DivergenceError", "ModelFileError",  # errors
    "callbacks.Run", "callbacks.WeightAverage", "callbacks.History",
    "losses.Loss", "losses.LabelLoss", "losses.get", "losses.with_smoothing",
    "losses.without_smoothing",
    "metrics.accuracy", "metrics.accuracy_of_groups", "metrics.top_k", "metrics.log_loss",
    "metrics.r2", "metrics.mae", "metrics.collect", "metrics.scores",
    "optimizers.Rule", "optimizers.get",
    "schedules.Rates", "schedules.get",
    "streams.StreamedSamples", "streams.Loader",
}  # fmt: skip


def public_names():
    """Functions, classes and the methods of MLP, as a user comes to them."""
    for name in fastnn.__all__:
        value = getattr(fastnn, name)
        if callable(value):
            yield name
    for name, value in inspect.getmembers_static(fastnn.MLP):
        if not name.startswith("_") and (callable(value) or isinstance(value, property)):
            yield f"MLP.{name}"
    for module in (callbacks, datasets, losses, metrics, optimizers, schedules, streams):
        short = module.__name__.removeprefix("fastnn.")
        own = [
            n
            for n, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__
        ]
        for name in getattr(module, "__all__", own):
            value = getattr(module, name)
            if not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value)):
                yield f"{short}.{name}"


def test_every_public_name_has_its_row():
    """Every public function, class and method is among the rows of the next test."""
    names = set(public_names())
    assert names - WITHOUT_ROW == set(ROWS)
    assert names >= WITHOUT_ROW - {"callbacks.History"}


def parameters_of(name):
    """The names of a row's parameters as the function has them."""
    module, _, attribute = name.rpartition(".")
    if module == "MLP" and isinstance(getattr(fastnn.MLP, attribute), property):
        return {"value"}
    home = fastnn if not module else fastnn.MLP if module == "MLP" else globals()[module]
    given = inspect.signature(getattr(home, attribute)).parameters
    return set(given) - {"self"}


@pytest.mark.parametrize("name", ROWS)
def test_wrong_types(name, tmp_path, monkeypatch, tally):
    """Every public function and method, every parameter, every wrong type: a ValueError or
    TypeError, or the documented error of a file; the model stays as it was."""
    call, always, kinds = ROWS[name]
    assert set(kinds) == parameters_of(name)
    monkeypatch.chdir(tmp_path)
    fastnn.MLP((3, 4, 2)).save("model")
    np.savez("shard", X=X, y=Y)
    wrong = []
    for parameter, kind in kinds.items():
        for what in VALUES.keys() - ACCEPTED[kind]:
            if call is None:
                continue
            call.backend = "auto"
            try:
                call(**always | {parameter: VALUES[what]})
            except (TypeError, ValueError) as error:
                if str(error).strip() == "":
                    wrong.append(f"{parameter}={what}: no message")
            except OSError as error:
                if not kind.startswith(("path", "folder")):
                    wrong.append(f"{parameter}={what}: {error!r}")
            except Exception as error:
                wrong.append(f"{parameter}={what}: {error!r}")
            else:
                wrong.append(f"{parameter}={what}: accepted")
            tally("wrong values")
    assert not wrong, "\n".join(wrong)
