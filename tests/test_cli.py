"""The command line: train, predict, info; reports, wrong arguments."""

from __future__ import annotations

import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import cli, datasets

FASTNN = [sys.executable, "-m", "fastnn"]
QUICK = ["--epochs", "2", "--hidden", "16"]


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """No data but the bundled digits, no network; the working folder is empty."""
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(datasets, "MIRRORS", {"mnist": (), "fashion-mnist": ()})
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)


def write_csv(path="table.csv", n=60, labels=("no", "yes")):
    """Two features on very different scales; the class is the sign of their scaled sum."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(1000, 100, n), rng.normal(0, 0.01, n)
    text = "".join(
        f"{x},{z},{labels[int((x - 1000) / 100 + z / 0.01 > 0)]}\n"
        for x, z in zip(a.tolist(), b.tolist(), strict=True)
    )
    Path(path).write_text("length,width,kind\n" + text)


def one_line_error(capsys, code, expected=2):
    """The command's error message, after checking that it is one line and no more."""
    error = capsys.readouterr().err
    assert code == expected
    assert error.count("\n") == 1
    assert error.startswith("fastnn")
    return error


# ---- train


def test_installed_command_trains_on_digits_as_promised():
    command = Path(sys.executable).with_name("fastnn")
    done = subprocess.run(
        [command, "train", "digits", "--report", "r.json"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(Path("r.json").read_text())
    assert report["test_accuracy"] >= 0.93
    assert f"test accuracy {100 * report['test_accuracy']:.2f} %" in done.stdout
    assert len(re.findall(r"^epoch ", done.stdout, re.MULTILINE)) == report["epochs"]


def test_report_says_what_happened(backend):
    arguments = ["--threads", "1", "--backend", backend, "--seed", "3", "--validation", "0.2"]
    code = cli.main(["train", "digits", *QUICK, *arguments, "--report", "r.json", "--save", "m"])
    report = json.loads(Path("r.json").read_text())
    assert code == 0
    expected = {"data": "digits", "epochs": 2, "n_train": 5000, "n_validation": 1000, "seed": 3,
                "n_test": 1000, "n_threads": 1, "backend": backend, "dtype": "float32",
                "layer_sizes": [784, 16, 10], "batch_size": 32, "optimizer": "adam",
                "activation": "relu", "learning_rate": 0.001, "l2": 0.0}  # fmt: skip
    assert {name: report[name] for name in expected} == expected
    isa = fastnn.load("m", backend=backend)._engine().isa
    assert report["isa"] == isa
    assert report["train_seconds"] > 0
    assert 0 < 8000 / report["train_seconds"] <= report["samples_per_second"]
    flops = 6 * 10 * 16 + 4 * 16 * 784
    assert math.isclose(report["gflops"], report["samples_per_second"] * flops / 1e9)
    _, _, X_test, y_test = datasets.load_digits_subset()
    scores = fastnn.load("m", backend=backend).evaluate(X_test, y_test)
    assert (report["test_accuracy"], report["test_loss"]) == (scores["accuracy"], scores["loss"])


def test_share_of_the_peak_belongs_to_the_compiled_backend(backend, capsys):
    assert cli.main(["train", "digits", *QUICK, "--backend", backend, "--report", "r.json"]) == 0
    report = json.loads(Path("r.json").read_text())
    out = capsys.readouterr().out
    assert "GFLOP/s" in out
    if backend == "cython":
        share = report["gflops"] / report["fma_peak_gflops"]
        assert math.isclose(report["fma_peak_share"], share)
        assert "% of the FMA peak" in out
    else:
        assert report["fma_peak_gflops"] is report["fma_peak_share"] is None
        assert "peak" not in out


def test_same_seed_same_network():
    for name, seed in [("a", "1"), ("b", "1"), ("c", "2")]:
        assert cli.main(["train", "digits", *QUICK, "--seed", seed, "--save", name]) == 0
    a, b, c = (fastnn.load(name).weights[0] for name in "abc")
    assert (a == b).all()
    assert not (a == c).all()


def test_plain_log_has_a_line_per_epoch(capsys):
    assert cli.main(["train", "digits", *QUICK]) == 0
    out = capsys.readouterr().out
    pattern = (
        r"epoch (\d)/2  loss [\d.]+  val_loss [\d.]+  val_accuracy 0\.\d{4}  [\d,]+ samples/s  "
    )
    assert re.findall(pattern, out) == ["1", "2"]
    assert "\x1b" not in out


def test_without_validation_all_samples_train(capsys):
    assert cli.main(["train", "digits", *QUICK, "--validation", "0"]) == 0
    out = capsys.readouterr().out
    assert "5,000 samples to train on, 0 to validate, 1,000 to test" in out
    assert "val_accuracy" not in out


@pytest.mark.parametrize(
    ("option", "values"),
    {
        "--activation": ["tanh", "mish"],
        "--optimizer": ["sgd", "adam"],
        "--hidden": ["none", "8", "8,4"],
        "--dtype": ["float64"],
        "--batch-size": ["500"],
        "--lr": ["0.01"],
        "--lr-end": ["0.5"],
        "--l2": ["0.1"],
    }.items(),
)
def test_options_reach_the_network(option, values):
    write_csv(n=30)
    names = {"--lr": "learning_rate", "--hidden": "layer_sizes"}
    name = names.get(option, option.strip("-").replace("-", "_"))
    for value in values:
        assert cli.main(["train", "table.csv", *QUICK, option, value, "--report", "r.json"]) == 0
        found = json.loads(Path("r.json").read_text())[name]
        if option == "--hidden":
            value = [2, *([] if value == "none" else map(int, value.split(","))), 2]
        assert found == (type(found)(value) if isinstance(found, int | float) else value)


@pytest.mark.parametrize(("epochs", "full"), [(1, 1), (2, 2), (3, 2), (6, 4)])
def test_learning_rate_falls_for_the_last_third(epochs, full):
    net = fastnn.MLP((2, 3, 2))
    net.fit(np.eye(2), [0, 1], epochs, learning_rate=0.5, callbacks=cli.train.LowerAtTheEnd(0.1))
    assert net.history["learning_rate"] == pytest.approx([0.5] * full + [0.05] * (epochs - full))


def test_momentum_changes_sgd():
    write_csv(n=30)
    for name, momentum in [("a", "0"), ("b", "0.9")]:
        arguments = ["--optimizer", "sgd", "--momentum", momentum, "--save", name]
        assert cli.main(["train", "table.csv", *QUICK, *arguments]) == 0
    assert not (fastnn.load("a").weights[0] == fastnn.load("b").weights[0]).all()


def test_mnist_offline_uses_the_bundled_digits_and_says_so(capsys):
    assert cli.main(["train", "mnist", *QUICK, "--report", "r.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("mnist cannot be downloaded: using the 6,000" in line for line in lines) == 1
    report = json.loads(Path("r.json").read_text())
    assert (report["data"], report["n_train"]) == ("digits", 5000)


def test_fashion_mnist_offline_is_an_error(capsys):
    error = one_line_error(capsys, cli.main(["train", "fashion-mnist", *QUICK]))
    assert "set FASTNN_DATA" in error


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_named_data_is_taken_from_fastnn_data(tmp_path, monkeypatch, capsys, name):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).symlink_to(datasets.BUNDLED_FOLDER)
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path / "data"))
    assert cli.main(["train", name, *QUICK, "--report", "r.json"]) == 0
    assert json.loads(Path("r.json").read_text())["data"] == name
    assert capsys.readouterr().out.startswith(f"{name}: 4,500 samples")


# ---- tables


def test_classes_from_csv_are_learned_and_named(capsys):
    write_csv(n=400)
    assert cli.main(["train", "table.csv", "--save", "m", "--report", "r.json"]) == 0
    report = json.loads(Path("r.json").read_text())
    assert report["test_accuracy"] > 0.9
    assert report["classes"] == ["no", "yes"]
    assert "its classes: 0 no, 1 yes" in capsys.readouterr().out


def test_saved_regression_takes_and_gives_values_as_they_are(capsys):
    rng = np.random.default_rng(0)
    X = rng.normal([1000, 0], [100, 0.01], (400, 2))
    y = 5e4 + 3 * X[:, 0] + 2e4 * X[:, 1]
    np.savez("t.npz", X_train=X[:300], y_train=y[:300], X_test=X[300:], y_test=y[300:])
    assert cli.main(["train", "t.npz", "--save", "m", "--report", "r.json"]) == 0
    report = json.loads(Path("r.json").read_text())
    assert report["test_r2"] > 0.95
    assert "test_accuracy" not in report
    assert math.isclose(fastnn.load("m").evaluate(X[300:], y[300:])["r2"], report["test_r2"])
    assert f"test R2 {report['test_r2']:.4f}" in capsys.readouterr().out


def test_tiny_table_trains_without_validation():
    Path("t.csv").write_text("1,2,a\n3,4,b\n5,6,a\n7,8,b\n")
    assert cli.main(["train", "t.csv", "--epochs", "1", "--report", "r.json"]) == 0
    report = json.loads(Path("r.json").read_text())
    assert (report["n_train"], report["n_validation"], report["n_test"]) == (3, 0, 1)


# ---- predict, info


@pytest.fixture
def model():
    write_csv()
    assert cli.main(["train", "table.csv", *QUICK, "--save", "model"]) == 0
    rows = np.loadtxt("table.csv", delimiter=",", skiprows=1, usecols=(0, 1))
    return fastnn.load("model"), rows


def test_predict_prints_classes(model, capsys):
    net, X = model
    capsys.readouterr()
    assert cli.main(["predict", "model", "table.csv"]) == 0
    assert [int(line) for line in capsys.readouterr().out.split()] == net.predict(X).tolist()


def test_predict_prints_probabilities_that_read_back_the_same(model, capsys):
    net, X = model
    capsys.readouterr()
    assert cli.main(["predict", "model", "table.csv", "--proba"]) == 0
    printed = np.loadtxt(io.StringIO(capsys.readouterr().out), delimiter=",", dtype=np.float32)
    assert (printed == net.predict_proba(X)).all()


@pytest.mark.parametrize("suffix", [".csv", ".npy"])
def test_predict_writes_files(model, suffix, capsys):
    net, X = model
    capsys.readouterr()
    output = f"out{suffix}"
    assert cli.main(["predict", "model", "table.csv", "--output", output]) == 0
    values = np.load(output) if suffix == ".npy" else np.loadtxt(output, dtype=int)
    assert values.tolist() == net.predict(X).tolist()
    assert capsys.readouterr().out == ""


WRONG_PREDICT = {
    "no model": (["nothing", "table.csv"], "nothing: No such file"),
    "not a model": (["table.csv", "table.csv"], "table.csv"),
    "no file": (["model", "nothing.csv"], "nothing.csv: No such file"),
    "wrong width": (["model", "wide.npy"], "(3, 5)"),
    "other ending": (["model", "table.csv", "--output", "out.txt"], "expected a name in .csv"),
    "no folder": (["model", "table.csv", "--output", "no/out.csv"], "no/out.csv: No such file"),
}


@pytest.mark.parametrize("case", WRONG_PREDICT)
def test_wrong_predict_is_one_line(model, capsys, case):
    np.save("wide.npy", np.zeros((3, 5)))
    arguments, message = WRONG_PREDICT[case]
    capsys.readouterr()
    assert message in one_line_error(capsys, cli.main(["predict", *arguments]))


def test_predict_into_a_closed_pipe_is_quiet(model):
    np.save("rows.npy", np.zeros((50_000, 2)))  # more output than a pipe holds
    with subprocess.Popen(
        [*FASTNN, "predict", "model", "rows.npy", "--proba"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline().count(b",") == 1
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_info_names_version_backends_and_instruction_sets(capsys):
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    for name in (fastnn.__version__, *fastnn.available_backends(), *fastnn.available_isas()):
        assert name in out
    assert "threads" in out
    assert "caches" in out


# ---- wrong arguments

WRONG = {
    "no command": ([], "COMMAND"),
    "unknown command": (["trian"], "trian"),
    "no data": (["train"], "data"),
    "unknown data": (["train", "imagenet"], "mnist, fashion-mnist, digits, FILE.npz or FILE.csv"),
    "missing file": (["train", "none.npz"], "none.npz: No such file"),
    "missing csv": (["train", "none.csv"], "none.csv: No such file"),
    "folder": (["train", "folder.csv"], "folder.csv: Is a directory"),
    "unknown option": (["train", "digits", "--layers", "3"], "--layers"),
    "epochs 0": (["train", "digits", "--epochs", "0"], "--epochs: '0' is not a positive integer"),
    "epochs 1.5": (["train", "digits", "--epochs", "1.5"], "not a positive integer"),
    "batch size -1": (["train", "digits", "--batch-size=-1"], "not a positive integer"),
    "hidden": (["train", "digits", "--hidden", "12,,3"], "--hidden"),
    "activation": (["train", "digits", "--activation", "step"], "relu"),
    "optimizer": (["train", "digits", "--optimizer", "sdg"], "sgd"),
    "momentum of adam": (["train", "digits", "--momentum", "0.9"], "--optimizer sgd"),
    "momentum 1": (["train", "digits", "--optimizer", "sgd", "--momentum", "1"], "momentum"),
    "lr 0": (["train", "digits", "--lr", "0"], "--lr: '0' is not a number above 0"),
    "lr nan": (["train", "digits", "--lr", "nan"], "not a number above 0"),
    "l2 negative": (["train", "digits", "--l2", "-1"], "l2"),
    "seed negative": (["train", "digits", "--seed", "-1"], "seed"),
    "threads 0": (["train", "digits", "--threads", "0"], "--threads"),
    "backend": (["train", "digits", "--backend", "cuda"], "numpy"),
    "dtype": (["train", "digits", "--dtype", "float16"], "float32"),
    "validation 1": (["train", "digits", "--validation", "1"], "not a share"),
    "test 0": (["train", "table.csv", "--test", "0"], "--test 0"),
    "save": (["train", "digits", "--save", "no/folder/m"], "no folder"),
    "report": (["train", "digits", "--report", "no/r.json"], "no folder"),
    "target is no number": (["train", "table.csv", "--task", "regression"], "is not a number"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_one_line_and_exit_code_2(capsys, case):
    write_csv()
    Path("folder.csv").mkdir()
    arguments, message = WRONG[case]
    assert message in one_line_error(capsys, cli.main(arguments))


def test_wrong_arguments_end_the_process_with_code_2():
    done = subprocess.run([*FASTNN, "train", "none.csv"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fastnn: error: none.csv: No such file or directory\n"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["predict", "--help"]])
def test_help_explains(capsys, arguments):
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "usage: fastnn" in out


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastnn {fastnn.__version__}\n"


def test_divergence_is_one_line_and_exit_code_1(capsys):
    arguments = ["train", "digits", "--optimizer", "sgd", "--lr", "1e30", "--save", "m"]
    assert "learning_rate" in one_line_error(capsys, cli.main(arguments), expected=1)
    assert not Path("m").exists()
