"""fastnn built anew with a sanitizer, in an environment of its own.

It sees all packages of the environment that runs the tests, but has a fastnn of its own.
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


def archer() -> str | None:
    """The library that tells ThreadSanitizer what OpenMP orders; None if clang is without it."""
    if shutil.which("clang") is None:
        return None
    command = ["clang", "-print-resource-dir"]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    folders = Path(run.stdout.strip()).parents
    return next((str(f / "libarcher.so") for f in folders if (f / "libarcher.so").exists()), None)


def interpreter_with_thread_sanitizer(python: Path) -> Path:
    """A second interpreter beside `python`, linked with the sanitizer's runtime, as clang wants it.

    The interpreter's own code is not instrumented; its locks, being pthread's, are seen.
    """
    program, source = python.with_name("python-tsan"), python.with_name("main.c")
    source.write_text(
        "int Py_BytesMain(int, char **);"
        "int main(int argc, char **argv) { return Py_BytesMain(argc, argv); }"
    )
    folder = sysconfig.get_config_var("LIBDIR")
    library = [f"-L{folder}", f"-lpython{sysconfig.get_python_version()}", f"-Wl,-rpath,{folder}"]
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        static = Path(sysconfig.get_config_var("LIBPL")) / sysconfig.get_config_var("LIBRARY")
        library = ["-Wl,--whole-archive", str(static), "-Wl,--no-whole-archive"]
    library += ["-ldl", "-lm", "-lpthread", "-lutil"]
    flags = ["-fsanitize=thread", "-rdynamic"]
    subprocess.run(["clang", *flags, str(source), *library, "-o", str(program)], check=True)
    return program


def check_that_it_is_used(python: Path, environment: Mapping[str, str], *symbols: str) -> None:
    """AssertionError unless that interpreter imports an extension that calls the sanitizer."""
    code = "from fastnn.backends import _team; print(_team.__file__)"
    command = [python, "-c", code]
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    path = Path(run.stdout.strip())
    assert path.is_relative_to(python.parents[1]), path
    assert all(symbol.encode() in path.read_bytes() for symbol in symbols), symbols
