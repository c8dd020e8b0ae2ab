"""MLP: the model that users hold, with its training. Every loop over samples lives in a backend."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from . import backends, checkpoints, checks, samples, training
from .batch_training import BatchTraining
from .callbacks import Callback, History, Progress, Run
from .callbacks.base import collect
from .lbfgs import LBFGSTraining
from .losses import Loss, with_smoothing
from .model import Model
from .network import Network
from .optimizers import LBFGS, Optimizer
from .optimizers import get as get_optimizer
from .options import BATCH_SIZE, LEARNING_RATE, TrainingOptions
from .schedules import LearningRate
from .turns import alone

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from .class_weights import ClassWeight
    from .custom import Activation
    from .metrics import Metrics
    from .samples import Samples
    from .streams import Stream, StreamedSamples

    Array = NDArray[Any]
    Callbacks = Callback | Callable[[Run], object] | Iterable[Callback | Callable[[Run], object]]


class MLP(Model):
    """A multilayer perceptron. It has weights, and can predict, from the start.

    layer_sizes  inputs, hidden layers (none or more), outputs, such as (784, 128, 10)
    activation   of the hidden layers: one name of `fastnn.network.ACTIVATIONS` or one of your own
                 (`fastnn.activation`), or one per hidden layer
    output       "softmax" (classes), "sigmoid" (yes or no, for each output), "identity" (values)
                 or "exp" (counts and rates)
    dtype        "float32" or "float64": of the weights, the computation and the results
    seed         integer in 0 ... 2^64-1: first weights, order of samples, validation split
    backend      "auto", "cython", "numba" or "numpy"; auto is the environment's FASTNN_BACKEND if
                 set, else cython where it is built, else numpy
    n_threads    None: FASTNN_NUM_THREADS if set, else the engine decides; results do not depend
                 on it. The numpy backend leaves threads to NumPy's BLAS.
    initializer  "auto" takes the one that suits each activation; or one of
                 `fastnn.network.INITIALIZERS` for all layers. Biases start at zero.

    Raises ValueError for an unknown name (listing the known ones) or a bad size, ImportError for a
    backend that is not installed.

    X, in every method, is (n, n_in) with n >= 1: float32, float64 or uint8 arrays of any strides
    are read as they are (memory maps and read-only arrays too); uint8 means x/255; what else is
    numeric is converted. So are SciPy's sparse matrices: CSR as it is, to the bits of the array
    of the same values; other formats are converted to it. NaN, infinity, a wrong shape or values
    beyond `dtype` raise ValueError, text, objects and complex numbers TypeError.
    """

    def __init__(
        self,
        layer_sizes: Sequence[int],
        activation: str | Activation | Sequence[str | Activation] = "relu",
        output: str = "softmax",
        dtype: DTypeLike = "float32",
        seed: int = 0,
        backend: str = "auto",
        n_threads: int | None = None,
        *,
        initializer: str = "auto",
    ) -> None:
        network = Network(layer_sizes, activation, output, dtype)
        seed = checks.check_count(seed, "seed", at_least=0, below=2**64)
        self._set_up(network, seed, backend, n_threads)
        self._take(network.initialize(seed, initializer))

    def fit(
        self,
        X: ArrayLike | Stream,
        y: ArrayLike | None = None,
        epochs: int = 10,
        batch_size: int | None = BATCH_SIZE,
        optimizer: str | Optimizer | LBFGS = "adam",
        learning_rate: LearningRate = LEARNING_RATE,
        loss: str | Loss | None = None,
        l2: float = 0.0,
        l1: float = 0.0,
        validation: float | Sequence[ArrayLike] | None = None,
        shuffle: bool | Callable[[int], ArrayLike] = True,
        sample_weight: ArrayLike | None = None,
        callbacks: Callbacks = (),
        verbose: bool = False,
        *,
        learning_rate_factors: Sequence[float] | None = None,
        dropout: float | Sequence[float] = 0.0,
        label_smoothing: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        class_weight: ClassWeight | None = None,
        metrics: Metrics = (),
        max_seconds: float | None = None,
        resume: str | os.PathLike[str] | bool | None = None,
        batch_weighting: bool = False,
    ) -> History:
        """Train from the present weights on, with a new optimizer state; returns the history.

        X, y           (n, n_in); class indices (n,), one-hot or soft labels (n, n_out) for softmax;
                       0/1 (n, n_out), or (n,) if n_out is 1, for sigmoid; values of the same shapes
                       for identity and exp (for several quantiles a column for each target).
                       Without y, X is a stream of chunks, see `fastnn.streams`: for data that do
                       not lie in memory. Its chunks are cut into batches one by one, in their own
                       order or, with shuffle, each in a new one; sample weights are taken as they
                       come, validation is data given apart.
        batch_size     None: all samples, or those of a chunk, in one step; 1: stochastic descent. A
                       smaller last batch is trained on like the others. LBFGS always takes all
                       samples.
        optimizer      the name of one of `fastnn.optimizers`, such as "sgd" or "adamw", or such an
                       object
        learning_rate  above 0; or a schedule of `fastnn.schedules`; or any function f(step) of the
                       step's number in this fit, from 0
        loss           a name or an object of `fastnn.losses`; None: the one that belongs to the
                       output (cross_entropy, binary_cross_entropy, squared_error, poisson)
        l2, l1         the objective has + l2/2 ||W||^2 + l1 ||W||_1, over weights, not biases
        validation     None, a fraction of the samples set apart at random (the same ones in every
                       fit, by the seed), (X, y) or (X, y, sample_weight)
        shuffle        a new order in every epoch, a function of the seed and `epochs_trained`; or a
                       function of your own, shuffle(epoch), epoch counting from 1, that returns the
                       row numbers of X, (n,) integers, in the order to train on, repeats allowed;
                       not beside a fraction for validation
        sample_weight  (n,), not negative; scaled to mean one over the training samples
        callbacks      objects of `fastnn.callbacks.Callback`, or functions f(run) called at the end
                       of every epoch
        verbose        print one line for every epoch
        learning_rate_factors  one number per layer, by which its learning rate is multiplied; 0
                       freezes the layer, and saves its share of the work. None: all 1.
        dropout        the chance, in [0, 1), that an h is zero for a step: one number for every
                       hidden layer, or one for each from the input on, (p_input, p_1, ..., p_L)
        label_smoothing  s in [0, 1): train on labels (1 - s) y + s / number of classes, by
                       cross_entropy or binary_cross_entropy; val_loss is without it
        clip_value     above 0: no element of a gradient counts for more; None: no limit
        clip_norm      above 0: the gradient of all weights and biases together is scaled down to
                       this norm where it is larger, after clip_value; None: no limit
        class_weight   for softmax with class indices or one-hot labels, and one sigmoid output:
                       "balanced", or a mapping from classes to weights, 1 for a class that is
                       missing. It multiplies sample_weight before that is scaled; validation data
                       are measured without it.
        metrics        what to measure on the validation data after every epoch, in place of
                       accuracy or r2: a name ("accuracy", "top_k", "log_loss", "r2", "mae"), a
                       `fastnn.metrics.TopK`, a function metric(y, f) that returns a number, a
                       mapping from names to these, or several of them
        max_seconds    end the training, in the middle of an epoch if need be, when it has lasted so
                       long, but not before one step is done. None: no limit
        resume         path of a checkpoint that a `fastnn.callbacks.Checkpoint` has written: go on
                       from there, to the same bits as the run that was never interrupted. Weights,
                       optimizer state, history, callbacks and `epochs_trained` are those of the
                       checkpoint. epochs counts from the beginning of the run; a run that has them
                       all returns at once. All other arguments, the data and this model's
                       architecture, seed and backend must be the same.
                       True: from the newest file of the Checkpoint among the callbacks, or from the
                       start if there is none yet
        batch_weighting
                       a step follows (sum_t w_t gradient_t + l2 W + l1 sign(W)) / sum_t w_t, sums
                       over its batch, as scikit-learn's MLP does: l2 then counts the less the
                       larger the batch, and a batch's weights count only among themselves. False:
                       1/n_batch sum_t w_t gradient_t + l2 W + l1 sign(W)

        The history has a list with one entry per epoch for each of: loss (the mean over the epoch,
        each sample before its step, with dropout and label smoothing, plus the penalty at the end);
        if there is validation, val_loss (without any of these) and val_accuracy, val_r2 or val_NAME
        for each of `metrics`; learning_rate (of the last step), seconds (training only) and
        samples_per_second. It is kept as `history`. All its lists have the same length: an epoch
        that max_seconds, an error or Ctrl-C has cut short has no entry and is not counted in
        `epochs_trained`; the weights are those of the last step.

        Raises ValueError or TypeError for wrong input, DivergenceError when the loss or the weights
        become NaN or infinite, RuntimeError if another fit is running on this model. Ctrl-C, and
        whatever a callback or a metric raises, ends the training with the weights of the last step.
        For resume: FileNotFoundError; ModelFileError for a file that is damaged or no checkpoint;
        ValueError that lists everything that is not the same.
        """
        with alone(self, "fit is already running on this model"):
            loss = checks.check_loss(loss, self.network.output)
            optimizer = get_optimizer(optimizer)
            if callable(shuffle) and (y is None or isinstance(validation, float)):
                raise ValueError(
                    "shuffle as a function needs arrays, and validation=None or (X, y)"
                )
            data, held = self._data(X, y, sample_weight, validation, loss, class_weight)
            n = data.n_samples or backends.MANY
            told = collect(callbacks)
            plan = training.Plan(
                data,
                held,
                epochs=checks.check_count(epochs, "epochs"),
                batch_size=n
                if batch_size is None
                else min(n, checks.check_count(batch_size, "batch_size")),
                options=self._options(
                    optimizer,
                    with_smoothing(loss, label_smoothing),
                    l2=l2,
                    l1=l1,
                    dropout=dropout,
                    clip_value=clip_value,
                    clip_norm=clip_norm,
                    learning_rate_factors=learning_rate_factors,
                    batch_weighting=bool(batch_weighting),
                ),
                learning_rate=learning_rate,
                shuffle=shuffle if callable(shuffle) else bool(shuffle),
                callbacks=[*told, Progress(live=False)] if verbose else told,
                metrics=training.check_metrics(metrics, held, self.network, loss),
                max_seconds=checks.check_limit(max_seconds, "max_seconds"),
            )
            run = LBFGSTraining if isinstance(optimizer, LBFGS) else training.Training
            path = checkpoints.find(resume, told)
            return run(self, self._new_engine(), plan).fit(path)

    def train_on_batch(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        optimizer: str | Optimizer | LBFGS = "adam",
        learning_rate: float = LEARNING_RATE,
        loss: str | Loss | None = None,
        label_smoothing: float = 0.0,
        l2: float = 0.0,
        l1: float = 0.0,
        dropout: float | Sequence[float] = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        learning_rate_factors: Sequence[float] | None = None,
    ) -> float:
        """One step on all of X; returns the mean loss before it, without penalty.

        For loops of one's own, where `fit` with a stream does not serve: every call costs copies of
        all parameters. Arguments as in fit, but for sample_weight, which is taken as it is. The
        optimizer's state goes on from call to call as long as the arguments other than X, y,
        sample_weight and learning_rate are the same and nothing else changes the weights; it is
        not kept in files and copies. Raises what fit raises; the weights are then as before, and
        the optimizer's state too unless a step that went on from it diverged or was interrupted.
        """
        with alone(self, "fit is already running on this model"):
            loss = checks.check_loss(loss, self.network.output)
            optimizer = get_optimizer(optimizer)
            if isinstance(optimizer, LBFGS):
                raise ValueError("LBFGS searches over many steps: use fit")
            rate = checks.check_amount(learning_rate, "learning_rate", positive=True)
            options = self._options(
                optimizer,
                with_smoothing(loss, label_smoothing),
                l2=l2,
                l1=l1,
                dropout=dropout,
                clip_value=clip_value,
                clip_norm=clip_norm,
                learning_rate_factors=learning_rate_factors,
            )
            data = samples.chunk((X, y, sample_weight), self.network, loss)
            batches = self._batches
            if batches is None or not batches.continues(options):
                batches = BatchTraining(self, options)
            mean_loss = batches.step(data, rate)
            self._batches = batches
            return mean_loss

    def _options(
        self,
        optimizer: Optimizer | LBFGS,
        loss: Loss,
        l2: float,
        l1: float,
        dropout: float | Sequence[float],
        clip_value: float | None,
        clip_norm: float | None,
        learning_rate_factors: Sequence[float] | None,
        batch_weighting: bool = False,
    ) -> TrainingOptions:
        return TrainingOptions(
            optimizer,
            loss,
            l2=checks.check_amount(l2, "l2"),
            l1=checks.check_amount(l1, "l1"),
            dropout=checks.check_dropout(dropout, self.network),
            seed=self.seed,
            clip_value=checks.check_limit(clip_value, "clip_value"),
            clip_norm=checks.check_limit(clip_norm, "clip_norm"),
            learning_rate_factors=checks.check_factors(learning_rate_factors, self.network),
            batch_weighting=batch_weighting,
        )

    def _data(
        self,
        X: Any,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
        validation: float | Sequence[ArrayLike] | None,
        loss: str | Loss,
        class_weight: ClassWeight | None,
    ) -> tuple[Samples | StreamedSamples, Samples | None]:
        """fit's data, and those that validation is measured on."""
        if y is None:
            return samples.streamed(X, sample_weight, validation, self.network, loss, class_weight)
        return samples.split(
            X, y, sample_weight, validation, self.network, loss, self.seed, class_weight
        )

    def loss_and_gradients(
        self,
        X: ArrayLike,
        y: ArrayLike,
        loss: str | Loss | None = None,
        l2: float = 0.0,
        l1: float = 0.0,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> tuple[float, list[Array], list[Array]]:
        """The objective J at the present weights, [dW_1, ...], [db_1, ...]; arguments as in fit."""
        loss = checks.check_loss(loss, self.network.output)
        data, _ = samples.split(X, y, sample_weight, None, self.network, loss, self.seed)
        J, gradient = self._engine().loss_and_gradients(
            data.X,
            data.y,
            data.sample_weight,
            loss,
            checks.check_amount(l2, "l2"),
            checks.check_amount(l1, "l1"),
        )
        dW, db = self.network.views(gradient)
        return J, dW, db
