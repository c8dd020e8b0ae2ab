"""Arguments and weights that are refused, and with which error.

After every error the model is as it was and can be used: `net` of conftest.py sees to that.
"""

import numpy as np
import pytest
from conftest import good_X, good_y

import fastnn
from fastnn import schedules
from fastnn.network import LOSSES
from fastnn.optimizers import SGD

WRONG_ARGUMENTS = {
    "epochs 0": ({"epochs": 0}, ValueError, "epochs must be an integer of at least 1"),
    "epochs 1.5": ({"epochs": 1.5}, TypeError, "epochs must be an integer"),
    "epochs True": ({"epochs": True}, ValueError, "epochs must be an integer"),
    "batch_size 0": ({"batch_size": 0}, ValueError, "batch_size must be an integer of at least 1"),
    "batch_size text": ({"batch_size": "8"}, TypeError, "batch_size must be an integer"),
    "learning_rate 0": ({"learning_rate": 0}, ValueError, "learning_rate must be a finite number"),
    "learning_rate -1": ({"learning_rate": -1}, ValueError, "learning_rate must be a finite"),
    "learning_rate NaN": ({"learning_rate": np.nan}, ValueError, "learning_rate must be a finite"),
    "learning_rate inf": ({"learning_rate": np.inf}, ValueError, "learning_rate must be a finite"),
    "learning_rate text": ({"learning_rate": "fast"}, TypeError, "learning_rate must be a number"),
    "l2": ({"l2": -1.0}, ValueError, "l2 must be a finite number of at least 0"),
    "l1": ({"l1": np.nan}, ValueError, "l1 must be a finite number of at least 0"),
    "dropout 1": ({"dropout": 1.0}, ValueError, "dropout must be below 1, got 1"),
    "dropout -0.1": ({"dropout": -0.1}, ValueError, "dropout must be a finite number of at least"),
    "dropout NaN": ({"dropout": np.nan}, ValueError, "dropout must be a finite number of at least"),
    "dropout text": ({"dropout": "much"}, TypeError, "dropout must be a number, got 'much'"),
    "dropout None": ({"dropout": None}, TypeError, "dropout must be a number, got None"),
    "dropout of one": (
        {"dropout": (0.5,)},
        ValueError,
        "dropout takes one number .* or 2, .*got 1",
    ),
    "dropout of four": ({"dropout": [0.1] * 4}, ValueError, "dropout takes one number .*got 4"),
    "dropout of one 1": ({"dropout": (0.2, 1)}, ValueError, "dropout must be below 1, got 1"),
    "dropout of one NaN": ({"dropout": (np.nan, 0)}, ValueError, r"dropout\[0\] must be a finite"),
    "dropout in 2-D": ({"dropout": np.zeros((2, 2))}, TypeError, r"dropout\[0\] must be a number"),
    "clip_value 0": ({"clip_value": 0.0}, ValueError, "clip_value must be a finite number above 0"),
    "clip_value -1": ({"clip_value": -1}, ValueError, "clip_value must be a finite number above 0"),
    "clip_value NaN": ({"clip_value": np.nan}, ValueError, "clip_value must be a finite number"),
    "clip_value text": ({"clip_value": "norm"}, TypeError, "clip_value must be a number"),
    "clip_norm 0": ({"clip_norm": 0.0}, ValueError, "clip_norm must be a finite number above 0"),
    "clip_norm inf": ({"clip_norm": np.inf}, ValueError, "clip_norm must be a finite number"),
    "loss": ({"loss": "hinge"}, ValueError, f"unknown loss 'hinge'; known: {', '.join(LOSSES)}"),
    "loss of other output": ({"loss": "poisson"}, ValueError, "poisson' needs the output exp"),
    "optimizer": ({"optimizer": "adamax"}, ValueError, "unknown optimizer 'adamax'; known: sgd, a"),
    "optimizer class": ({"optimizer": SGD}, ValueError, "unknown optimizer"),
    "validation 0": ({"validation": 0.0}, ValueError, "validation must be None, a fraction"),
    "validation 1": ({"validation": 1.0}, ValueError, "validation must be None, a fraction"),
    "validation text": ({"validation": "some"}, TypeError, "validation must be a number"),
    "validation X": ({"validation": (good_X(),)}, ValueError, "validation must be .*got 1 items"),
    "validation width": (
        {"validation": (np.ones((2, 4)), [0, 1])},
        ValueError,
        r"validation X has shape \(2, 4\)",
    ),
    "validation lengths": (
        {"validation": (good_X(), [0, 1])},
        ValueError,
        "validation y has shape",
    ),
    "validation labels": (
        {"validation": (good_X(2), [0, 2])},
        ValueError,
        "validation y holds labels",
    ),
    "validation weights": (
        {"validation": (good_X(2), [0, 1], [0, 0])},
        ValueError,
        "validation sample_weight is zero",
    ),
    "validation NaN": (
        {"validation": (np.full((2, 3), np.nan), [0, 1])},
        ValueError,
        "validation data: X contains NaN or infinity",
    ),
    "weights only on one side": (
        {"validation": 0.5, "sample_weight": [1, 0, 0, 0, 0, 0]},
        ValueError,
        "sample_weight is zero on every row of a part",
    ),
    "factors number": (
        {"learning_rate_factors": [1.0]},
        ValueError,
        "learning_rate_factors must be one number for each of the 2 layers",
    ),
    "factors zero": ({"learning_rate_factors": [0, 0]}, ValueError, "not all of them 0"),
    "factors negative": (
        {"learning_rate_factors": [1, -1]},
        ValueError,
        "learning_rate_factors must be a finite number of at least 0",
    ),
    "factors not a sequence": ({"learning_rate_factors": 0.5}, ValueError, "for each of the 2 lay"),
    "factors text": ({"learning_rate_factors": "no"}, TypeError, "learning_rate_factors must be a"),
    "schedule class": (
        {"learning_rate": schedules.Cosine},
        TypeError,
        "learning_rate must be a number",
    ),
    "schedule text": (
        {"learning_rate": lambda step: "0.1"},
        TypeError,
        "learning_rate, a function, must return numbers",
    ),
    "schedule negative": (
        {"learning_rate": lambda step: 0.1 - step, "batch_size": 2},
        ValueError,
        "learning_rate must be a finite number of at least 0 .* -0.9 for step 1",
    ),
    "schedule NaN": (
        {"learning_rate": lambda step: np.nan},
        ValueError,
        "learning_rate must be a finite number .* nan for step 0",
    ),
    "callbacks": ({"callbacks": [3]}, TypeError, "callbacks must be"),
    "callback class": ({"callbacks": [fastnn.callbacks.Callback]}, TypeError, "callbacks must be"),
}


@pytest.mark.parametrize("case", WRONG_ARGUMENTS)
def test_wrong_arguments_of_fit(net, case):
    arguments, error, message = WRONG_ARGUMENTS[case]
    with pytest.raises(error, match=message):
        net.fit(good_X(), good_y(), **arguments)


def test_a_fraction_of_one_sample(net):
    with pytest.raises(ValueError, match="needs at least 2 samples"):
        net.fit(good_X(1), [0], validation=0.5)


@pytest.mark.parametrize("output", ["identity", "exp"])
def test_predict_proba_of_values(backend, output):
    with pytest.raises(ValueError, match="predict_proba needs the output softmax or sigmoid"):
        fastnn.MLP((3, 2), output=output, backend=backend).predict_proba(good_X())


# ---- weights ----

WRONG_PARAMETERS = {
    "number": ([np.zeros((4, 3))], ValueError, "weights takes 2 arrays, .*got 1"),
    "shape": ([np.zeros((3, 4)), np.zeros((2, 4))], ValueError, r"\(3, 4\), the network's is \(4"),
    "NaN": ([np.full((4, 3), np.nan), np.zeros((2, 4))], ValueError, r"weights\[0\] contains NaN"),
    "text": ([np.full((4, 3), "a"), np.zeros((2, 4))], TypeError, r"weights\[0\] must hold real"),
}


@pytest.mark.parametrize("case", WRONG_PARAMETERS)
def test_wrong_weights(net, case):
    arrays, error, message = WRONG_PARAMETERS[case]
    with pytest.raises(error, match=message):
        net.weights = arrays


def test_wrong_biases(net):
    with pytest.raises(ValueError, match=r"biases\[1\] has shape \(3,\), the network's is \(2,\)"):
        net.biases = [np.zeros(4), np.zeros(3)]
    with pytest.raises(ValueError, match=r"biases\[1\] contains NaN or infinity"):
        net.biases = [np.zeros(4), np.full(2, np.inf)]


def test_weights_cannot_be_edited_in_place(net):
    with pytest.raises(ValueError, match="read-only"):
        net.weights[0][0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        net.biases[0][...] = 1.0
    with pytest.raises(TypeError, match="does not support item assignment"):
        net.weights[0] = np.zeros((4, 3))


def test_weights_cannot_be_assigned_while_fit_is_running(backend):
    net = fastnn.MLP((3, 4, 2), backend=backend)

    def assign(run):
        run.net.weights = [np.zeros((4, 3)), np.zeros((2, 4))]

    with pytest.raises(RuntimeError, match="weights cannot be assigned while fit is running"):
        net.fit(good_X(), good_y(), callbacks=assign)
    net.weights = [np.zeros((4, 3)), np.zeros((2, 4))]
    assert not net.weights[0].any()
