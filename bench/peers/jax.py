"""JAX at its best on a CPU: one jitted scan over many steps, parameters donated."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn

from bench.networks import Case, make_data, make_parameters
from bench.peers import Peer, Turns, serve

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.peers import Forward

    Step = Callable[[Any, Any], tuple[Any, Any]]

# So that a call of many steps still ends soon after a turn does.
FLOPS_PER_CALL, SAMPLES_PER_CALL = 4e9, 100_000


def load(n_threads: int | None, turns: Turns) -> None:
    """Imports the library; XLA reads its number of threads from the environment."""
    if n_threads is not None:
        os.environ["NPROC"] = str(n_threads)
    if n_threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    import jax  # noqa: F401

    turns.imported()


def last_layer(case: Case, parameters: Any, h: Any) -> Any:
    """The last pre-activation."""
    import jax

    activation = {"relu": jax.nn.relu, "tanh": jax.numpy.tanh}[case.activation]
    for W, b in parameters[:-1]:
        h = activation(h @ W + b)
    W, b = parameters[-1]
    return h @ W + b


def loss_of(case: Case, parameters: Any, X: Any, y: Any) -> Any:
    """Cross-entropy, or half the squared error."""
    import jax
    import jax.numpy as jnp

    a = last_layer(case, parameters, X)
    if case.output == "identity":
        return 0.5 * jnp.square(a - y).sum() / len(y)
    return -jnp.take_along_axis(jax.nn.log_softmax(a), y[:, None], axis=1).mean()


def sgd(case: Case) -> Step:
    """One step from a state (parameters,)."""
    from jax import tree, value_and_grad

    def step(state: Any, batch: Any) -> tuple[Any, Any]:
        loss, gradient = value_and_grad(loss_of, argnums=1)(case, state[0], *batch)
        rate = case.learning_rate
        return (tree.map(lambda p, g: p - rate * g, state[0], gradient),), loss

    return step


def adam(case: Case) -> Step:
    """One step from a state (parameters, m, v, t)."""
    import jax.numpy as jnp
    from jax import tree, value_and_grad

    def step(state: Any, batch: Any) -> tuple[Any, Any]:
        parameters, m, v, t = state
        loss, gradient = value_and_grad(loss_of, argnums=1)(case, parameters, *batch)
        t = t + 1
        m = tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
        v = tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)
        scale, root = case.learning_rate / (1 - 0.9**t), 1 / jnp.sqrt(1 - 0.999**t)
        parameters = tree.map(
            lambda p, m, v: p - scale * m / (jnp.sqrt(v) * root + 1e-8), parameters, m, v
        )
        return (parameters, m, v, t), loss

    return step


def first_state(case: Case) -> Any:
    """(parameters,), and for Adam m, v and t."""
    import jax.numpy as jnp
    from jax import tree

    parameters = tree.map(jnp.asarray, make_parameters(case))
    if case.optimizer == "sgd":
        return (parameters,)
    m, v = (tree.map(jnp.zeros_like, parameters) for _ in "mv")
    return parameters, m, v, jnp.zeros(())


def pick_all(data: Any, _: Any) -> Any:
    """The batch where it is all of the data."""
    return data


def pick_batch(_: Any, batch: Any) -> Any:
    """The batch where NumPy has gathered it."""
    return batch


def pick_rows(data: Any, rows: Any) -> Any:
    """The batch where the scan gathers it."""
    X, y = data
    return X[rows], y[rows]


def train(case: Case, n_threads: int | None, turns: Turns) -> NoReturn:
    """Trains for ever. NumPy gathers small batches, which is faster than in the scan."""
    load(n_threads, turns)
    import jax
    import numpy as np

    X, y = make_data(case)
    y = y.astype(np.int32) if case.output == "softmax" else y  # what JAX makes of int64 anyway
    turns.begin()
    step = {"sgd": sgd, "adam": adam}[case.optimizer](case)
    pick = (pick_batch if case.small else pick_rows) if case.shuffled else pick_all
    b = case.batch_size
    n_steps = max(1, int(min(SAMPLES_PER_CALL, FLOPS_PER_CALL / case.flops_per_sample) / b))
    n_steps = min(n_steps, len(X) // b) if case.shuffled else n_steps

    def many_steps(state: Any, data: Any, batches: Any) -> tuple[Any, Any]:
        def one_step(state: Any, batch: Any) -> tuple[Any, Any]:
            return step(state, pick(data, batch))

        return jax.lax.scan(one_step, state, batches, length=n_steps)

    many_steps = jax.jit(many_steps, donate_argnums=0)
    state, data = first_state(case), jax.device_put((X, y))
    while not case.shuffled:
        state, losses = many_steps(state, data, None)
        turns.tick(n_steps * b, float(losses[-1]))
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(len(X)).astype(np.int32)
        for rows in order[: len(X) // (n_steps * b) * n_steps * b].reshape(-1, n_steps, b):
            batches = (X.take(rows, axis=0), y.take(rows, axis=0)) if case.small else rows
            state, losses = many_steps(state, data, batches)
            turns.tick(n_steps * b, float(losses[-1]))


def predict(case: Case, n_threads: int | None, turns: Turns) -> Forward:
    """One jitted call."""
    load(n_threads, turns)
    import jax
    import numpy as np

    turns.begin()
    parameters = jax.device_put(make_parameters(case))

    @jax.jit
    def network(X: Any) -> Any:
        a = last_layer(case, parameters, X)
        return jax.nn.softmax(a) if case.output == "softmax" else a

    return lambda X: np.asarray(network(X))


PEER = Peer("JAX", version_of="jax", train=train, predict=predict)

if __name__ == "__main__":
    serve(PEER)
