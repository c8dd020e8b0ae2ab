"""The command line: `fastnn train`, `fastnn predict`, `fastnn info`.

Exit codes: 0, 1 for a training that diverged, 2 for wrong arguments or files, 130 for Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

import fastnn

from ..training import DivergenceError
from . import arguments, predict, train


def _info(args: argparse.Namespace) -> int:
    fastnn.show_config()
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "train": train.run,
    "predict": predict.run,
    "info": _info,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `argv` None means the process's arguments. Returns the exit code."""
    try:
        args = arguments.parser().parse_args(argv)
        code = COMMANDS[args.command](args)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse: --help, or a wrong argument
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone; nothing more can be said to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except DivergenceError as error:
        return _fail(error, 1)
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        return _fail(error, 2)


def _fail(error: Exception, code: int) -> int:
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}"
    message = " ".join(text.split()) or type(error).__name__
    print(f"fastnn: error: {message}", file=sys.stderr)
    return code
