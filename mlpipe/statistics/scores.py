"""How good predictions are, found as they go by: the same for any blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mlpipe.link import Array

MOST_CLASSES = 256
"""Of a confusion table; with more there is none."""

GROUP = 4096
"""Rows whose errors are added up together, counted from row 0."""


class Confusion:
    """Which classes were taken for which.

    Examples
    --------
    >>> found = Confusion()
    >>> found.add(np.array([1, 1, 7]), np.array([1, 7, 7]))
    >>> found.facts()["accuracy"], found.classes.tolist(), found.counts.tolist()
    (0.6666666666666666, [1, 7], [[1, 1], [0, 1]])
    """

    def __init__(self) -> None:
        self.rows = self.right = 0
        self.classes = np.empty(0, np.int64)
        self.counts: Array | None = np.zeros((0, 0), np.int64)

    def add(self, truth: Array, predicted: Array) -> None:
        """Take in some rows: what they are, and what they were taken for, as int64."""
        self.rows += len(truth)
        self.right += int(np.count_nonzero(truth == predicted))
        if self.counts is None or not len(truth):
            return
        both = np.concatenate([truth, predicted])
        if (places := self._places(both)) is None:
            counts = self._widened(np.union1d(self.classes, both))
            places = self._places(both)
        else:
            counts = self.counts
        if counts is not None and places is not None:
            count = len(counts)
            pairs = places[: len(truth)] * count + places[len(truth) :]
            counts += np.bincount(pairs, minlength=count * count).reshape(count, count)

    def _places(self, values: Array) -> Array | None:
        """Which class each is; None if some are new."""
        if not len(self.classes):
            return None
        places = np.minimum(np.searchsorted(self.classes, values), len(self.classes) - 1)
        return places if bool((self.classes[places] == values).all()) else None

    def _widened(self, classes: Array) -> Array | None:
        """Go on with more classes; without a table, if there are too many of them."""
        if self.counts is None or len(classes) > MOST_CLASSES:
            self.classes, self.counts = np.empty(0, np.int64), None
            return None
        wider = np.zeros((len(classes), len(classes)), np.int64)
        known = np.searchsorted(classes, self.classes)
        wider[np.ix_(known, known)] = self.counts
        self.classes, self.counts = classes, wider
        return wider

    def facts(self) -> dict[str, Any]:
        """Share of rows that were taken for what they are; for each class, where there are few, recall and precision.

        Recall is the share of its rows that were taken for it, precision that of those taken for it that are of it.
        """
        return {
            "rows": self.rows,
            "right": self.right,
            "accuracy": self.right / self.rows if self.rows else None,
            "recall": self._shares(1),
            "precision": self._shares(0),
        }

    def _shares(self, axis: int) -> list[float | None] | None:
        if self.counts is None:
            return None
        return [
            int(right) / int(total) if total else None
            for right, total in zip(np.diag(self.counts), self.counts.sum(axis=axis), strict=True)
        ]


class Frequencies:
    """How often each class was predicted.

    Examples
    --------
    >>> found = Frequencies()
    >>> found.add(np.array([3, 1, 3]))
    >>> found.classes.tolist(), found.counts.tolist()
    ([1, 3], [1, 2])
    """

    def __init__(self) -> None:
        self.classes, self.counts = np.empty(0, np.int64), np.empty(0, np.int64)
        self.many = False

    def add(self, predicted: Array) -> None:
        """Take in some rows, as int64; nothing more once there are too many classes."""
        if self.many:
            return
        classes, counts = np.unique(predicted, return_counts=True)
        both = np.union1d(self.classes, classes)
        if len(both) > MOST_CLASSES:
            self.classes, self.counts, self.many = both[:0], both[:0], True
            return
        wider = np.zeros(len(both), np.int64)
        wider[np.searchsorted(both, self.classes)] = self.counts
        wider[np.searchsorted(both, classes)] += counts
        self.classes, self.counts = both, wider


def _plain(values: Array) -> list[float | None]:
    """Numbers as JSON has them: what is not finite is null."""
    return [float(value) if np.isfinite(value) else None for value in values]


class _Groups:
    """Rows in groups counted from row 0, whatever the blocks, so that sums of them are always the same.

    Parameters
    ----------
    arrays, outputs : int
        Arrays that come side by side, and values of a row of each.
    """

    def __init__(self, arrays: int, outputs: int) -> None:
        self._rows = np.empty((arrays, outputs, GROUP))  # an output's values side by side: sums run along the memory
        self._filled = 0

    def add(self, *arrays: Array) -> Iterator[Array]:
        """Take in some rows, each array of shape (rows, outputs); yield groups that are full."""
        start, count = 0, len(arrays[0])
        while start < count:
            stop = min(count, start + GROUP - self._filled)
            part = slice(self._filled, self._filled + stop - start)
            for held, array in zip(self._rows, arrays, strict=True):
                held[:, part] = array[start:stop].T
            self._filled, start = part.stop, stop
            if self._filled == GROUP:
                yield from self.rest()

    def rest(self) -> Iterator[Array]:
        """What no group was made of yet."""
        if self._filled:
            yield self._rows[:, :, : self._filled]
            self._filled = 0


def _present(group: Array) -> tuple[Array, int]:
    """The rows of a group without NaN in its last array, and how many there are with it."""
    missing = np.isnan(group[-1]).any(axis=0)
    return (np.ascontiguousarray(group[:, :, ~missing]) if missing.any() else group), int(np.count_nonzero(missing))


class Means:
    """Smallest, mean and largest prediction of each output; rows of NaN count as missing alone.

    Examples
    --------
    >>> found = Means(1)
    >>> found.add(np.array([[1.0], [5.0], [np.nan]]))
    >>> found.facts()
    {'missing': 1, 'minimum': [1.0], 'mean': [3.0], 'maximum': [5.0]}
    """

    def __init__(self, outputs: int) -> None:
        self._groups, self._missing, self._count = _Groups(1, outputs), 0, 0
        self._sum, self._low, self._high = np.zeros(outputs), np.full(outputs, np.inf), np.full(outputs, -np.inf)

    def add(self, predicted: Array) -> None:
        """Take in some rows, of shape (rows, outputs)."""
        for group in self._groups.add(predicted):
            self._merge(group)

    def _merge(self, group: Array) -> None:
        (values,), missing = _present(group)
        self._missing += missing
        self._count += values.shape[1]
        self._sum += values.sum(axis=1)
        self._low = np.minimum(self._low, values.min(axis=1, initial=np.inf))
        self._high = np.maximum(self._high, values.max(axis=1, initial=-np.inf))

    def facts(self) -> dict[str, Any]:
        """As plain values, a number for each output; None without any."""
        for group in self._groups.rest():
            self._merge(group)
        found = (("minimum", self._low), ("mean", self._sum / max(1, self._count)), ("maximum", self._high))
        return {"missing": self._missing, **{name: _plain(each) if self._count else None for name, each in found}}


class Errors:
    """How far predictions are from the truth, for each output.

    Sums run over groups of rows that do not depend on blocks, and are merged in their order. Rows without a prediction
    (NaN) count as missing, and for nothing else.

    Parameters
    ----------
    outputs : int
        Values of a row.

    Examples
    --------
    >>> found = Errors(1)
    >>> found.add(np.array([[1.0], [2.0], [4.0]]), np.array([[1.0], [3.0], [np.nan]]))
    >>> facts = found.facts()
    >>> facts["mae"], facts["missing"], facts["r2"]
    (0.5, 1, -1.0)
    """

    def __init__(self, outputs: int) -> None:
        self.missing = 0
        self._count = 0.0
        self._mean, self._spread = np.zeros(outputs), np.zeros(outputs)
        self._squares, self._sizes = np.zeros(outputs), np.zeros(outputs)
        self._groups = _Groups(2, outputs)

    def add(self, truth: Array, predicted: Array) -> None:
        """Take in some rows, both of shape (rows, outputs)."""
        for group in self._groups.add(truth, predicted):
            self._merge(group)

    @np.errstate(invalid="ignore", over="ignore")
    def _merge(self, group: Array) -> None:
        """Add what a group says to the sums."""
        (truth, predicted), missing = _present(group)
        self.missing += missing
        count = truth.shape[1]
        if not count:
            return
        errors = truth - predicted
        self._squares += (errors * errors).sum(axis=1)
        self._sizes += np.abs(errors).sum(axis=1)
        mean = truth.sum(axis=1) / count
        apart = truth - mean[:, None]
        step, total = mean - self._mean, self._count + count
        self._spread += (apart * apart).sum(axis=1) + step * step * (self._count * count / total)
        self._mean += step * (count / total)
        self._count = total

    def facts(self) -> dict[str, Any]:
        """R², RMSE and MAE, averaged over the outputs, as scikit-learn does; and of each, where there are several."""
        for group in self._groups.rest():
            self._merge(group)
        if not self._count:
            return {"rows": 0, "missing": self.missing, "r2": None, "rmse": None, "mae": None}
        with np.errstate(divide="ignore", invalid="ignore"):
            r2 = 1 - self._squares / self._spread
        # Of what is always the same everything is known, or nothing.
        r2 = np.where(self._spread != 0, r2, np.where(self._squares == 0, 1.0, 0.0))
        each = {"r2": r2, "rmse": np.sqrt(self._squares / self._count), "mae": self._sizes / self._count}
        facts: dict[str, Any] = {"rows": int(self._count), "missing": self.missing}
        facts |= {name: _plain(values.mean(keepdims=True))[0] for name, values in each.items()}
        if len(r2) > 1:
            facts["each"] = {name: _plain(values) for name, values in each.items()}
        return facts
