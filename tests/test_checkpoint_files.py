"""Checkpoint files: loaded as a model, the newest kept, and what is refused when resuming."""

import json
import os

import numpy as np
import pytest
from conftest import assert_has, flat_of
from model_files import record_of, with_checksum
from runs import SETTINGS, X, Y, following, model, whole_run
from safetensors.numpy import load_file, save

import fastnn
from fastnn import files
from fastnn.callbacks import Checkpoint, EarlyStopping
from fastnn.optimizers import SGD
from fastnn.schedules import Cosine

pytestmark = pytest.mark.usefixtures("no_fsync")


# ---- the file as a model ----


def test_a_checkpoint_loads_as_a_model(backend, dtype, tmp_path):
    net, paths = whole_run(tmp_path / "whole", backend, dtype)
    last = fastnn.load(paths[0], backend=backend)
    assert_has(last, flat_of(net))
    assert (last.network, last.seed, last.epochs_trained) == (net.network, 5, 3)
    earlier = fastnn.load(paths[5], backend=backend)
    assert earlier.epochs_trained == 2
    np.testing.assert_array_equal(earlier.forward(X), earlier.forward(X.copy()))
    last.save(tmp_path / "model")
    assert "run" not in record_of((tmp_path / "model").read_bytes())


def test_the_newest_are_kept(tmp_path):
    names = {1: ["run"], 2: ["run", "run.1"], 3: ["run", "run.1", "run.2"]}
    for keep, kept in names.items():
        folder = tmp_path / str(keep)
        folder.mkdir()
        model().fit(X, Y, epochs=5, callbacks=Checkpoint(folder / "run", keep=keep))
        assert sorted(os.listdir(folder)) == kept
        assert [fastnn.load(folder / name).epochs_trained for name in kept] == [5, 4, 3][:keep]


def test_the_newest_are_kept_where_there_are_no_links(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", fail)
    model().fit(X, Y, epochs=5, callbacks=Checkpoint(tmp_path / "run", keep=3))
    names = ["run", "run.1", "run.2"]
    assert sorted(os.listdir(tmp_path)) == names
    assert [fastnn.load(tmp_path / name).epochs_trained for name in names] == [5, 4, 3]


@pytest.mark.parametrize("function", ["link", "replace"])
def test_a_writer_that_dies_leaves_all_files_readable(tmp_path, monkeypatch, function):
    """At each of its calls in turn; the next run does not keep the same checkpoint twice."""
    path, real = tmp_path / "run", getattr(os, function)
    for call in range(1, 8):
        calls = 0

        def dying(*arguments, **others):
            nonlocal calls
            calls += 1
            if calls == call:  # noqa: B023
                raise KeyboardInterrupt
            return real(*arguments, **others)

        monkeypatch.setattr(os, function, dying)
        with pytest.raises(KeyboardInterrupt):
            model().fit(X, Y, epochs=9, callbacks=Checkpoint(path, keep=3))
        monkeypatch.setattr(os, function, real)
        written = sorted(os.listdir(tmp_path))
        assert written == [p for p in ("run", "run.1", "run.2") if p in written]
        for name in written:
            assert files.read(tmp_path / name).run
        model().fit(X, Y, epochs=9, callbacks=Checkpoint(path, keep=3), resume=True)
        ages = [fastnn.load(tmp_path / p).epochs_trained for p in ("run", "run.1", "run.2")]
        assert ages == [9, 8, 7]
        for name in os.listdir(tmp_path):
            (tmp_path / name).unlink()


def test_what_a_killed_writer_left_is_cleared(tmp_path):
    left, others = tmp_path / ".run.0123456789ab.tmp", tmp_path / ".other.0123456789ab.tmp"
    for path in (left, others):
        path.write_bytes(b"half")
    model().fit(X, Y, epochs=1, callbacks=Checkpoint(tmp_path / "run"))
    assert not left.exists()
    assert others.exists()


# ---- what is refused ----

OTHERS = {
    "layer_sizes": ({"layer_sizes": (4, 7, 3)}, {}),
    "activation": ({"activation": "relu"}, {}),
    "dtype": ({"dtype": "float64"}, {}),
    "seed": ({"seed": 6}, {}),
    "backend": ({"backend": "numpy"}, {}),
    "batch_size": ({}, {"batch_size": 24}),
    "optimizer": ({}, {"optimizer": SGD(momentum=0.5)}),
    "learning_rate": ({}, {"learning_rate": Cosine(0.02)}),
    "learning_rate_factors": ({}, {"learning_rate_factors": (1.0, 0.5)}),
    "l2": ({}, {"l2": 1e-9}),
    "l1": ({}, {"l1": 1e-9}),
    "shuffle": ({}, {"shuffle": False}),
    "loss": ({}, {"label_smoothing": 0.1}),
    "metrics": ({}, {"metrics": ["accuracy", "log_loss"]}),
    "dropout": ({}, {"dropout": 0.1}),
    "clip_value": ({}, {"clip_value": 10.0}),
    "clip_norm": ({}, {"clip_norm": 10.0}),
    "X": ({}, {"X": np.where(np.arange(400).reshape(100, 4) == 399, 0, X)}),
    "y": ({}, {"y": (Y + (np.arange(100) == 99)) % 3}),
    "sample_weight": ({}, {"class_weight": {1: 2.0}}),
    "validation rows": ({}, {"validation": 0.21}),
    "validation X": ({}, {"validation": (X[:20], Y[:20])}),
    "callbacks that keep a state": ({}, {"callbacks": EarlyStopping("loss", min_delta=0.1)}),
}


@pytest.mark.compiled
@pytest.mark.parametrize("name", OTHERS)
def test_another_run_is_refused_by_name(tmp_path, name):
    paths = whole_run(tmp_path / "whole", "cython")[1]
    of_model, of_fit = OTHERS[name]
    net = model(**{"backend": "cython"} | of_model)
    before = flat_of(net)
    arguments = {"X": X, "y": Y, "callbacks": following()} | SETTINGS | of_fit
    with pytest.raises(ValueError, match="is of another run:") as error:
        net.fit(**arguments, resume=paths[4])
    assert f"\n  {name}: " in str(error.value)
    assert str(paths[4]) in str(error.value)
    assert not isinstance(error.value, fastnn.ModelFileError)
    assert_has(net, before)
    assert (net.epochs_trained, net.history) == (0, {})
    net.fit(X, Y, epochs=1)


def test_all_differences_are_listed(tmp_path):
    paths = whole_run(tmp_path / "whole")[1]
    with pytest.raises(ValueError, match="another run") as error:
        model(layer_sizes=(4, 7, 3), seed=1).fit(
            X, Y, **SETTINGS | {"batch_size": 7}, optimizer="sgd", resume=paths[3]
        )
    lines = str(error.value).split("\n  ")[1:]
    assert lines == [
        "layer_sizes: (4, 6, 3) in the checkpoint, (4, 7, 3) here",
        "seed: 5 in the checkpoint, 1 here",
        "batch_size: 23 in the checkpoint, 7 here",
        lines[3],
        *lines[4:6],
        "callbacks that keep a state: EarlyStopping(monitor='loss', min_delta=0.0, mode='min'), "
        "EMA(decay=0.9, every_steps=2), SWA(first_epoch=2) in the checkpoint, none here",
    ]
    adam = "Adam(betas=(0.9, 0.999), eps=1e-08, epsilon_hat=False)"
    assert lines[3].startswith(f"optimizer: {adam} in the checkpoint,")


def rewritten(path, change):
    """The file after change(record of the run, tensors)."""
    record, tensors = record_of(path.read_bytes()), load_file(path)
    change(record["run"], tensors)
    write(path, record, tensors)


def write(path, record, tensors):
    path.write_bytes(with_checksum(save(tensors, {files.FORMAT: json.dumps(record)})))


PARTS = ("progress", "settings", "history", "callbacks")
COUNTS, AMOUNTS = ("epoch", "position", "step", "t"), ("sum_of_losses", "seconds", "learning_rate")


def without(part):
    return lambda run, tensors: run.pop(part)


def part_is(part, value):
    return lambda run, tensors: run.update({part: value})


def progress_is(name, value):
    return lambda run, tensors: run["progress"].update({name: value})


def tensor_is(name, array):
    return lambda run, tensors: tensors.update({f"run.{name}": array})


def without_history(run, tensors):
    for name in run["history"]:
        tensors.pop(f"run.history.{name}")
    run["history"] = []


DAMAGES = {
    **{f"no {part}": without(part) for part in PARTS},
    **{f"{p} {v!r}": part_is(p, v) for p in PARTS for v in (None, 3, "x", [1])},
    **{f"{c} {v!r}": progress_is(c, v) for c in COUNTS for v in (-1, 10**30, 1.0, "1", None, True)},
    **{f"{a} {v!r}": progress_is(a, v) for a in AMOUNTS for v in (np.nan, np.inf, 1, "1", None)},
    "unknown progress": progress_is("more", 1),
    "within a step": progress_is("position", 24),
    "beyond the epoch": progress_is("position", 81),
    "epochs without history": progress_is("epoch", 2),
    "no state": lambda run, tensors: tensors.pop("run.optimizer.0"),
    "short state": tensor_is("optimizer.0", np.ones(3, "float32")),
    "wide state": tensor_is("optimizer.0", np.ones(51)),
    "unknown state": tensor_is("optimizer.2", np.ones(3)),
    "unknown tensor": tensor_is("callback9.x", np.ones(3)),
    "unnumbered tensor": tensor_is("callback.x", np.ones(3)),
    "no history": lambda run, tensors: tensors.pop("run.history.loss"),
    "no history at all": without_history,
    "short history": tensor_is("history.loss", np.ones(0)),
    "unlisted history": lambda run, tensors: run["history"].pop(),
    "deep history": tensor_is("history.loss", np.array(1.0)),
    "fewer callbacks": lambda run, tensors: run["callbacks"].pop(),
    "callback": lambda run, tensors: run["callbacks"][0].update(best="low"),
}


@pytest.mark.compiled
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_refused(tmp_path, damage):
    paths = whole_run(tmp_path / "whole", "cython")[1]
    path = paths[8]
    rewritten(path, DAMAGES[damage])
    net = model("cython")
    before = flat_of(net)
    with pytest.raises(fastnn.ModelFileError) as error:
        net.fit(X, Y, **SETTINGS, callbacks=following(), resume=path)
    assert str(path) in str(error.value)
    assert_has(net, before)
    assert net.epochs_trained == 0
    net.fit(X, Y, epochs=1)


def test_a_file_from_the_future_and_foreign_tensors(tmp_path):
    path = whole_run(tmp_path / "whole")[1][0]
    record, tensors = record_of(path.read_bytes()), load_file(path)
    write(path, record | {"format_version": 4}, tensors)
    with pytest.raises(fastnn.ModelFileError, match="version 4, this fastnn reads up to 3; update"):
        model().fit(X, Y, resume=path)
    for foreign in ({"running": np.ones(2)}, {"run.x": np.ones(2, "float16")}):
        write(path, record, tensors | foreign)
        for read in (files.read, fastnn.load):
            with pytest.raises(
                fastnn.ModelFileError, match=r"unknown running|'run\.x' is of dtype 'F16'"
            ):
                read(path)


def test_truncated_checkpoints(tmp_path):
    path = whole_run(tmp_path / "whole")[1][0]
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(fastnn.ModelFileError, match=r"not a model file|truncated"):
            model().fit(X, Y, resume=path)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"every": 0}, ValueError, "every must be an integer of at least 1"),
        ({"every_steps": 1.5}, TypeError, "every_steps must be an integer"),
        ({"keep": 0}, ValueError, "keep must be an integer of at least 1"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        Checkpoint(tmp_path / "run", **arguments)


def test_a_folder_that_is_not_there_is_told_before_the_first_step(tmp_path):
    net = model()
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        net.fit(X, Y, callbacks=Checkpoint(tmp_path / "nowhere" / "run"))
    assert net.epochs_trained == 0
