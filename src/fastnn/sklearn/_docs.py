"""The parts of the two estimators' docstrings that are the same, in scikit-learn's style."""

from __future__ import annotations

SCIKIT_PARAMETERS = """
    hidden_layer_sizes : array-like of int or int, default=(100,)
        Neurons of each hidden layer; none for a linear model.

    activation : str, `fastnn.activation`, or sequence of these, default="relu"
        Of the hidden layers: one, or one for each. "identity", "logistic" (also called
        "sigmoid"), "tanh" and "relu" are scikit-learn's, "leaky_relu", "elu", "selu", "softplus",
        "gelu", "silu" and "mish" are fastnn's.

    solver : {"adam", "sgd", "lbfgs"}, default="adam"
        "lbfgs" is SciPy's L-BFGS-B on all samples at a time.

    alpha : float, default=0.0001
        L2 penalty, with scikit-learn's meaning: a step adds alpha W / (samples of the batch, or the
        sum of their weights) to the gradient, so that it counts the less the larger the batch.

    batch_size : int or "auto", default="auto"
        "auto" is min(200, n_samples).

    learning_rate : {"constant", "invscaling", "adaptive"} or schedule, default="constant"
        An object of fastnn.schedules or a function f(step) gives the rates itself, in place of
        learning_rate_init. The names are for solver="sgd". "invscaling":
        learning_rate_init / (samples seen)^power_t; "adaptive": divided by 5 instead of stopping,
        until it is below 1e-6.

    learning_rate_init : float, default=0.001
        The first learning rate.

    power_t : float, default=0.5
        The exponent of "invscaling".

    max_iter : int, default=200
        Epochs at most; iterations of L-BFGS.

    shuffle : bool, default=True
        Whether every epoch has a new order of the samples.

    random_state : int, RandomState instance or None, default=None
        First weights, split of early stopping, orders of the samples, dropout. The same number
        gives the weights and the orders that it gives in scikit-learn.

    tol : float, default=1e-4
        Training stops when n_iter_no_change epochs in a row were not better by tol; the gradient's
        bound for L-BFGS.

    verbose : bool or int, default=False
        Whether to print a line for every epoch.

    warm_start : bool, default=False
        Whether fit goes on from the present weights.

    momentum : float, default=0.9
        For solver="sgd", at least 0 and below 1.

    nesterovs_momentum : bool, default=True
        For solver="sgd" with momentum.

    early_stopping : bool, default=False
        Whether to set samples apart (or take X_val of fit), stop when the score on them gets no
        better, and keep the weights of the best epoch.

    validation_fraction : float, default=0.1
        How many samples early_stopping sets apart.

    beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
        Of solver="adam".

    n_iter_no_change : int or inf, default=10
        See tol.

    max_fun : int, default=15000
        Calls of the loss at most, for solver="lbfgs".
"""

FASTNN_PARAMETERS = """
    weight_decay : float, default=0.0
        Decoupled: before a step, W shrinks by learning rate * weight_decay * W. Unlike alpha, it
        does not depend on the size of the batch, nor on what Adam makes of gradients.

    dropout : float or sequence of float, default=0.0
        The chance that a hidden neuron is left out of a step; or one number for the input and one
        for each hidden layer.

    clip_norm : float or None, default=None
        The gradient of a step is scaled down to this norm where it is longer.

    optimizer : object of fastnn.optimizers, its name or None, default=None
        In place of the solver "adam" or "sgd"; takes learning_rate_init as its rate.

    scoring : str, callable or None, default=None
        What early_stopping judges by: a scorer of scikit-learn, or "loss". None: {score}.

    callbacks : list of fastnn callbacks or functions f(run), or None, default=None
        Called while training; see `fastnn.callbacks`. scikit-learn's own go to `set_callbacks`.

    n_threads : int or None, default=None
        Threads. None: as many as pay, of the cores that the process may use and, inside joblib's
        workers, its share of them. The result does not depend on it.

    backend : {{"auto", "cython", "numba", "numpy"}}, default="auto"
        See `fastnn.MLP`.

    dtype : {{"float32", "float64"}} or None, default=None
        Of the weights, the computation and the results. None: float32 if X of the first fit is,
        else float64. "float32" is about twice as fast.
"""

ATTRIBUTES = """
    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of each layer, read-only views; assign a list to set them.

    intercepts_ : list of ndarray of shape (n_out,)
        Biases of each layer, likewise.

    network_ : fastnn.MLP
        The network itself.

    loss_, best_loss_ : float
        Loss of the last and of the best epoch, penalty included. best_loss_ is None with
        early_stopping.

    loss_curve_ : list of float
        Loss of every epoch. Not there for solver="lbfgs".

    validation_loss_curve_ : list of float or None
        Loss on the validation samples, without penalty.

    validation_scores_, best_validation_score_ : list of float and float, or None
        With early_stopping.

    n_iter_ : int
        Epochs, or iterations, of the last fit.

    t_ : int
        Samples trained on, over all epochs.

    n_layers_, n_outputs_, n_features_in_ : int
        Layers with input and output, outputs, inputs.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        If X had names, all of them strings.

    out_activation_ : str
        "softmax", "logistic", "identity" or "exp".
"""
