"""Every public name, how to call it, and what kind of value each of its parameters takes."""

import numpy as np
from conftest import blobs, flat_of

import fastnn
from fastnn import callbacks, custom, datasets, losses, metrics, optimizers, schedules, streams

X, Y = blobs(8, 3, 2)


def with_net(use, **arguments):
    """A row's call: `use(net, ...)` on a net that must stay as it was when it raises."""

    def call(**given):
        net = fastnn.MLP((3, 4, 2), backend=call.backend, **arguments)
        before = flat_of(net)
        try:
            return use(net, **given)
        except (TypeError, ValueError):
            if not net.history:  # else it was found out when the first epoch had ended
                assert np.array_equal(flat_of(net), before)
            raise

    return call


def method(name, **arguments):
    return with_net(lambda net, **given: getattr(net, name)(**given), **arguments)


def set_property(name):
    return with_net(lambda net, value: setattr(net, name, value))


def fit_with(argument, make, **others):
    """A row's call: an object made, and then used by fit."""

    def use(net, **given):
        arguments = {"epochs": 2, "batch_size": 4, "validation": 0.5, **others}
        net.fit(X, Y, **arguments | {argument: make(**given)})

    return with_net(use)


def schedule(name):
    return fit_with("learning_rate", getattr(schedules, name))


def optimizer(name):
    make = getattr(optimizers, name)
    if name == "LBFGS":
        return with_net(lambda net, **given: net.fit(X, Y, 2, optimizer=make(**given)))
    return fit_with("optimizer", make)


def callback(name):
    return fit_with("callbacks", getattr(callbacks, name))


def loss(name, output):
    def call(**given):
        made = getattr(losses, name)(**given)
        net = fastnn.MLP((3, 4, 1), output=output, backend=call.backend)
        net.fit(X, Y[:, np.newaxis] if output != "softmax" else np.zeros(8, int), 1, loss=made)

    return call


def registration(kind):
    """A row's call: the function goes again, so that the rows after it have but built-in names."""

    def call(name="tried", **given):
        registered = custom._registered[kind]
        before = dict(registered)
        try:
            getattr(fastnn, kind)(name=name, **given)
        except (TypeError, ValueError):
            assert registered == before
            raise
        finally:
            registered.clear()
            registered.update(before)

    return call


def stream(make):
    return with_net(lambda net, **given: net.fit(make(**given), epochs=1))


OF_STEPS = {
    "optimizer": "nothing", "learning_rate": "positive", "loss": "none",
    "label_smoothing": "smoothing", "l2": "amount", "l1": "amount", "dropout": "smoothing",
    "clip_value": "positive or None", "clip_norm": "positive or None",
    "learning_rate_factors": "none",
}  # fmt: skip
BETAS = {"betas": "nothing", "eps": "positive"}
RATE = {"learning_rate": "positive"}
# name: (call, the arguments it always gets, the kind of each parameter)
ROWS = {
    "MLP": (
        lambda **given: fastnn.MLP(**given),
        {"layer_sizes": (3, 4, 2)},
        {
            "layer_sizes": "nothing", "activation": "nothing", "output": "nothing",
            "dtype": "nothing", "seed": "count from 0", "backend": "nothing",
            "n_threads": "count or None", "initializer": "nothing",
        },
    ),
    "MLP.fit": (
        method("fit"),
        {"X": X, "y": Y, "epochs": 1},
        {
            "X": "nothing", "y": "nothing", "epochs": "count", "batch_size": "count or None",
            "validation": "fraction or None", "shuffle": "truth", "sample_weight": "none",
            "callbacks": "callbacks", "verbose": "truth", "class_weight": "mapping",
            "metrics": "metrics", "max_seconds": "positive or None", "resume": "path or None",
            "batch_weighting": "truth", **OF_STEPS,
        },
    ),
    "MLP.train_on_batch": (
        method("train_on_batch"),
        {"X": X, "y": Y},
        {"X": "nothing", "y": "nothing", "sample_weight": "none", **OF_STEPS},
    ),
    "MLP.loss_and_gradients": (
        method("loss_and_gradients"),
        {"X": X, "y": Y},
        {
            "X": "nothing", "y": "nothing", "loss": "none", "l2": "amount", "l1": "amount",
            "sample_weight": "none",
        },
    ),
    "MLP.forward": (method("forward"), {}, {"X": "nothing"}),
    "MLP.hidden": (method("hidden"), {"X": X}, {"X": "nothing", "layer": "layer"}),
    "MLP.predict": (method("predict"), {}, {"X": "nothing"}),
    "MLP.predict_proba": (method("predict_proba"), {}, {"X": "nothing"}),
    "MLP.evaluate": (
        method("evaluate"),
        {"X": X, "y": Y},
        {
            "X": "nothing", "y": "nothing", "loss": "none", "sample_weight": "none",
            "metrics": "metrics",
        },
    ),
    "MLP.save": (method("save"), {}, {"path": "path"}),
    "MLP.summary": (method("summary"), {}, {}),
    "MLP.weights": (set_property("weights"), {}, {"value": "nothing"}),
    "MLP.biases": (set_property("biases"), {}, {"value": "nothing"}),
    "activation": (
        registration("activation"),
        {"f": lambda a: a * a},
        {"f": "decorator", "derivative": "none", "name": "name"},
    ),
    "loss": (
        registration("loss"),
        {"f": lambda f, y: (f - y) * (f - y)},
        {
            "f": "decorator", "derivative": "none", "name": "name", "output": "nothing",
        },
    ),
    "load": (
        lambda **given: fastnn.load(**given),
        {"path": "model"},
        {"path": "path", "backend": "nothing", "n_threads": "count or None"},
    ),
    "available_backends": (lambda: fastnn.available_backends(), {}, {}),
    "available_isas": (lambda: fastnn.available_isas(), {}, {}),
    "show_config": (lambda **given: fastnn.show_config(**given), {}, {"mode": "nothing"}),
    "datasets.load_digits_subset": (datasets.load_digits_subset, {}, {}),
    "datasets.load_mnist": (None, {}, {"download": "truth"}),
    "datasets.load_fashion_mnist": (None, {}, {"download": "truth"}),
    "datasets.read_idx": (datasets.read_idx, {}, {"path": "path"}),
    "metrics.TopK": (
        fit_with("metrics", metrics.TopK), {}, {"k": "count"}
    ),
    "losses.CrossEntropy": (loss("CrossEntropy", "softmax"), {}, {"label_smoothing": "smoothing"}),
    "losses.BinaryCrossEntropy": (
        loss("BinaryCrossEntropy", "sigmoid"), {}, {"label_smoothing": "smoothing"}
    ),
    "losses.SquaredError": (loss("SquaredError", "identity"), {}, {}),
    "losses.Poisson": (loss("Poisson", "exp"), {}, {}),
    "losses.AbsoluteError": (loss("AbsoluteError", "identity"), {}, {}),
    "losses.Huber": (loss("Huber", "identity"), {}, {"delta": "positive"}),
    "losses.Quantile": (loss("Quantile", "identity"), {}, {"quantiles": "nothing"}),
    "losses.GroupedCrossEntropy": (
        loss("GroupedCrossEntropy", "identity"),
        {},
        {"label_smoothing": "smoothing", "sizes": "no groups"},
    ),
    "optimizers.SGD": (
        optimizer("SGD"),
        {},
        {"momentum": "from 0 below 1", "nesterov": "truth", "weight_decay": "amount"},
    ),
    "optimizers.Adagrad": (optimizer("Adagrad"), {}, {"eps": "positive"}),
    "optimizers.RMSprop": (
        optimizer("RMSprop"),
        {},
        {"alpha": "from 0 below 1", "eps": "positive", "momentum": "from 0 below 1"},
    ),
    "optimizers.Adam": (optimizer("Adam"), {}, {**BETAS, "epsilon_hat": "truth"}),
    "optimizers.AdamW": (
        optimizer("AdamW"), {}, {**BETAS, "epsilon_hat": "truth", "weight_decay": "amount"}
    ),
    "optimizers.Lion": (optimizer("Lion"), {}, {"betas": "nothing", "weight_decay": "amount"}),
    "optimizers.LBFGS": (
        optimizer("LBFGS"),
        {},
        {"history_size": "count", "tolerance_grad": "amount", "tolerance_change": "amount"},
    ),
    "schedules.Schedule": (schedule("Schedule"), {}, {}),
    "schedules.Constant": (schedule("Constant"), {}, RATE),
    "schedules.Step": (
        schedule("Step"),
        {"learning_rate": 0.1},
        {**RATE, "every": "positive", "factor": "positive"},
    ),
    "schedules.Exponential": (
        schedule("Exponential"), {"learning_rate": 0.1}, {**RATE, "factor": "positive"}
    ),
    "schedules.InverseScaling": (
        schedule("InverseScaling"), {"learning_rate": 0.1}, {**RATE, "power": "positive"}
    ),
    "schedules.Cosine": (
        schedule("Cosine"), {"learning_rate": 0.1}, {**RATE, "minimum": "amount"}
    ),
    "schedules.CosineRestarts": (
        schedule("CosineRestarts"),
        {"learning_rate": 0.1},
        {**RATE, "period": "positive", "growth": "at least 1", "minimum": "amount"},
    ),
    "schedules.OneCycle": (
        schedule("OneCycle"),
        {"learning_rate": 0.1},
        {
            **RATE, "warm_up": "from 0 below 1", "start_factor": "amount",
            "final_factor": "amount",
        },
    ),
    "schedules.CosLog4": (schedule("CosLog4"), {}, RATE),
    "schedules.Function": (schedule("Function"), {}, {"function": "class"}),
    "schedules.WarmUp": (
        schedule("WarmUp"),
        {"schedule": 0.1},
        {"schedule": "positive", "epochs": "positive", "start_factor": "amount"},
    ),
    "schedules.ReduceOnPlateau": (
        schedule("ReduceOnPlateau"),
        {"schedule": 0.1},
        {
            "schedule": "positive", "monitor": "nothing", "mode": "nothing",
            "factor": "between 0 and 1", "patience": "count from 0",
            "threshold": "from 0 below 1", "cooldown": "count from 0", "minimum": "amount",
        },
    ),
    "callbacks.Callback": (callback("Callback"), {}, {}),
    "callbacks.AtEpochEnd": (
        callback("AtEpochEnd"), {}, {"function": "returns"}
    ),
    "callbacks.Progress": (callback("Progress"), {}, {"live": "truth"}),
    "callbacks.EarlyStopping": (
        callback("EarlyStopping"),
        {},
        {
            "monitor": "nothing", "patience": "count", "min_delta": "amount",
            "restore_best": "truth", "mode": "nothing",
        },
    ),
    "callbacks.Checkpoint": (
        callback("Checkpoint"),
        {"path": "checkpoint"},
        {
            "path": "path", "every": "count or None", "every_steps": "count or None",
            "keep": "count",
        },
    ),
    "callbacks.CSVLogger": (callback("CSVLogger"), {}, {"path": "path"}),
    "callbacks.EMA": (
        callback("EMA"),
        {},
        {"decay": "from 0 below 1", "every_steps": "count", "use_at_end": "truth"},
    ),
    "callbacks.SWA": (
        callback("SWA"), {"first_epoch": 1}, {"first_epoch": "count", "use_at_end": "truth"}
    ),
    "streams.Blocks": (
        stream(streams.Blocks),
        {"X": X, "y": Y},
        {
            "X": "nothing", "y": "nothing", "sample_weight": "none", "block_rows": "count",
            "n_blocks": "count", "seed": "count from 0",
        },
    ),
    "streams.Shards": (
        stream(streams.Shards),
        {"paths": ["shard.npz"]},
        {"paths": "folder", "names": "nothing", "seed": "seed or None"},
    ),
}  # fmt: skip
