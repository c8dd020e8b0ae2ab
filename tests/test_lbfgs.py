"""L-BFGS: that it is SciPy's on the network's own gradient, and keeps what fit promises."""

import sys

import numpy as np
import pytest
from conftest import ISAS, assert_has, blobs, parameters
from scipy.optimize import minimize

import fastnn
from fastnn import lbfgs, optimizers
from fastnn.callbacks import Callback, Checkpoint, EarlyStopping
from fastnn.optimizers import LBFGS
from fastnn.schedules import Cosine

EXACT = LBFGS(tolerance_grad=1e-9, tolerance_change=0.0)


def fitted(backend, epochs=30, dtype="float64", optimizer=EXACT, n_threads=None, **arguments):
    X, y = blobs(90)
    net = fastnn.MLP((4, 8, 3), "tanh", dtype=dtype, seed=2, backend=backend, n_threads=n_threads)
    net.fit(X, y, epochs=epochs, optimizer=optimizer, **{"l2": 1e-3, **arguments})
    return net


def flat(net):
    return np.concatenate([array.ravel() for array in parameters(net)])


# ---- what it computes ----


@pytest.mark.parametrize("history_size", [3, 10])
def test_it_is_scipy_s_on_the_reference_gradient(backend, history_size):
    X, y = blobs(90)
    twin = fastnn.MLP((4, 8, 3), "tanh", dtype="float64", seed=2, backend="numpy")
    shapes = [array.shape for array in parameters(twin)]
    edges = np.cumsum([array.size for array in parameters(twin)])[:-1]

    def objective(x):
        arrays = [
            part.reshape(shape) for part, shape in zip(np.split(x, edges), shapes, strict=True)
        ]
        twin.weights, twin.biases = arrays[:2], arrays[2:]
        J, dW, db = twin.loss_and_gradients(X, y, l2=1e-3)
        return J, np.concatenate([gradient.ravel() for gradient in dW + db])

    values = []
    options = {"maxcor": history_size, "maxiter": 15, "gtol": 1e-5, "ftol": 1e-9}
    result = minimize(
        objective,
        flat(twin),
        jac=True,
        method="L-BFGS-B",
        options=options,
        callback=lambda intermediate_result: values.append(intermediate_result.fun),
    )
    net = fitted(backend, 15, optimizer=LBFGS(history_size))
    # 15 searches multiply the rounding errors of sums in another order
    np.testing.assert_allclose(net.history["loss"], values, rtol=1e-8)
    np.testing.assert_allclose(flat(net), result.x, rtol=1e-5, atol=1e-6)


def test_it_reaches_the_optimum_of_a_convex_problem(backend):
    X, y = blobs(100)
    w = np.random.default_rng(1).random(100) + 0.1
    net = fastnn.MLP((4, 3), dtype="float64", backend=backend)
    net.fit(X, y, epochs=200, optimizer=EXACT, l2=0.01, sample_weight=w)
    _, dW, db = net.loss_and_gradients(X, y, l2=0.01, sample_weight=w)
    assert max(np.abs(gradient).max() for gradient in dW + db) <= 1e-8
    assert len(net.history["loss"]) < 100


def test_float32_comes_close(backend):
    assert (
        fitted(backend, 60, "float32").history["loss"][-1]
        < 1.02 * (fitted(backend, 60).history["loss"][-1])
    )


def test_the_same_bits_for_any_instruction_set_and_team(force_isa, dtype):
    results = set()
    for isa in ISAS:
        for n_threads in (1, 2, 5):
            force_isa(isa)
            results.add(flat(fitted("cython", 20, dtype, n_threads=n_threads)).tobytes())
    assert len(results) == min(len(ISAS), 1)


def test_a_gradient_in_several_calls_is_the_same_sum(backend, monkeypatch):
    whole = fitted(backend, 5)
    flops = whole.network.flops_per_sample
    monkeypatch.setattr(lbfgs, "FLOPS_PER_CALL", 7 * flops)
    positions = []

    class Follow(Callback):
        def on_progress(self, run):
            positions.append(run.position)

    parts = fitted(backend, 5, callbacks=Follow())
    np.testing.assert_allclose(flat(parts), flat(whole), rtol=1e-7, atol=1e-9)
    assert positions[:13] == [*range(7, 90, 7), 90]


def test_the_loss_may_be_any(backend):
    """Label smoothing and class weights are part of what is minimized, as in any other fit."""
    X, y = blobs(90)
    net = fitted(backend, 60, label_smoothing=0.2, class_weight="balanced", l2=0.1)
    weights = 30 / np.bincount(y)[y]
    soft = 0.8 * np.eye(3)[y] + 0.2 / 3
    J, dW, db = net.loss_and_gradients(X, soft, l2=0.1, sample_weight=weights)
    assert net.history["loss"][-1] == pytest.approx(J, rel=1e-9)
    assert max(np.abs(gradient).max() for gradient in dW + db) < 1e-5


def test_validation_part_does_not_touch_the_weights(backend):
    X, y = blobs(90)
    held = fastnn.network.random_stream(2, fastnn.network.STREAM_VALIDATION).permutation(90)[:30]
    kept = np.setdiff1d(np.arange(90), held)
    net = fitted(backend, 5, validation=1 / 3)
    twin = fastnn.MLP((4, 8, 3), "tanh", dtype="float64", seed=2, backend=backend)
    twin.fit(X[kept], y[kept], 5, optimizer=EXACT, l2=1e-3, validation=(X[held], y[held]))
    np.testing.assert_allclose(flat(net), flat(twin), rtol=1e-9, atol=1e-12)
    assert net.history["val_loss"] == pytest.approx(twin.history["val_loss"], rel=1e-9)


# ---- what fit promises ----


def test_an_iteration_is_an_epoch(backend):
    X, y = blobs(90)
    seen = []

    def look(run):
        # the model's weights are those whose objective is in the history
        J, _, _ = run.net.loss_and_gradients(X, y, l2=1e-3)
        seen.append((run.epoch, run.position, run.history["loss"][-1] - J))

    net = fitted(backend, 7, callbacks=look)
    assert net.epochs_trained == 7
    assert set(net.history) == {"loss", "seconds", "samples_per_second"}
    assert all(len(values) == 7 for values in net.history.values())
    assert net.history["loss"] == sorted(net.history["loss"], reverse=True)
    assert [epoch for epoch, _, _ in seen] == list(range(1, 8))
    assert all(position == 90 for _, position, _ in seen)
    assert max(abs(difference) for *_, difference in seen) < 1e-12


def test_a_callback_stops_it(backend):
    def stop(run):
        run.stop = run.epoch == 3

    assert fitted(backend, callbacks=stop).epochs_trained == 3


def test_it_ends_at_the_tolerances(backend):
    by_gradient = fitted(backend, 500, optimizer=LBFGS(tolerance_grad=0.1))
    by_change = fitted(backend, 500, optimizer=LBFGS(tolerance_change=0.01))
    assert 0 < by_gradient.epochs_trained < 30
    losses = by_change.history["loss"]
    assert losses[-2] - losses[-1] <= 0.01 < losses[-3] - losses[-2]
    at_once = fitted(backend, optimizer=LBFGS(tolerance_grad=100.0))
    assert at_once.history == {}
    assert at_once.epochs_trained == 0


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt])
@pytest.mark.parametrize("event", ["on_progress", "on_epoch_end"])
def test_an_exception_leaves_the_weights_of_the_last_iteration(backend, event, error):
    kept = {}

    class Break(Callback):
        def on_epoch_end(self, run):
            kept[run.epoch] = flat(run.net)
            self.interrupt(run, "on_epoch_end")

        def on_progress(self, run):
            self.interrupt(run, "on_progress")

        def interrupt(self, run, now):
            if now == event and run.epoch == 4:
                self.net = run.net
                raise error("enough")

    callback = Break()
    with pytest.raises(error, match="enough"):
        fitted(backend, callbacks=callback)
    net, last = callback.net, 4 if event == "on_epoch_end" else 3
    assert flat(net).tobytes() == kept[last].tobytes()
    assert net.epochs_trained == len(net.history["loss"]) == last
    net.fit(*blobs(90), epochs=2, optimizer="lbfgs")
    assert net.epochs_trained == last + 2


def test_stop_iteration_from_a_callback_is_not_an_end(backend):
    def broken(run):
        next(iter(()))

    with pytest.raises(RuntimeError, match="a callback raised StopIteration"):
        fitted(backend, callbacks=broken)


def test_divergence(backend):
    X = 1e200 * np.ones((4, 2))
    net = fastnn.MLP((2, 1), output="identity", dtype="float64", backend=backend)
    before = flat(net)
    with pytest.raises(fastnn.DivergenceError, match=r"in epoch 1;.*Try inputs scaled"):
        net.fit(X, np.ones(4), optimizer="lbfgs")
    assert flat(net).tobytes() == before.tobytes()


def test_not_finite_X(backend):
    X, y = blobs(90)
    X[-1, -1] = np.nan
    net = fastnn.MLP((4, 3), backend=backend)
    before = flat(net)
    with pytest.raises(ValueError, match="X contains NaN or infinity"):
        net.fit(X, y, optimizer="lbfgs")
    assert flat(net).tobytes() == before.tobytes()


# ---- callbacks and limits ----


def test_its_iterations_are_steps_and_epochs(backend):
    seen, steps = {}, []

    class Looking(Callback):
        every_steps = 2

        def on_steps(self, run):
            steps.append(run.step)
            seen[run.step] = run.parameters()

    after = {}

    def keep(run):
        after[run.epoch] = run.parameters()

    net = fitted(backend, 5, callbacks=[Looking(), keep])
    assert steps == [2, 4]
    for step in steps:
        assert np.array_equal(seen[step], after[step])
    assert_has(net, after[5])


def test_early_stopping_gives_the_model_the_best_iteration(backend):
    """Far from the minimum of the training's loss, that of other data goes up and down."""
    X, y = blobs(40, seed=1)
    stopping, after = EarlyStopping("val_loss", 3), {}

    def keep(run):
        after[run.epoch] = run.parameters()

    net = fitted(backend, 60, l2=0.0, validation=(X, y), callbacks=[stopping, keep])
    assert net.epochs_trained == stopping.best_epoch + 3 < 60
    assert_has(net, after[stopping.best_epoch])


def test_max_seconds_ends_it_within_a_search(backend, monkeypatch):
    """After two iterations and a little; the model is that of the last whole one."""
    now, ends = [0.0], []
    monkeypatch.setattr(fastnn.training.time, "monotonic", lambda: now[0])

    def two(run):
        if run.epoch == 2:
            now[0] = 10.0
            ends.append(run.parameters())

    net = fitted(backend, 30, max_seconds=5.0, callbacks=two)
    assert net.epochs_trained == len(net.history["loss"]) == 2
    assert_has(net, ends[0])


# ---- what is refused ----


@pytest.mark.parametrize("resume", [None, "run"])
def test_it_cannot_be_resumed(backend, tmp_path, resume):
    path = tmp_path / "run"
    fitted(backend, 2, optimizer="adam", callbacks=Checkpoint(path))
    more = {"callbacks": Checkpoint(path)} if resume is None else {"resume": path}
    with pytest.raises(ValueError, match="does not go with LBFGS: SciPy keeps its state"):
        fitted(backend, 2, **more)
    with pytest.raises(ValueError, match="cannot be saved: SciPy keeps its state"):
        fitted(backend, 2, callbacks=lambda run: run.save(path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0.1}, "leave learning_rate out"),
        ({"learning_rate": Cosine(1e-3)}, "leave learning_rate out"),
        ({"learning_rate": lambda step: 1e-3}, "leave learning_rate out"),
        ({"batch_size": 32}, "leave batch_size out"),
        ({"l1": 0.1}, "l1 does not go with LBFGS"),
        ({"learning_rate_factors": [1, 1]}, "learning_rate_factors does not go with LBFGS"),
        ({"dropout": 0.5}, "dropout does not go with LBFGS"),
        ({"clip_value": 1.0}, "clip_value does not go with LBFGS"),
        ({"clip_norm": 1.0}, "clip_norm does not go with LBFGS"),
    ],
)
def test_what_does_not_go_with_it_is_refused(backend, arguments, message):
    with pytest.raises(ValueError, match=message):
        fitted(backend, **arguments)


def test_all_samples_may_be_asked_for(backend):
    nets = [fitted(backend, 3, **more) for more in ({}, {"batch_size": None}, {"batch_size": 90})]
    assert len({flat(net).tobytes() for net in nets}) == 1


def test_without_scipy_the_command_is_told(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"pip install 'fastnn-cpu\[lbfgs\]'"):
        fitted(backend)


def test_the_name_stands_for_the_defaults():
    assert optimizers.get("lbfgs") == LBFGS()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LBFGS(history_size=0), "history_size must be an integer of at least 1"),
        (lambda: LBFGS(tolerance_grad=-1), "tolerance_grad must be a finite number of at least 0"),
        (lambda: LBFGS(tolerance_change=np.nan), "tolerance_change must be a finite number"),
    ],
)
def test_wrong_constants(make, message):
    with pytest.raises(ValueError, match=message):
        make()
