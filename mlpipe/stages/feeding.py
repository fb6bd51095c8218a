"""From blocks of rows to what counters take: rows that a condition holds for, cast, with their labels and weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpipe.counting.counted import Counter
from mlpipe.errors import InputError
from mlpipe.link import Array, Block, Spec
from mlpipe.stages.beside import Beside
from mlpipe.stages.cast import Cast
from mlpipe.stages.loop import TASK_BYTES, Loop, fits
from mlpipe.stages.subjects import Subject
from mlpipe.stages.where import Where
from mlpipe.workers import Workers

MOST = 2**63 - 1
"""What counts in 64 bits add up to, at most."""


@dataclass(slots=True)
class Rows:
    """Rows of a block, and what goes with each of them.

    Parameters
    ----------
    values : ndarray, shape (rows, ...)
        C-contiguous.
    labels, weights : ndarray, shape (rows,), or None
        One for each.
    places : ndarray of int64 or None
        Where they stood among those that came, if some were left out.
    """

    values: Array
    labels: Array | None
    weights: Array | None
    places: Array | None = None


class Picking:
    """Leaves out rows, or values, for which a condition does not hold."""

    def __init__(self, where: Where, spec: Spec, workers: Workers) -> None:
        self._where, self._width, self._workers = where, spec.row_bytes // spec.dtype.itemsize, workers

    def __call__(self, rows: Rows) -> Rows:
        """Those that are left."""
        holds = self._where.holds(rows.values, self._workers)
        if holds.ndim == 1:
            places = np.flatnonzero(holds)
            values = rows.values[places]
        else:  # of each value: a row becomes as many rows of one value as it has
            chosen = np.flatnonzero(holds[:, : self._width])  # rows may hold no values
            places = chosen // max(1, self._width)
            values = rows.values.reshape(-1)[chosen]
        labels, weights = (None if one is None else one[places] for one in (rows.labels, rows.weights))
        return Rows(values, labels, weights, places)


class Casting:
    """Casts values, cutting off fractions, and refuses what does not fit."""

    def __init__(self, dtype: np.dtype[Any], spec: Spec, workers: Workers) -> None:
        self._dtype, self._stage = dtype, Cast(dtype.name)  # type: ignore[arg-type]
        specs = [spec, self._stage.plan(spec)]
        self._loop = Loop([self._stage], specs, False, workers)

    def __call__(self, rows: Rows, first: int) -> Rows:
        """The same in the other dtype; the first of the block is at position `first`."""
        made = np.empty(rows.values.shape, self._dtype)
        try:
            self._loop.run(rows.values, made, first)
        except InputError:
            raise self._refusal(rows, first) from None
        return Rows(made, rows.labels, rows.weights, rows.places)

    def _refusal(self, rows: Rows, first: int) -> InputError:
        """What to say of the first value that does not fit."""
        flat = rows.values.reshape(len(rows.values), -1)
        wrong = ~fits(flat, self._dtype)
        row = int(wrong.any(axis=1).argmax())
        value = flat[row][wrong[row]][0]
        place = first + (row if rows.places is None else int(rows.places[row]))
        return InputError(
            f"count-features --cast {self._dtype.name}: row {place} holds {value}, which {self._dtype.name} cannot; "
            "leave it out with --where, or clip or fill-nan first"
        )


class Weighing:
    """Checks weights, and makes int64 or float64 of them.

    Parameters
    ----------
    name : str
        What messages call their file.
    dtype : numpy.dtype
        As they come.
    """

    def __init__(self, name: str, dtype: np.dtype[Any]) -> None:
        self._name = name
        self.dtype = np.dtype(np.float64 if dtype.kind == "f" else np.int64)
        self._total = 0

    def __call__(self, weights: Array, first: int) -> Array:
        """Weights as counters take them, of rows from `first` on."""
        if weights.dtype.kind == "f":
            self._check(~np.isfinite(weights) | (weights < 0), weights, first)
        elif weights.dtype.kind == "i":
            self._check(weights < 0, weights, first)
        elif weights.dtype == np.uint64:
            self._check(weights > MOST, weights, first)
        return weights.astype(self.dtype)

    def _check(self, wrong: Array, weights: Array, first: int) -> None:
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"{self._name}: row {first + row} weighs {weights[row]}; weights are finite numbers from 0 on"
            )

    def add(self, weights: Array, last: int, times: int) -> None:
        """Take note of weights up to row `last`, each of which counts for so many keys.

        They are added up exactly, in halves that cannot overflow.
        """
        if weights.dtype.kind == "f":
            return
        high, low = int((weights >> 32).sum()), int((weights & 0xFFFFFFFF).sum())
        self._total += ((high << 32) + low) * times
        if self._total > MOST:
            raise InputError(
                f"{self._name}: by row {last} weights add up to {self._total}, more than the "
                f"{MOST} of 64 bits; divide them, or save them as float64"
            )


class Steps:
    """What is done to each block before its keys are counted, in this order.

    Parameters
    ----------
    labels, weights : Beside or None
        Files beside the rows.
    weighing : Weighing or None
        What checks weights.
    labelled : bool
        Whether the labels that blocks carry are used, where no file has them.
    times : int
        Keys of a row.
    picking, casting : callable or None
        What leaves out rows, and casts them.
    """

    def __init__(
        self,
        labels: Beside | None,
        weights: Beside | None,
        weighing: Weighing | None,
        labelled: bool,
        times: int,
        picking: Picking | None,
        casting: Casting | None,
    ) -> None:
        self._labels, self._weights, self._weighing = labels, weights, weighing
        self._labelled, self._times, self._picking, self._casting = labelled, times, picking, casting

    def __call__(self, block: Block, first: int) -> Rows:
        """The rows of a block, of which the first is at position `first`."""
        count = len(block.data)
        labels = block.labels.reshape(count) if self._labelled and block.labels is not None else None
        labels = labels if self._labels is None else self._labels.take(count)
        rows = Rows(np.ascontiguousarray(block.data), labels, None)
        if self._weights is not None and self._weighing is not None:
            rows.weights = self._weighing(self._weights.take(count), first)
        if self._picking is not None:
            rows = self._picking(rows)
        if rows.weights is not None and self._weighing is not None:
            self._weighing.add(rows.weights, first + count - 1, self._times)
        return rows if self._casting is None else self._casting(rows, first)

    def finish(self) -> None:
        """Raise InputError if a file beside the rows has more values than there were rows."""
        for one in (self._labels, self._weights):
            if one is not None:
                one.finish()


class Feeding:
    """Hands the keys of rows to the counters.

    Several tables of one column each are filled side by side, a thread for each; a single one by all threads.
    """

    def __init__(self, subjects: Sequence[Subject], counters: Sequence[Counter], workers: Workers) -> None:
        self._pairs = list(zip(subjects, counters, strict=True))
        self._workers = workers
        self._apart = len(self._pairs) >= workers.threads > 1
        self._alone = [Workers(1) for _ in range(workers.threads)] if self._apart else []

    def __call__(self, rows: Rows) -> None:
        """Count some."""
        if self._apart and rows.values.nbytes < TASK_BYTES:
            for pair in self._pairs:
                self._feed(pair, rows, self._alone[0])
        elif self._apart:
            self._workers.run(lambda pair, worker: self._feed(pair, rows, self._alone[worker]), self._pairs)
        else:
            for pair in self._pairs:
                self._feed(pair, rows, self._workers)

    def _feed(self, pair: tuple[Subject, Counter], rows: Rows, workers: Workers) -> None:
        subject, counter = pair
        keys = subject.of(rows.values, rows.labels)
        weights = rows.weights
        if weights is not None and subject.keys_of_row > 1:
            weights = np.repeat(weights, subject.keys_of_row)
        if not subject.single or keys.dtype.kind in "SU":
            keys = keys.view(np.uint8).reshape(len(keys), subject.key_bytes)
        counter.add(keys, workers, weights)
