"""Saves that fail or are killed, in a process of its own; see test_saving_fails.py.

Each function works in a folder and returns how many saves it has tried.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

from data.make_model_files import X, Y, digest

import fastnn
from fastnn import files
from fastnn.callbacks import Checkpoint

OLD, NEW = (fastnn.MLP((4, 3000, 3), seed=seed, backend="numpy") for seed in (0, 1))


def check(folder, expected, others=()):
    """The model there is the expected one, and nothing is beside it."""
    assert digest(fastnn.load(folder / "net", backend="numpy")) == digest(expected)
    assert sorted(os.listdir(folder)) == sorted(["net", *others])


def fails(error, function, *arguments, **others):
    try:
        function(*arguments, **others)
    except error:
        return True
    return False


def full(folder):
    """The folder is all of a small file system; it is filled but for so many bytes."""
    OLD.save(folder / "net")
    size, filler = (folder / "net").stat().st_size, folder / "filler"
    page, tried, failed = os.statvfs(folder).f_bsize, 0, 0
    for free in range(0, size + 3 * page, page):
        with open(filler, "wb") as file:
            space = os.statvfs(folder)
            file.write(bytes(space.f_bavail * space.f_bsize - free))
        is_full = fails(OSError, NEW.save, folder / "net")
        check(folder, OLD if is_full else NEW, ["filler"])
        tried, failed = tried + 1, failed + is_full
        filler.unlink()
        OLD.save(folder / "net")
    assert tried > failed > 10
    return tried + full_while_training(folder, filler)


def full_while_training(folder, filler):
    (folder / "net").unlink()

    def fill(run):  # told before the checkpoint of the same epoch
        if run.epoch == 3:
            with open(filler, "wb") as file:
                space = os.statvfs(folder)
                file.write(bytes(space.f_bavail * space.f_bsize))

    net = fastnn.MLP((4, 3000, 3), backend="numpy")
    callbacks = [Checkpoint(folder / "net"), fill]
    assert fails(OSError, net.fit, X, Y, epochs=5, callbacks=callbacks)
    assert fastnn.load(folder / "net").epochs_trained == 2
    assert sorted(os.listdir(folder)) == ["filler", "net"]
    net.predict(X)
    return 1


def size_limit(folder):
    """No file may be larger than so many bytes."""
    OLD.save(folder / "net")
    size, tried = (folder / "net").stat().st_size, 0
    for limit in [*range(0, size, 1999), size - 1, size]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        is_over = fails(OSError, NEW.save, folder / "net")
        assert is_over == (limit < size)
        check(folder, OLD if is_over else NEW)
        tried += 1
    return tried


def read_only(folder):
    """By a user who may not write there."""
    OLD.save(folder / "net")
    # Whatever is imported late: that user may not be allowed to read it.
    fastnn.MLP((4, 5, 3), backend="numpy").fit(X, Y, callbacks=Checkpoint(folder / "run"))
    (folder / "run").unlink()
    folder.chmod(0o555)
    if os.getuid() == 0:
        os.setuid(65534)
    assert fails(PermissionError, NEW.save, folder / "net")
    assert fails(PermissionError, NEW.save, folder / "other")
    check(folder, OLD)
    net = fastnn.MLP((4, 5, 3), backend="numpy")
    assert fails(PermissionError, net.fit, X, Y, callbacks=Checkpoint(folder / "run"))
    check(folder, OLD)
    return 3


def killed(folder, n):
    """By SIGKILL, at random moments and before and after each step of the writing."""
    OLD.save(folder / "net")
    moments = random.Random(n)
    steps = [(name, late) for name in ("fsync", "replace", "close") for late in (False, True)]
    left = 0
    for number in range(n):
        child = os.fork()
        if child == 0:
            if number < len(steps):
                die_at(*steps[number])
            while True:
                NEW.save(folder / "net")
                OLD.save(folder / "net")
        if number >= len(steps):
            time.sleep(moments.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        found = digest(fastnn.load(folder / "net", backend="numpy"))
        assert found in (digest(OLD), digest(NEW))
        beside = len(os.listdir(folder)) - 1
        assert beside <= 1
        left += beside
        files.remove_leftovers(folder / "net")
        assert os.listdir(folder) == ["net"]
    assert left > 0  # some were killed within a save
    return n


def die_at(name, late):
    """Make this process end before or after the function of os that a save calls."""
    real = getattr(os, name)

    def dying(*arguments):
        if late:
            real(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(os, name, dying)


if __name__ == "__main__":
    print(globals()[sys.argv[1]](Path(sys.argv[2]), *map(int, sys.argv[3:])))
