"""Learning rates that change: the schedules' figures, and that every step gets its own."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import assert_close, blobs, parameters
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

import fastnn
from fastnn import elementary, training
from fastnn.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    CosLog4,
    Exponential,
    InverseScaling,
    OneCycle,
    Rates,
    ReduceOnPlateau,
    Schedule,
    Step,
    WarmUp,
)

N = 60  # steps, of an epoch each where PyTorch's count epochs


def rates_of(learning_rate, n_steps=N, steps_per_epoch=1):
    return Rates(learning_rate, n_steps, steps_per_epoch).of_steps(0, n_steps)


# ---- figures ----

# PyTorch's scheduler of an optimizer, and ours of a run of N steps
TORCH = {
    "step": (lambda lr, opt: lr.StepLR(opt, 7, 0.3), Step(0.4, every=7, factor=0.3)),
    "exponential": (lambda lr, opt: lr.ExponentialLR(opt, 0.9), Exponential(0.4, factor=0.9)),
    "cosine": (
        lambda lr, opt: lr.CosineAnnealingLR(opt, N, eta_min=0.01),
        Cosine(0.4, minimum=0.01),
    ),
    "restarts": (
        lambda lr, opt: lr.CosineAnnealingWarmRestarts(opt, 8, 1, eta_min=0.02),
        CosineRestarts(0.4, period=8, minimum=0.02),
    ),
    "growing restarts": (
        lambda lr, opt: lr.CosineAnnealingWarmRestarts(opt, 5, 2),
        CosineRestarts(0.4, period=5, growth=2),
    ),
    "one-cycle": (lambda lr, opt: lr.OneCycleLR(opt, 0.4, N), OneCycle(0.4)),
    "one-cycle constants": (
        lambda lr, opt: lr.OneCycleLR(opt, 0.4, N, 1, 1, 0.45, div_factor=10, final_div_factor=50),
        OneCycle(0.4, warm_up=0.45, start_factor=0.1, final_factor=0.1 / 50),
    ),
    "warm-up": (
        lambda lr, opt: lr.SequentialLR(
            opt, [lr.LinearLR(opt, 0.25, 1, 12), lr.CosineAnnealingLR(opt, N - 12)], [12]
        ),
        WarmUp(Cosine(0.4), epochs=12, start_factor=0.25),
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", TORCH)
def test_rates_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed; see the closed forms")
    make, schedule = TORCH[name]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.4)
    scheduler, expected = make(torch.optim.lr_scheduler, optimizer), []
    for _ in range(N):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(rates_of(schedule), expected, rtol=1e-12, atol=1e-15)


def cosine(t):
    return 0.5 * (1 + math.cos(math.pi * t))


# A run of 60 steps, 10 in an epoch: the rate of step i
CLOSED_FORMS = {
    "number": (0.4, lambda i: 0.4),
    "constant": (Constant(0.4), lambda i: 0.4),
    "step": (Step(0.4, every=2, factor=0.5), lambda i: 0.4 * 0.5 ** (i // 20)),
    "step within epochs": (Step(0.4, every=0.7), lambda i: 0.4 * 0.1 ** (i // 7)),
    "exponential": (Exponential(0.4, factor=0.8), lambda i: 0.4 * 0.8 ** (i / 10)),
    "inverse scaling": (InverseScaling(0.4), lambda i: 0.4 / math.sqrt(1 + i)),
    "inverse power": (InverseScaling(0.4, power=1.3), lambda i: 0.4 * (1 + i) ** -1.3),
    "cosine": (Cosine(0.4, minimum=0.1), lambda i: 0.1 + 0.3 * cosine(i / 60)),
    "restarts": (CosineRestarts(0.4, period=1.5), lambda i: 0.4 * cosine(i % 15 / 15)),
    "growing restarts": (
        CosineRestarts(0.4, period=1, growth=2, minimum=0.1),
        lambda i: (
            0.1 + 0.3 * cosine(i / 10 if i < 10 else (i - 10) / 20 if i < 30 else (i - 30) / 40)
        ),
    ),
    "one-cycle": (
        OneCycle(0.4, warm_up=0.35, start_factor=0.5, final_factor=0.25),
        lambda i: (
            0.4 - 0.2 * cosine(i / 20) if i <= 20 else 0.1 + 0.3 * cosine((i - 20) / (59 - 20))
        ),
    ),
    "one-cycle down": (OneCycle(0.4, 0.0, final_factor=0.0), lambda i: 0.4 * cosine(i / 59)),
    "coslog4": (
        CosLog4(0.4),
        lambda i: 0.2 * (1 - math.cos(2 * math.pi * math.log2(1 + 15 * i / 60))),
    ),
    "warm-up of a number": (
        WarmUp(0.4, epochs=2, start_factor=0.0),
        lambda i: 0.4 * min(1.0, i / 20),
    ),
    "warm-up of a function": (
        WarmUp(lambda i: 0.1 * (i + 1), epochs=0.5, start_factor=0.5),
        lambda i: 0.1 * (0.5 + 0.1 * i) if i < 5 else 0.1 * (i - 4),
    ),
    "longer warm-up": (WarmUp(0.4, 12, 0.0), lambda i: 0.4 * i / 120),
    "function": (lambda i: 0.4 / (i + 1), lambda i: 0.4 / (i + 1)),
    "integers": (lambda i: 1 + i % 2, lambda i: 1 + i % 2),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_rates_are_those_of_the_formula(name):
    schedule, formula = CLOSED_FORMS[name]
    rates = rates_of(schedule, 60, 10)
    assert rates.dtype == np.float64
    np.testing.assert_allclose(rates, [formula(i) for i in range(60)], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_rates_do_not_depend_on_how_many_are_asked_for(name):
    rates = Rates(CLOSED_FORMS[name][0], 60, 10)
    parts = np.concatenate([rates.of_steps(i, i + 7) for i in range(0, 56, 7)])
    assert parts.tobytes() == rates.of_steps(0, 56).tobytes()


@pytest.mark.parametrize(
    "schedule", [Cosine(0.1), OneCycle(0.1), CosLog4(0.1), CosineRestarts(0.1), WarmUp(0.1)]
)
def test_a_run_of_one_step_has_a_rate(schedule):
    (rate,) = rates_of(schedule, 1)
    assert 0 <= rate <= 0.1


def test_own_schedules():
    class Triangle(Schedule):
        def rates(self, steps, n_steps, steps_per_epoch):
            return 1 - np.abs(2 * steps / n_steps - 1)

    assert rates_of(Triangle(), 4).tolist() == [0.0, 0.5, 1.0, 0.5]
    assert rates_of(WarmUp(Triangle(), epochs=2, start_factor=0), 6).tolist() == [
        0,
        0,
        0,
        0.5,
        1,
        0.5,
    ]


# ---- elementary functions ----


def test_elementary_functions():
    x = np.linspace(0, 20, 4001)
    np.testing.assert_allclose(elementary.cos_pi(x), np.cos(np.pi * x), atol=2e-14)
    y = np.exp(np.linspace(-30, 30, 4001))
    np.testing.assert_allclose(elementary.log2(y), np.log2(y), rtol=5e-16, atol=3e-16)
    np.testing.assert_allclose(elementary.power(y, -0.7), y**-0.7, rtol=1e-14)
    np.testing.assert_allclose(elementary.power(0.3, x), 0.3**x, rtol=1e-14)
    assert elementary.cos_pi(np.array([0.0, 0.5, 1.0, 1.5, 2.0])).tolist() == [1, 0, -1, 0, 1]
    assert elementary.log2(np.array([0.25, 1.0, 1024.0])).tolist() == [-2, 0, 10]
    assert elementary.power(2.0, np.arange(-3.0, 4.0)).tolist() == [0.125, 0.25, 0.5, 1, 2, 4, 8]


PRINT_RATES = """
import sys, hashlib
sys.path.insert(0, sys.argv[1])
from test_schedules import CLOSED_FORMS, rates_of
for name, (schedule, _) in CLOSED_FORMS.items():
    print(name, hashlib.sha256(rates_of(schedule, 5000, 70).tobytes()).hexdigest())
"""


def test_rates_have_the_same_bits_on_every_machine():
    """NumPy told to do without the instruction sets that it chooses between."""
    optional = " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name])
    printed = [
        subprocess.run(
            [sys.executable, "-c", PRINT_RATES, os.path.dirname(__file__)],
            env={**os.environ, "NPY_DISABLE_CPU_FEATURES": disabled},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for disabled in ("", optional)
    ]
    assert printed[0] == printed[1]
    assert len(printed[0].splitlines()) == len(CLOSED_FORMS)


# ---- in fit ----


def history_of(backend, learning_rate, epochs=4, **arguments):
    X, y = blobs(30)
    net = fastnn.MLP((4, 3), dtype="float64", backend=backend)
    return net.fit(X, y, epochs=epochs, batch_size=7, learning_rate=learning_rate, **arguments)


def rate_of_step(i):
    return 0.5 / (1 + i % 7)


@pytest.mark.parametrize("rates_at_once", [1, 3, 1 << 17])
@pytest.mark.parametrize("seconds", [0.0, 10.0], ids=["short calls", "long calls"])
def test_every_step_gets_its_rate(backend, monkeypatch, seconds, rates_at_once):
    """Plain descent by hand, 5 steps in an epoch, the last on a smaller batch."""
    monkeypatch.setattr(training, "SECONDS_PER_CALL", seconds)
    monkeypatch.setattr(training, "RATES_AT_ONCE", rates_at_once)
    X, y = blobs(30)
    net, twin = (fastnn.MLP((4, 3), dtype="float64", backend=name) for name in (backend, "numpy"))
    settings = {"batch_size": 7, "optimizer": "sgd", "shuffle": False}
    net.fit(X, y, epochs=3, learning_rate=rate_of_step, **settings)
    step = 0
    for _ in range(3):
        for start in range(0, 30, 7):
            rows = slice(start, start + 7)
            _, dW, db = twin.loss_and_gradients(X[rows], y[rows])
            rate, step = rate_of_step(step), step + 1
            twin.weights = [W - rate * g for W, g in zip(twin.weights, dW, strict=True)]
            twin.biases = [b - rate * g for b, g in zip(twin.biases, db, strict=True)]
    assert step == 15
    assert_close(net, parameters(twin), 1e-12)


def test_every_step_of_large_batches_gets_its_rate(compiled_backend, monkeypatch):
    """Calls that end inside a batch of several parts do not lose count."""
    X, y = blobs(7000)
    nets = []
    for backend, seconds in ((compiled_backend, 0.0), (compiled_backend, 10.0), ("numpy", 10.0)):
        monkeypatch.setattr(training, "SECONDS_PER_CALL", seconds)
        net = fastnn.MLP((4, 30, 3), dtype="float64", backend=backend)
        net.fit(X, y, epochs=2, batch_size=3000, optimizer="sgd", learning_rate=rate_of_step)
        nets.append(net)
    for a, b in zip(parameters(nets[0]), parameters(nets[1]), strict=True):
        assert a.tobytes() == b.tobytes()
    assert_close(nets[0], parameters(nets[2]), 1e-10)


def test_history_has_the_rate_of_the_last_step(backend):
    history = history_of(backend, Cosine(0.1))
    assert history["learning_rate"] == rates_of(Cosine(0.1), 20, 5)[4::5].tolist()


def test_a_callback_sees_the_rate_and_cannot_set_what_a_schedule_gives(backend):
    seen = []

    def look(run):
        seen.append(run.learning_rate)

    history = history_of(backend, Step(0.1, every=1, factor=0.5), callbacks=look)
    assert history["learning_rate"] == seen == [0.1, 0.05, 0.025, 0.0125]

    def change(run):
        run.learning_rate = 0.3

    for schedule in (Cosine(0.1), lambda step: 0.1, ReduceOnPlateau(0.1, "loss")):
        with pytest.raises(ValueError, match=r"run\.learning_rate cannot be set"):
            history_of(backend, schedule, callbacks=change)
    assert history_of(backend, Constant(0.1), callbacks=change)["learning_rate"] == [
        0.1,
        0.3,
        0.3,
        0.3,
    ]


def test_a_rate_set_within_an_epoch_counts_from_the_next_on(backend):
    class Change(fastnn.callbacks.Callback):
        def on_progress(self, run):
            if run.epoch == 2:
                run.learning_rate = 0.3

    assert history_of(backend, 0.1, callbacks=Change())["learning_rate"] == [0.1, 0.1, 0.3, 0.3]


# ---- reduce on plateau ----

VALUES = [5.0, 4.0, 4.0, 4.0, 3.9999, 4.0, 3.0, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 2.9, 2.95, 2.95, 2.95]
VALUES += [float("nan"), 2.95, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
PLATEAUS = [
    {"patience": 2},
    {"patience": 0, "factor": 0.5},
    {"patience": 1, "factor": 0.5, "cooldown": 2},
    {"patience": 1, "threshold": 0.3, "minimum": 0.02},
    {"patience": 2, "threshold": 0.0, "factor": 0.7, "cooldown": 1},
]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("constants", PLATEAUS, ids=str)
def test_reduce_on_plateau_is_that_of_pytorch(constants, mode):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    values = VALUES if mode == "min" else [10 - value for value in VALUES]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.4)
    theirs = {"min_lr": constants["minimum"]} if "minimum" in constants else {}
    theirs |= {name: value for name, value in constants.items() if name != "minimum"}
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode, **theirs)
    rates = Rates(ReduceOnPlateau(0.4, "loss", mode, **constants), 100, 1)
    history = {"loss": []}
    for epoch, value in enumerate(values):
        rates.follow(history)
        assert rates.of_steps(epoch, epoch + 1)[0] == pytest.approx(
            optimizer.param_groups[0]["lr"], rel=1e-12
        )
        scheduler.step(value)
        history["loss"].append(value)


def test_a_plateau_lowers_what_a_schedule_gives_but_not_below_the_minimum():
    schedule = WarmUp(0.4, epochs=4, start_factor=0.0)
    rates = Rates(ReduceOnPlateau(schedule, "loss", patience=0, factor=0.1, minimum=0.05), 8, 1)
    rates.follow({"loss": [1.0, 1.0]})
    np.testing.assert_allclose(rates.of_steps(0, 6), [0, 0.05, 0.05, 0.05, 0.05, 0.05])
    rates = Rates(ReduceOnPlateau(schedule, "loss", patience=0, factor=0.1), 8, 1)
    rates.follow({"loss": [1.0, 1.0]})
    np.testing.assert_allclose(rates.of_steps(0, 6), [0, 0.01, 0.02, 0.03, 0.04, 0.04])


def test_reduce_on_plateau_in_fit(backend):
    """The loss of a network that cannot learn any more, since all targets are met, is a plateau."""
    net = fastnn.MLP((2, 1), output="identity", backend=backend)
    net.weights, net.biases = [np.zeros((1, 2))], [np.zeros(1)]
    schedule = ReduceOnPlateau(0.4, "val_loss", patience=1, factor=0.5)
    X = np.ones((4, 2))
    history = net.fit(X, [0.0] * 4, epochs=6, learning_rate=schedule, validation=(X, [0.0] * 4))
    assert history["learning_rate"] == [0.4, 0.4, 0.4, 0.2, 0.2, 0.1]


def test_a_plateau_of_what_is_not_in_the_history(backend):
    with pytest.raises(ValueError, match="monitors 'val_loss', which the history does not have"):
        history_of(backend, ReduceOnPlateau(0.1))


# ---- wrong constants ----


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(0), "learning_rate must be a finite number above 0"),
        (lambda: Cosine(-1), "learning_rate must be a finite number above 0"),
        (lambda: Cosine(0.1, minimum=-1), "minimum must be a finite number of at least 0"),
        (lambda: Step(0.1, every=0), "every must be a finite number above 0"),
        (lambda: Step(0.1, factor=-0.1), "factor must be a finite number above 0"),
        (lambda: Exponential(0.1, factor=0), "factor must be a finite number above 0"),
        (lambda: InverseScaling(0.1, power=np.nan), "power must be a finite number above 0"),
        (lambda: CosineRestarts(0.1, period=0), "period must be a finite number above 0"),
        (lambda: CosineRestarts(0.1, growth=0.5), "growth must be at least 1"),
        (lambda: OneCycle(0.1, warm_up=1), "warm_up must be at least 0 and below 1"),
        (lambda: OneCycle(0.1, start_factor=-1), "start_factor must be a finite number"),
        (lambda: OneCycle(0.1, final_factor=np.inf), "final_factor must be a finite number"),
        (lambda: CosLog4(np.inf), "learning_rate must be a finite number above 0"),
        (lambda: WarmUp(0.1, epochs=0), "epochs must be a finite number above 0"),
        (lambda: WarmUp(0.1, start_factor=-0.1), "start_factor must be a finite number"),
        (lambda: WarmUp(-0.1), "learning_rate must be a finite number above 0"),
        (lambda: ReduceOnPlateau(0), "learning_rate must be a finite number above 0"),
        (lambda: ReduceOnPlateau(0.1, mode="best"), "unknown mode 'best'; known: min, max"),
        (lambda: ReduceOnPlateau(0.1, factor=1), "factor must be above 0 and below 1"),
        (lambda: ReduceOnPlateau(0.1, patience=-1), "patience must be an integer"),
        (lambda: ReduceOnPlateau(0.1, threshold=1), "threshold must be at least 0 and below 1"),
        (lambda: ReduceOnPlateau(0.1, cooldown=-1), "cooldown must be an integer"),
        (lambda: ReduceOnPlateau(0.1, minimum=-1), "minimum must be a finite number"),
    ],
)
def test_wrong_constants_of_schedules(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_plateau_goes_outside():
    with pytest.raises(TypeError, match="learning_rate must be a number"):
        WarmUp(ReduceOnPlateau(0.1))
