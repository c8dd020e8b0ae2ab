"""Training as it goes on: Ctrl-C on the command line, the display on a terminal and elsewhere."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import blobs

import fastnn
from fastnn import callbacks, cli, datasets
from fastnn.callbacks import Checkpoint, Progress

FASTNN = [sys.executable, "-m", "fastnn"]
QUICK = ["--epochs", "2", "--hidden", "16"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# ---- Ctrl-C


class InterruptInEpoch2(callbacks.Callback):
    def on_progress(self, run):
        if run.epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("save", [[], ["--save", "m"]], ids=["plain", "save"])
def test_interrupted_training_saves_if_told_to(monkeypatch, capsys, save):
    monkeypatch.setattr(cli.train, "Progress", InterruptInEpoch2)
    X = np.random.default_rng(0).normal(1000, 100, (200, 2))
    np.savez("t.npz", X=X, y=(X[:, 0] > X[:, 1]).astype(int))
    assert cli.main(["train", "t.npz", "--epochs", "9", *save]) == 130
    assert Path("m").exists() == bool(save)
    error = capsys.readouterr().err
    assert error.startswith("interrupted")
    assert error.count("\n") == 1
    if save:
        net = fastnn.load("m")
        assert net.epochs_trained == 1
        assert np.isfinite(net.forward(X)).all()


def test_ctrl_c_ends_the_process_with_130_and_a_usable_model():
    arguments = ["train", "digits", "--hidden", "16", "--epochs", "1000000", "--save", "m"]
    with subprocess.Popen(
        [*FASTNN, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs ignore SIGINT, and so would their children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        for line in process.stdout:
            if line.startswith("epoch"):
                process.send_signal(signal.SIGINT)
                break
        _, error = process.communicate()
    assert process.returncode == 130
    assert error == "interrupted; the network as it was is in m\n"
    _, _, X_test, y_test = datasets.load_digits_subset()
    assert fastnn.load("m").evaluate(X_test, y_test)["accuracy"] > 0.5


# ---- the display on a terminal


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_terminal_gets_a_live_display(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert cli.main(["train", "digits", *QUICK]) == 0
    out = sys.stdout.getvalue()
    assert re.search(r"epoch 2/2 .*loss \d\.\d{4}  validation \d\d\.\d\d %  [\d,]+ samples/s", out)
    assert "s left" in out
    assert "\x1b[?25l" in out  # the cursor is hidden
    assert "\x1b[?25h" in out  # and shown again


def test_terminal_without_rich_gets_the_log_and_a_hint(monkeypatch, capsys):
    for name in ("rich", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.main(["train", "digits", *QUICK]) == 0
    out = capsys.readouterr().out
    assert out.count("pip install 'fastnn-cpu[cli]'") == 1
    assert len(re.findall(r"^epoch \d/2  loss", out, re.MULTILINE)) == 2


# ---- in Python

X, Y = blobs(100)


def model(backend="auto"):
    return fastnn.MLP((4, 6, 3), "tanh", seed=5, backend=backend)


def test_plain_lines_where_stdout_is_no_terminal(backend, capsys):
    model(backend).fit(X, Y, epochs=11, validation=0.2, callbacks=Progress())
    lines = capsys.readouterr().out.splitlines()
    values = r"  loss [\d.]+  val_loss [\d.]+  val_accuracy [\d.]+  [\d,]+ samples/s  .* s left"
    assert len(lines) == 11
    for epoch, line in enumerate(lines, 1):
        assert re.fullmatch(f"epoch {epoch:2}/11{values}", line)
    assert lines[-1].endswith("  0.0 s left")


def test_lines_of_a_resumed_run_go_on(backend, tmp_path, capsys):
    model(backend).fit(X, Y, epochs=2, callbacks=Checkpoint(tmp_path / "run"))
    model(backend).fit(X, Y, epochs=4, callbacks=Progress(live=False), resume=tmp_path / "run")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 3/4", "epoch 4/4"]


def test_a_live_display_without_rich_is_an_import_error(monkeypatch):
    for name in ("rich", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)
    net = model()
    with pytest.raises(ImportError, match=r"pip install 'fastnn-cpu\[cli\]'"):
        net.fit(X, Y, callbacks=Progress(live=True))
    assert net.epochs_trained == 0


def test_a_live_display_ends_where_the_training_fails(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    shown = Progress(live=True)
    with pytest.raises(ZeroDivisionError):
        model().fit(X, Y, epochs=3, callbacks=[shown, lambda run: 1 // 0])
    assert shown._display._progress.live.is_started is False
    assert "epoch 1/3" in capsys.readouterr().out
