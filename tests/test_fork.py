"""A forked child goes on where its parent's team of threads has worked."""

import os
import signal

import numpy as np
import pytest

import fastnn

LIMIT_SECONDS = 60  # a hang would last for ever; the work takes milliseconds


def digest(net, X, y):
    net.fit(X, y, epochs=1, batch_size=32)
    return net.forward(X).tobytes() + b"".join(W.tobytes() for W in net.weights)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # that fork is what we test
def test_a_child_trains_and_predicts_with_the_same_bits_after_its_parent_did():
    rng = np.random.default_rng(0)
    X, y = rng.random((300, 70), dtype=np.float32), rng.integers(0, 3, 300)
    net = fastnn.MLP((70, 60, 3), n_threads=2)
    net.fit(X, y, epochs=1)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(LIMIT_SECONDS)
        try:
            with os.fdopen(write_end, "wb") as pipe:
                pipe.write(digest(net, X, y))
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        from_child = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    assert from_child == digest(net, X, y)
