"""fastnn through its public interface: one long `fit`, paused between turns by a callback."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

from bench.networks import Case, make_data, make_parameters
from bench.peers import Peer, Turns, serve

if TYPE_CHECKING:
    from bench.peers import Forward


def train(case: Case, n_threads: int | None, turns: Turns) -> NoReturn:
    """Trains for ever; None for `n_threads` leaves the choice to fastnn."""
    from fastnn import MLP
    from fastnn.callbacks import Callback, Run

    turns.imported()
    X, y = make_data(case)
    turns.begin()

    class Pause(Callback):
        """Reports every chunk of steps that one native call has trained."""

        seen = 0

        def on_progress(self, run: Run) -> None:
            total = (run.epoch - 1) * run.n_samples + run.position
            new, self.seen = total - self.seen, total
            turns.tick(new, run.loss)

    net = MLP(case.layer_sizes, activation=case.activation, output=case.output, n_threads=n_threads)
    settings = {
        "batch_size": case.batch_size,
        "optimizer": case.optimizer,
        "learning_rate": case.learning_rate,
        "shuffle": case.shuffled,
    }
    first = slice(0, case.batch_size)
    net.fit(X[first], y[first], epochs=1, callbacks=(Pause(),), **settings)
    net.fit(X, y, epochs=sys.maxsize, callbacks=(Pause(),), **settings)
    raise AssertionError("training is to end with the turns")


def predict(case: Case, n_threads: int | None, turns: Turns) -> Forward:
    """`MLP.forward`, as users call it."""
    from fastnn import MLP

    turns.imported()
    parameters = make_parameters(case)
    turns.begin()
    net = MLP(case.layer_sizes, activation=case.activation, output=case.output, n_threads=n_threads)
    net.weights = [W.T for W, _ in parameters]
    net.biases = [b for _, b in parameters]
    return net.forward


PEER = Peer("fastnn", version_of="fastnn-cpu", train=train, predict=predict, chooses_threads=True)

if __name__ == "__main__":
    serve(PEER)
