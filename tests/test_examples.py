"""Every file in examples/ runs, and prints what it is there to show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def test_every_example_has_a_test():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {name.removeprefix("test_example_") for name in globals()
                     if name.startswith("test_example_")}  # fmt: skip


def test_example_logic_gates():
    found = re.findall(r"^(OR|AND|XOR) +([\d-]+) .* (\d) of 4 right$", run("logic_gates"), re.M)
    right = {(gate, layers): int(n) for gate, layers, n in found}
    assert right.pop(("XOR", "2-1")) < 4
    assert right == {("OR", "2-1"): 4, ("AND", "2-1"): 4, ("XOR", "2-4-1"): 4}


def test_example_universal_approximation():
    table = [line.split() for line in run("universal_approximation").splitlines()[1:]]
    widths = [int(row[0]) for row in table]
    errors = [float(row[2]) for row in table]
    assert widths == [1, 2, 4, 8, 16, 32]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 20


def test_example_mnist(tmp_path):
    out = run("mnist", FASTNN_DATA="", XDG_CACHE_HOME=str(tmp_path))
    assert re.search(r"^epoch 10/10 ", out, re.M)
    accuracy = float(re.search(r"^test accuracy ([\d.]+) %$", out, re.M)[1])
    assert 92 < accuracy <= 100


def test_example_text_tfidf(tmp_path):
    out = run("text_tfidf", SCIKIT_LEARN_DATA=str(tmp_path))
    accuracy = float(re.search(r"^test accuracy ([\d.]+) %$", out, re.M)[1])
    assert 95 < accuracy <= 100
    word = re.search(r"^astronomy: (\w+)$", out, re.M)[1]
    assert word in (EXAMPLES / "text_tfidf.py").read_text(encoding="utf-8")


def test_example_larger_than_memory():
    out = run("larger_than_memory", "--gigabytes", "0.5", "--seconds", "1000")
    size, on_disk = re.search(
        r"^([\d.]+) GB in [\d,]+ images, (\d+) MB on the disk$", out, re.M
    ).groups()
    assert float(size) == 0.5
    assert float(on_disk) < 50
    assert float(re.search(r"^accuracy on the first block ([\d.]+) %$", out, re.M)[1]) > 95


def test_python_of_the_readme_runs(tmp_path):
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S)
    assert len(blocks) == 2
    done = subprocess.run(
        [sys.executable, "-c", "".join(blocks)], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    accuracy = re.search(r"'accuracy': ([\d.]+)", done.stdout)
    assert float(accuracy[1]) > 0.92
    assert re.search(r"^\[\d( \d){4}\]$", done.stdout, re.M)
