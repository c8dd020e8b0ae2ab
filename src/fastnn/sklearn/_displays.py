"""Pictures of fitted estimators, by scikit-learn's Display convention. matplotlib is optional."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ._base import BaseMLP

    Array = NDArray[Any]

# Blue and orange of the palette by Okabe and Ito (2008), which most colour-blind people tell apart.
TRAINING_COLOR, VALIDATION_COLOR = "#0072B2", "#D55E00"


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("displays need matplotlib: pip install 'fastnn-cpu[plot]'") from error
    return plt


class TrainingCurveDisplay:
    """Loss, and the score of the validation samples if there is one, epoch by epoch.

    loss_curve             (n_epochs,)
    validation_loss_curve  None or (n_epochs,)
    validation_scores      None or (n_epochs,): drawn on an axis of their own, on the right
    estimator_name         None or the title

    After `plot`: `ax_` (the axes of the losses), `score_ax_` (None without scores), `figure_`,
    `lines_` (a list of Line2D).
    """

    def __init__(
        self,
        *,
        loss_curve: Sequence[float],
        validation_loss_curve: Sequence[float] | None = None,
        validation_scores: Sequence[float] | None = None,
        estimator_name: str | None = None,
    ) -> None:
        self.loss_curve = loss_curve
        self.validation_loss_curve = validation_loss_curve
        self.validation_scores = validation_scores
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls, estimator: BaseMLP, *, ax: Any = None, name: str | None = None, log_scale: bool = False
    ) -> Self:
        """Draw the training of a fitted `MLPClassifier` or `MLPRegressor`.

        ax         matplotlib axes to draw on; None: new ones
        name       title; None: the name of the class
        log_scale  whether the losses have a logarithmic axis

        Raises NotFittedError before fit, ValueError for solver="lbfgs", which keeps no curve,
        ImportError without matplotlib.
        """
        _pyplot()
        check_is_fitted(estimator)
        if not hasattr(estimator, "loss_curve_"):
            raise ValueError("this estimator has no loss_curve_: solver='lbfgs' keeps none")
        display = cls(
            loss_curve=estimator.loss_curve_,
            validation_loss_curve=estimator.validation_loss_curve_,
            validation_scores=estimator.validation_scores_,
            estimator_name=type(estimator).__name__ if name is None else name,
        )
        return display.plot(ax=ax, log_scale=log_scale)

    def plot(self, *, ax: Any = None, log_scale: bool = False, **line_kwargs: Any) -> Self:
        """Draw; **line_kwargs go to matplotlib's `plot`, for every line. Returns the display."""
        if ax is None:
            _, ax = _pyplot().subplots()
        self.ax_, self.score_ax_, self.figure_ = ax, None, ax.figure
        self.lines_: list[Any] = []
        self._line(ax, self.loss_curve, "training loss", TRAINING_COLOR, line_kwargs)
        if self.validation_loss_curve:
            label = "validation loss"
            self._line(ax, self.validation_loss_curve, label, VALIDATION_COLOR, line_kwargs)
        if log_scale:
            ax.set_yscale("log")
        ax.set(xlabel="epoch", ylabel="loss", title=self.estimator_name or "")
        ax.xaxis.get_major_locator().set_params(integer=True)
        if self.validation_scores:
            self.score_ax_ = ax.twinx()
            self.score_ax_.set_ylabel("validation score")
            kwargs = {"linestyle": "--", **line_kwargs}
            label = "validation score"
            self._line(self.score_ax_, self.validation_scores, label, VALIDATION_COLOR, kwargs)
        if len(self.lines_) > 1:
            # On the axes that are drawn last, so that no line runs across the legend.
            legend_ax = self.score_ax_ or ax
            legend_ax.legend(handles=self.lines_, loc="center right")
        return self

    def _line(
        self, ax: Any, values: Sequence[float], label: str, color: str, kwargs: dict[str, Any]
    ) -> None:
        epochs = np.arange(1, len(values) + 1)
        self.lines_ += ax.plot(epochs, values, **{"label": label, "color": color, **kwargs})


class WeightsDisplay:
    """The weights of neurons of the first hidden layer, each as an image of the inputs.

    images          (n_neurons, height, width)
    estimator_name  None or the title

    Red is positive, blue negative, white zero, on one scale for all images. After `plot`: `axes_`
    (an array of Axes, the unused ones hidden), `figure_`, `images_` (a list of AxesImage).
    """

    def __init__(self, *, images: Array, estimator_name: str | None = None) -> None:
        self.images = images
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseMLP,
        *,
        image_shape: tuple[int, int] | None = None,
        neurons: Sequence[int] | int = 16,
        name: str | None = None,
        figure: Any = None,
    ) -> Self:
        """Draw the first layer's weights of a fitted `MLPClassifier` or `MLPRegressor`.

        image_shape  (height, width) of a sample; None: square
        neurons      their numbers, or how many: those whose weights have the largest norm, the
                     largest first
        name         title; None: the name of the class
        figure       matplotlib figure to draw on; None: a new one

        Raises NotFittedError before fit, ValueError where image_shape does not fit the number of
        features, ImportError without matplotlib.
        """
        _pyplot()
        check_is_fitted(estimator)
        W = estimator.network_.weights[0]
        shape = _image_shape(image_shape, W.shape[1])
        by_norm = np.argsort(-np.linalg.norm(W, axis=1), kind="stable")
        chosen = by_norm[:neurons] if isinstance(neurons, int) else np.asarray(neurons)
        display = cls(
            images=W[chosen].reshape(-1, *shape),
            estimator_name=type(estimator).__name__ if name is None else name,
        )
        return display.plot(figure=figure)

    def plot(self, *, figure: Any = None, cmap: str = "RdBu_r", **image_kwargs: Any) -> Self:
        """Draw; **image_kwargs go to matplotlib's `imshow`. Returns the display."""
        n, height, width = self.images.shape
        n_columns = min(n, math.ceil(math.sqrt(n * height / width)))
        n_rows = math.ceil(n / n_columns)
        if figure is None:
            size = 1.2 * n_columns + 1.0, 1.2 * n_rows * height / width + 0.5
            figure = _pyplot().figure(figsize=size, layout="constrained")
        limit = float(np.abs(self.images).max()) or 1.0
        kwargs = {"cmap": cmap, "vmin": -limit, "vmax": limit, **image_kwargs}
        self.figure_, self.images_ = figure, []
        self.axes_ = figure.subplots(n_rows, n_columns, squeeze=False)
        for ax in self.axes_.flat:
            ax.set_axis_off()
        for ax, image in zip(self.axes_.flat, self.images, strict=False):
            self.images_.append(ax.imshow(image, **kwargs))
        figure.colorbar(self.images_[0], ax=self.axes_, shrink=0.8, label="weight")
        if self.estimator_name:
            figure.suptitle(self.estimator_name)
        return self


def _image_shape(image_shape: tuple[int, int] | None, n_features: int) -> tuple[int, int]:
    if image_shape is None:
        side = math.isqrt(n_features)
        image_shape = side, side
    if image_shape[0] * image_shape[1] != n_features:
        raise ValueError(
            f"image_shape {image_shape} does not make {n_features} features; "
            "give (height, width) of a sample"
        )
    return image_shape
