"""Tables in .npz and .csv files: what `fastnn train FILE` and `fastnn predict MODEL FILE` read.

A target of integers or text is a class label, a target with any decimal number is a value to be
estimated. Labels are numbered in their sorted order.
"""

from __future__ import annotations

import array
import csv
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import datasets

if TYPE_CHECKING:
    from .mlp import MLP

Array = NDArray[Any]

TASKS = ("auto", "classification", "regression")


@dataclass
class Table:
    """Samples in rows, divided into a training and a test set.

    X_train, X_test  (n, n_features) uint8 or floating point
    y_train, y_test  int64 (n,), the class of each row; or floating point (n,) or (n, n_outputs)
    classes          the labels in the order of their numbers; None: the targets are values
    """

    X_train: Array
    y_train: Array
    X_test: Array
    y_test: Array
    classes: list[str] | None


@dataclass
class Scaling:
    """How features and regression targets are standardized: (x - mean) / scale for each column.

    None for what stays as it is: uint8 features, class numbers.
    """

    x: tuple[Array, Array] | None
    y: tuple[Array, Array] | None

    @classmethod
    def of(cls, table: Table) -> Scaling:
        """Means and standard deviations of the training set; ValueError for NaN or infinity."""
        return cls(
            None if table.X_train.dtype == np.uint8 else _mean_and_scale(table.X_train, "features"),
            None if table.classes is not None else _mean_and_scale(table.y_train, "targets"),
        )

    def apply(self, X: Array, y: Array, dtype: str) -> tuple[Array, Array]:
        """X and y standardized, in `dtype` where they are."""
        if self.x is not None:
            X = ((X - self.x[0]) / self.x[1]).astype(dtype)
        if self.y is not None:
            y = ((y - self.y[0]) / self.y[1]).astype(dtype)
        return X, y

    def fold_into(self, net: MLP) -> None:
        """Let a network trained on standardized samples take and give them as they are."""
        W = [array.astype(np.float64) for array in net.weights]
        b = [array.astype(np.float64) for array in net.biases]
        if self.x is not None:  # W (x - mean) / scale + b
            W[0] /= self.x[1]
            b[0] -= W[0] @ self.x[0]
        if self.y is not None:  # (W h + b) * scale + mean, per output
            W[-1] *= np.reshape(self.y[1], (-1, 1))
            b[-1] = b[-1] * self.y[1] + self.y[0]
        net.weights, net.biases = tuple(W), tuple(b)


def _mean_and_scale(values: Array, what: str) -> tuple[Array, Array]:
    with np.errstate(all="ignore"):
        mean, scale = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(mean + scale))
    if wrong.size:
        raise ValueError(
            f"the {what} contain NaN, infinity or too large values (column {wrong[0] + 1})"
        )
    return mean, np.where(scale > 0, scale, 1.0)


def read_table(path: Path, task: str, test_fraction: float, seed: int) -> Table:
    """The table in a .npz or .csv file.

    .npz  X_train, y_train, X_test, y_test; or X, y, of which a random share of `test_fraction`,
          drawn with `seed`, becomes the test set
    .csv  features, then the target in the last column; divided like X, y. Comma, semicolon or tab
          between the fields; a first line without a number above the features is a header

    task  "classification" or "regression" overrule what the target looks like ("auto")
    Raises ValueError, naming the file and where in it, for what cannot be read as such a table.
    """
    try:
        if path.suffix.lower() == ".npz":
            with _open_npz(path) as arrays:
                if "X_train" in arrays:
                    return _divided_already(arrays, task)
                X, y = _features(_entry(arrays, "X")), _entry(arrays, "y")
        else:
            X, labels = _read_csv(path, with_target=True)
            y = _parsed(labels)
        targets, classes = _targets(y, task)
        _check_rows(X, targets)
        train, test = _random_division(len(X), test_fraction, seed)
        return Table(X[train], targets[train], X[test], targets[test], classes)
    except _FILE_ERRORS as error:
        raise ValueError(f"{path}: {error}") from None


def read_features(path: Path, n_features: int) -> Array:
    """The X in a file to predict from, shape (n, n_features).

    .npy: the array; .npz: X, else X_test; .csv: its columns, without the last one if there is one
    more than `n_features`; a name with "idx": an IDX file, plain or .gz
    """
    try:
        suffix = path.suffix.lower()
        if "idx" in path.name:
            return _features(datasets.read_idx(path))
        if suffix == ".npy":
            return _features(np.load(path, allow_pickle=False))
        if suffix == ".npz":
            with _open_npz(path) as arrays:
                return _features(_entry(arrays, "X_test" if "X" not in arrays else "X"))
        return _read_csv(path, with_target=False, n_features=n_features)[0]
    except _FILE_ERRORS as error:
        message = str(error)
        raise ValueError(message if str(path) in message else f"{path}: {message}") from None


_FILE_ERRORS = (ValueError, EOFError, csv.Error, zipfile.BadZipFile, zlib.error)


def _open_npz(path: Path) -> Any:
    if not zipfile.is_zipfile(path):
        path.open("rb").close()  # a missing file has a message of its own
        raise ValueError("not an .npz file")
    return np.load(path, allow_pickle=False)


def _entry(arrays: Any, name: str) -> Array:
    if name not in arrays:
        found = ", ".join(arrays) or "nothing"
        raise ValueError(
            f"no array {name}; expected X_train, y_train, X_test, y_test or X, y; found {found}"
        )
    entry: Array = arrays[name]
    return entry


def _features(X: Array) -> Array:
    """X as rows of numbers: images become rows, integers other than uint8 become float64."""
    if X.ndim < 2:
        raise ValueError(f"X has shape {X.shape}, expected (n, n_features)")
    if X.dtype.kind not in "fiub":
        raise ValueError(f"X holds {X.dtype}, expected numbers")
    X = X.reshape(len(X), -1)
    return X if X.dtype == np.uint8 or X.dtype.kind == "f" else X.astype(np.float64)


def _check_rows(X: Array, y: Array) -> None:
    if len(X) != len(y):
        raise ValueError(f"X has shape {X.shape} but y has shape {y.shape}")


def _divided_already(arrays: Any, task: str) -> Table:
    names = ("X_train", "y_train", "X_test", "y_test")
    X_train, y_train, X_test, y_test = (_entry(arrays, name) for name in names)
    X_train, X_test = _features(X_train), _features(X_test)
    if X_train.shape[1] != X_test.shape[1]:
        raise ValueError(f"X_train has shape {X_train.shape} but X_test has shape {X_test.shape}")
    if y_train.ndim == 0 or y_train.shape[1:] != y_test.shape[1:]:
        raise ValueError(f"y_train has shape {y_train.shape} but y_test has shape {y_test.shape}")
    y, classes = _targets(np.concatenate([y_train, y_test]), task)  # one numbering for both
    y_train, y_test = y[: len(y_train)], y[len(y_train) :]
    _check_rows(X_train, y_train)
    _check_rows(X_test, y_test)
    return Table(X_train, y_train, X_test, y_test, classes)


def _random_division(n: int, test_fraction: float, seed: int) -> tuple[Array, Array]:
    """Row numbers of the training and of the test set, each in the order of the file."""
    if n < 2:
        raise ValueError(f"{n} rows: at least 2 are needed, one of them for the test")
    n_test = min(max(1, round(n * test_fraction)), n - 1)
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[n_test:]), np.sort(order[:n_test])


def _targets(y: Array, task: str) -> tuple[Array, list[str] | None]:
    """y as a network takes it, and the labels if they are classes."""
    is_text = y.dtype.kind in "US"
    if y.dtype.kind not in "fiubUS":
        raise ValueError(f"the target holds {y.dtype}, expected numbers or text")
    if task == "regression" or (task == "auto" and y.dtype.kind == "f"):
        if is_text:
            label = next(value for value in y.ravel() if not _is_number(str(value)))
            raise ValueError(f"the target {str(label)!r} is not a number, as regression needs it")
        return y.astype(np.float64), None
    if y.ndim != 1:
        raise ValueError(f"class labels of shape {y.shape}, expected (n,)")
    labels, numbers = np.unique(y, return_inverse=True)
    if len(labels) < 2:
        raise ValueError(f"the target has {len(labels)} different values, at least 2 are needed")
    return numbers.astype(np.int64), [str(label) for label in labels]


def _parsed(labels: list[str]) -> Array:
    """The target column as integers if all of it are, else as numbers, else as text."""
    for number in (int, float):
        try:
            return np.array([number(label) for label in labels])
        except (ValueError, OverflowError):
            continue
    return np.array([label.strip() for label in labels])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_csv(
    path: Path, *, with_target: bool, n_features: int | None = None
) -> tuple[Array, list[str]]:
    """Features (n, n_features) in float64 and the last column's texts ([] without a target).

    n_features  known beforehand when the last column may or may not be there
    """
    features, labels = array.array("d"), []
    n_columns = 0
    with open(path, newline="", encoding="utf-8-sig") as file:
        first_line = file.readline()
        file.seek(0)
        rows = csv.reader(file, delimiter=max(",;\t", key=first_line.count))
        for row in rows:
            if not row:
                continue
            if not n_columns:
                n_columns = len(row)
                with_target = with_target or n_columns - 1 == n_features
                if n_columns < 1 + with_target:
                    raise ValueError("one column: expected features and, in the last, the target")
                if not any(map(_is_number, row[: n_columns - with_target])):
                    continue  # the header
            if len(row) != n_columns:
                raise ValueError(f"line {rows.line_num} has {len(row)} fields, not {n_columns}")
            if with_target:
                labels.append(row.pop())
                if n_features is None and not labels[-1].strip():
                    raise ValueError(f"line {rows.line_num}: the target is empty")
            try:
                features.extend(map(float, row))
            except ValueError as error:
                raise ValueError(f"line {rows.line_num}: {error}") from None
    X = np.frombuffer(features).reshape(-1, max(n_columns - with_target, 1))
    if len(labels) > 1 and not _is_number(labels[0]) and all(map(_is_number, labels[1:])):
        X, labels = X[1:], labels[1:]  # a header whose features have numbers for names
    if not len(X):
        raise ValueError("no rows of numbers")
    return X, labels
