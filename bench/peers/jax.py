"""JAX at its best on a CPU: one jitted scan over many steps, parameters donated."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import NoReturn

from bench.networks import Case, make_data
from bench.peers import Peer, Turns, serve

FLOPS_PER_CALL = 4e9  # so that a call of many steps still ends soon after a turn does


def train(case: Case, n_threads: int | None, turns: Turns) -> NoReturn:
    """Trains for ever."""
    if n_threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    import jax
    import jax.numpy as jnp
    import numpy as np

    turns.imported()
    X, y = map(jnp.asarray, make_data(case))
    turns.begin()
    rng = np.random.default_rng(0)
    rate, is_adam = case.learning_rate, case.optimizer == "adam"
    parameters = [
        (jnp.asarray(rng.normal(0, np.sqrt(2 / a), (a, b)), jnp.float32), jnp.zeros(b))
        for a, b in pairwise(case.layer_sizes)
    ]
    m, v = (jax.tree.map(jnp.zeros_like, parameters) for _ in "mv")
    state = (parameters, m, v, jnp.zeros(())) if is_adam else (parameters,)

    def loss_of(parameters, rows):
        h = X[rows]
        for W, b in parameters[:-1]:
            h = jax.nn.relu(h @ W + b)
        W, b = parameters[-1]
        log_f = jax.nn.log_softmax(h @ W + b)
        return -jnp.take_along_axis(log_f, y[rows][:, None], axis=1).mean()

    def sgd(state, rows):
        loss, gradient = jax.value_and_grad(loss_of)(state[0], rows)
        return (jax.tree.map(lambda p, g: p - rate * g, state[0], gradient),), loss

    def adam(state, rows):
        parameters, m, v, t = state
        loss, gradient = jax.value_and_grad(loss_of)(parameters, rows)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)
        scale, root = rate / (1 - 0.9**t), 1 / jnp.sqrt(1 - 0.999**t)
        parameters = jax.tree.map(
            lambda p, m, v: p - scale * m / (jnp.sqrt(v) * root + 1e-8), parameters, m, v
        )
        return (parameters, m, v, t), loss

    step, scan = adam if is_adam else sgd, jax.lax.scan
    many_steps = jax.jit(lambda state, batches: scan(step, state, batches), donate_argnums=0)
    flops = case.batch_size * case.flops_per_sample
    n_steps = len(X) // case.batch_size
    per_call = max(1, min(n_steps, int(FLOPS_PER_CALL / flops)))
    while True:
        order = rng.permutation(n_steps * case.batch_size).astype(np.int32)
        batches = order.reshape(n_steps, case.batch_size)
        for first in range(0, n_steps - per_call + 1, per_call):
            state, losses = many_steps(state, batches[first : first + per_call])
            losses.block_until_ready()
            turns.tick(per_call * case.batch_size, losses[-1])


PEER = Peer("JAX", version_of="jax", train=train)

if __name__ == "__main__":
    serve(PEER)
