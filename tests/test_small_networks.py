"""Networks whose layers are all at most one vector or two wide train by a kernel of their own.

On one thread with batches of up to 64 rows; two threads, and the instruction set without vectors,
go the general way, so that both are compared here, bit by bit.
"""

import pytest
from conftest import ISAS
from test_same_bits import OPTIMIZERS, assert_same_bits, fitted

from fastnn.network import ACTIVATIONS, LOSSES, OUTPUTS_OF_LOSS

SHAPES = [
    ((2, 8, 2), 41, 4),
    ((4, 16, 3), 70, 16),
    ((8, 8, 8, 4), 150, 64),
    ((5, 7, 6), 30, 13),
    ((16, 16, 16, 16), 90, 37),
    ((16, 1), 20, 8),
    ((9, 4), 30, 13),
    ((12, 9, 2), 70, 21),
    ((7, 13, 11, 8), 50, 50),
    ((1, 4, 1), 9, 1),
    ((3, 2, 2, 5), 130, 65),
]


@pytest.fixture(params=ISAS)
def both_ways(request, force_isa, dtype):
    """both_ways(**arguments): one thread on an instruction set against two on the first one."""

    def compare(**arguments):
        force_isa(ISAS[0])
        expected = fitted(n_threads=2, dtype=dtype, **arguments)
        force_isa(request.param)
        for n_threads in (1, 2):
            assert_same_bits(fitted(n_threads=n_threads, dtype=dtype, **arguments), expected)

    return compare


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(both_ways, shape):
    layers, n, batch_size = shape
    both_ways(layers=layers, n=n, batch_size=batch_size)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(both_ways, activation):
    both_ways(layers=(4, 8, 11, 3), n=50, batch_size=17, activation=activation)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers(both_ways, optimizer):
    both_ways(layers=(4, 8, 12, 2), n=50, batch_size=9, optimizer=optimizer, l2=0.01, l1=0.001)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses(both_ways, loss):
    for output in OUTPUTS_OF_LOSS[loss]:
        for n_out in (1, 4, 6, 14):
            both_ways(
                layers=(4, 8, 10, n_out),
                n=40,
                batch_size=18,
                activation="tanh",
                output=output,
                loss=loss,
                weighted=True,
            )
