"""fastnn built anew with a sanitizer, in an environment of its own beside the one that runs the tests.

The environment sees all packages of the one outside, but for fastnn, of which it has its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILDERS = ("scikit_build_core", "cython_cmake", "Cython")


def build(folder: Path, settings: Mapping[str, str]) -> Path:
    """The interpreter of an environment made in `folder`; settings: CC, CFLAGS, LDFLAGS."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    version = f"python{sysconfig.get_python_version()}"
    outside = [path for path in sys.path if Path(path).name == "site-packages"]
    packages = folder / "lib" / version / "site-packages"
    packages.joinpath("outside.pth").write_text("\n".join(outside) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps"]
    if all(find_spec(name) for name in BUILDERS):
        pip.append("--no-build-isolation")
    scripts = sysconfig.get_path("scripts")
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", **settings}
    options = [f"build-dir={folder / 'build'}", "cmake.define.FASTNN_OPTIMIZATION=-O1"]
    pip += [f"--config-settings={option}" for option in options]
    subprocess.run([*pip, str(ROOT)], check=True, env=environment)
    return python


def library(name: str) -> str:
    """Where gcc has its library of that name."""
    command = ["gcc", f"-print-file-name={name}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def clang_library(name: str) -> str | None:
    """Where clang has its library of that name; None if it, or clang, is not there."""
    if shutil.which("clang") is None:
        return None
    command = ["clang", f"-print-file-name={name}"]
    path = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return path if os.path.isabs(path) else None


def check_that_it_is_used(python: Path, environment: Mapping[str, str], *symbols: str) -> None:
    """Raises AssertionError unless that interpreter imports an extension that calls the sanitizer."""
    code = "from fastnn.backends import _team; print(_team.__file__)"
    command = [python, "-c", code]
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    path = Path(run.stdout.strip())
    assert path.is_relative_to(python.parents[1]), path
    assert all(symbol.encode() in path.read_bytes() for symbol in symbols), symbols
