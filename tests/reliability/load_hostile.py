"""A process of its own that loads mutated files under a limit of memory; see test_hostile_files.py.

It writes the number of each file before it loads it, and at the end what came of them, as JSON.
"""

from __future__ import annotations

import collections
import json
import random
import resource
import signal
import sys
from pathlib import Path

import numpy as np
from data import make_model_files
from model_files import record_of

import fastnn
from fastnn import files
from reliability.mutations import bombs, mutated

CPU_SECONDS = 20  # for one file, then SIGVTALRM ends the process


def limit_memory(n_bytes):
    resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))


def main(folder, first, last, limit):
    """Files first ... last - 1; the bombs where first is negative."""
    wholes = [path.read_bytes() for path in sorted(Path(folder).glob("*.whole"))]
    path = Path(folder) / f"{first}.mutated"
    limit_memory(int(limit))
    outcomes = collections.Counter()
    contents = numbered(wholes, int(first), int(last)) if int(first) >= 0 else of_bombs()
    for number, whole, content in contents:
        print(number, flush=True)
        path.write_bytes(content)
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
        outcomes[outcome(path, whole, content)] += 1
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    path.unlink()
    print(json.dumps(outcomes))


def numbered(wholes, first, last):
    """(number, the whole file that it may be read as, the mutated one)

    Every other one gets the checksum that belongs to it. The others are made of files that have
    one.
    """
    with_checksum = [content for content in wholes if b'"sha256"' in content]
    for number in range(first, last):
        own, sign = random.Random(number), number % 2
        whole, other = own.choices(wholes if sign else with_checksum, k=2)
        content = mutated(own, whole, other, sign)
        yield number, None if sign else other if content == other else whole, content


def of_bombs():
    for number, content in enumerate(bombs()):
        yield number, b"", content


def outcome(path, whole, content):
    """ "refused", or "loaded" to the bits of `whole`, or None: to the bits that are in the file."""
    try:
        read = files.read(path)
    except fastnn.ModelFileError:
        return "refused"
    net = fastnn.load(path, backend="numpy")
    check_bits(net, read, content if whole is None else whole)
    if read.run is None:
        return "loaded"
    try:
        resume(path)
    except fastnn.ModelFileError:
        return "refused when resuming"
    except ValueError as error:  # the settings are others
        if "is of another run" not in str(error):
            raise
        return "another run"
    return "loaded"


def resume(path):
    """A run that has ended, so that it only takes what is in the file."""
    fit = {"epochs": 3, **make_model_files.ARGUMENTS, "callbacks": make_model_files.followers()}
    net = make_model_files.network("auto")
    net.fit(make_model_files.X, make_model_files.Y, **fit, resume=path)


def check_bits(net, read, content):
    """All that was read is what another reader of the container finds in the bytes."""
    from safetensors.numpy import load

    tensors, record = load(content), record_of(content)
    for k, pair in enumerate(zip(net.weights, net.biases, strict=True), 1):
        for name, array in zip(("weight", "bias"), pair, strict=True):
            there = tensors.pop(f"layer{k}.{name}")
            assert there.shape == array.shape
            assert there.dtype == array.dtype
            assert there.tobytes() == array.tobytes()
            assert np.isfinite(array).all()
    assert {name.removeprefix("run.") for name in tensors} == read.tensors.keys()
    for name, array in read.tensors.items():
        assert tensors[f"run.{name}"].tobytes() == array.tobytes()
    network, architecture = net.network, record["architecture"]
    assert list(network.layer_sizes) == architecture["layer_sizes"]
    assert list(network.activations) == architecture["activations"]
    assert (network.output, network.dtype) == (architecture["output"], architecture["dtype"])
    assert {"seed": net.seed, "epochs_trained": net.epochs_trained} == record["training"]
    assert repr(read.run) == repr(record.get("run"))


if __name__ == "__main__":
    main(*sys.argv[1:])
