"""Random sequences of calls, wrong ones in between, as Hypothesis thinks of them."""

import os
import pickle
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from conftest import blobs, flat_of
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import fastnn
from fastnn.network import ACTIVATIONS, DTYPES
from fastnn.optimizers import OPTIMIZERS
from reliability.test_array_forms import EXAMPLES, try_out

X, Y = blobs(40, 4, 3)
BAD_X = np.where(np.arange(X.size).reshape(X.shape) == 100, np.nan, X)  # in row 25

# Each must raise one of these errors and change nothing.
ERRORS = (ValueError, TypeError, FileNotFoundError)
WRONG_CALLS = [
    lambda net: net.fit(BAD_X, Y, batch_size=5, shuffle=False, epochs=2),
    lambda net: net.fit(X, Y, validation=(BAD_X, Y)),
    lambda net: net.fit(X, Y + 1),
    lambda net: net.fit(X[:, :3], Y),
    lambda net: net.fit(X, Y, epochs=0),
    lambda net: net.fit(X, Y, optimizer="adamax"),
    lambda net: net.fit(X, Y, resume="nowhere"),
    lambda net: net.fit([(X, Y), (BAD_X, Y)], epochs=1),
    # infinite, but as float32 only when it is used: NaN or infinity in every weight
    lambda net: net.fit(
        X,
        Y,
        epochs=1,
        optimizer="sgd",
        learning_rate=10.0 * float(np.finfo(net.weights[0].dtype).max),
    ),
    lambda net: net.train_on_batch(BAD_X, Y),
    lambda net: net.train_on_batch(X, Y, learning_rate=-1),
    lambda net: net.predict(BAD_X),
    lambda net: net.evaluate(X, Y[:-1]),
    lambda net: net.hidden(X, 5),
    lambda net: net.save(Path("no") / "such" / "folder"),
    lambda net: fastnn.load("nowhere"),
    lambda net: setattr(net, "weights", [W * np.nan for W in net.weights]),
    lambda net: setattr(net, "biases", net.weights),
]
SMALL_SHARES = st.sampled_from([0.0, 0.0, 0.2])


class Calls(RuleBasedStateMachine):
    """`net` gets all calls; `twin` only those that train it, in a plain way. Both have the same
    bits after each."""

    done: list  # one entry for every call

    @initialize(
        isa=st.sampled_from(fastnn.available_isas()),
        dtype=st.sampled_from(DTYPES),
        activation=st.sampled_from(ACTIVATIONS),
        hidden=st.sampled_from([(), (5,), (20, 70)]),
        seed=st.integers(0, 2**64 - 1),
    )
    def begin(self, isa, dtype, activation, hidden, seed):
        self.isa, self.dtype = isa, dtype
        self.arguments = ((4, *hidden, 3), activation), {"dtype": dtype, "seed": seed}
        self.net, self.twin = self.new(n_threads=2), self.new(n_threads=1)

    def new(self, n_threads):
        positional, named = self.arguments
        return fastnn.MLP(*positional, **named, backend="cython", n_threads=n_threads)

    def on_net(self, call):
        with mock.patch.dict(os.environ, FASTNN_ISA=self.isa):
            self.done.append(call)
            return call(self.net)

    def on_both(self, call):
        """A call that trains: what it returns or raises must be alike."""

        def result(net):
            try:
                return call(net)
            except fastnn.DivergenceError as error:
                return str(error)

        values = self.on_net(result), result(self.twin)
        assert values[0] == values[1]

    @rule(
        epochs=st.integers(1, 2),
        batch_size=st.sampled_from([None, 1, 3, 7, 40, 1000]),
        optimizer=st.sampled_from(list(OPTIMIZERS)),
        n=st.integers(1, 40),
        l2=SMALL_SHARES,
        dropout=SMALL_SHARES,
        shuffle=st.booleans(),
        validation=st.booleans(),
    )
    def fit(self, n, l2, dropout, validation, **options):
        if len(self.net.layer_sizes) > 2:
            options["dropout"] = dropout
        options |= {"l2": l2, "learning_rate": 1e-3}
        if validation:
            options["validation"] = X[:5], Y[:5]
        self.on_both(lambda net: losses_of(net.fit(X[:n], Y[:n], **options)))

    @rule(n=st.integers(1, 30))
    def fit_a_stream(self, n):
        chunks = [(X[:n], Y[:n]), (X[n:], Y[n:])]
        self.on_both(lambda net: losses_of(net.fit(chunks, epochs=1, batch_size=8)))

    @rule(n=st.integers(1, 40), optimizer=st.sampled_from(list(OPTIMIZERS)))
    def train_on_batch(self, n, optimizer):
        self.on_both(
            lambda net: net.train_on_batch(X[:n], Y[:n], optimizer=optimizer, learning_rate=1e-3)
        )

    @rule(factor=st.sampled_from([-1.0, 0.5, 1.25]))
    def set_weights(self, factor):
        for name in ("weights", "biases"):
            self.on_both(
                lambda net, name=name: setattr(net, name, [a * factor for a in getattr(net, name)])
            )

    @rule(n=st.integers(1, 40))
    def predict(self, n):
        f = self.on_net(lambda net: net.forward(X[:n]))
        assert np.array_equal(f, self.twin.forward(X)[:n])
        assert np.array_equal(self.on_net(lambda net: net.predict(X[:n])), f.argmax(axis=1))
        assert self.on_net(lambda net: net.evaluate(X, Y)) == self.twin.evaluate(X, Y)

    @rule(wrong=st.sampled_from(WRONG_CALLS))
    def call_wrongly(self, wrong):
        before = self.net.epochs_trained
        with pytest.raises(ERRORS):
            self.on_net(wrong)
        assert self.net.epochs_trained == before

    @rule(by_file=st.booleans())
    def copy(self, by_file):
        """To a file or a pickle and back: all but train_on_batch's optimizer goes with it."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            if by_file:
                self.on_net(lambda net: net.save(path))
                self.net = fastnn.load(path, "cython", 2)
            else:
                self.net = self.on_net(lambda net: pickle.loads(pickle.dumps(net)))
        old, self.twin = self.twin, self.new(n_threads=1)
        self.twin.weights, self.twin.biases = old.weights, old.biases
        self.twin.epochs_trained = old.epochs_trained

    @invariant()
    def same(self):
        if hasattr(self, "net"):
            flat = flat_of(self.net)
            assert np.array_equal(flat, flat_of(self.twin))
            assert np.isfinite(flat).all()
            assert self.net.epochs_trained == self.twin.epochs_trained


def losses_of(history):
    return history["loss"], history.get("val_accuracy")


@pytest.mark.compiled
@pytest.mark.parametrize("examples", EXAMPLES)
def test_call_sequences(examples, tally):
    """Any sequence of fit, train_on_batch, predict, save, load, pickle, new weights and wrong calls
    gives the bits of a fresh model that was only trained."""
    Calls.done = []
    run_state_machine_as_test(Calls, settings=try_out(examples))
    tally("calls", len(Calls.done))
