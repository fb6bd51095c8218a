"""How good predictions are, found as they go by: the same for any blocks."""

from __future__ import annotations

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
        self._group = np.empty((2, outputs, GROUP))  # a row for each output, so that sums run along the memory
        self._filled = 0

    def add(self, truth: Array, predicted: Array) -> None:
        """Take in some rows, both of shape (rows, outputs)."""
        start = 0
        while start < len(truth):
            stop = min(len(truth), start + GROUP - self._filled)
            part = slice(self._filled, self._filled + stop - start)
            self._group[0, :, part], self._group[1, :, part] = truth[start:stop].T, predicted[start:stop].T
            self._filled, start = part.stop, stop
            if self._filled == GROUP:
                self._merge()

    def _merge(self) -> None:
        """Add what the group says to the sums."""
        truth, predicted = self._group[:, :, : self._filled]
        self._filled = 0
        there = ~np.isnan(predicted).any(axis=0)
        if not there.all():
            self.missing += int(np.count_nonzero(~there))
            truth, predicted = np.ascontiguousarray(truth[:, there]), np.ascontiguousarray(predicted[:, there])
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
        if self._filled:
            self._merge()
        if not self._count:
            return {"rows": 0, "missing": self.missing, "r2": None, "rmse": None, "mae": None}
        with np.errstate(divide="ignore", invalid="ignore"):
            r2 = 1 - self._squares / self._spread
        # Of what is always the same everything is known, or nothing.
        r2 = np.where(self._spread > 0, r2, np.where(self._squares > 0, 0.0, 1.0))
        each = {"r2": r2, "rmse": np.sqrt(self._squares / self._count), "mae": self._sizes / self._count}
        facts: dict[str, Any] = {"rows": int(self._count), "missing": self.missing}
        facts |= {name: float(values.mean()) for name, values in each.items()}
        if len(r2) > 1:
            facts["each"] = {name: values.tolist() for name, values in each.items()}
        return facts
