"""Predictions on their way, compared with what is true."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlpipe.errors import InputError
from mlpipe.link import BLOCKS_AHEAD, Array, Blocks, Held, Room, Run, Source, Spec
from mlpipe.npy_format import check_dtype
from mlpipe.stages.beside import Beside
from mlpipe.stages.known import SIGN, Kind, as_integers, check_known, plain_labels
from mlpipe.stages.streaming import Streaming
from mlpipe.statistics.scores import GROUP, MOST_CLASSES, Confusion, Errors

CHUNK_BYTES = 1 << 20
"""Of the truth that is read at once."""

READING = "read truth"


@dataclass
class Scores:
    """What is found out, once all rows have passed.

    Parameters
    ----------
    facts : dict
        As plain values; empty before.
    """

    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judging(Streaming):
    """Hands predictions on as they are, and finds out how good they are.

    Parameters
    ----------
    truth : Source
        What should have been predicted, row by row.
    kind : {"classify", "regress"}
        What was predicted.
    scores : Scores
        Told how good they are.
    """

    truth: Source
    kind: Kind
    scores: Scores

    @property
    def name(self) -> str:
        """What reports call it."""
        return "compare"

    @property
    def side_sources(self) -> Mapping[str, Source]:
        """The truth."""
        return {READING: self.truth}

    @property
    def _called(self) -> str:
        return f"--truth {self.truth.name}"

    def plan(self, spec: Spec) -> Spec:
        """The same rows.

        Raises
        ------
        InputError
            For a truth that does not go with them.
        """
        truth = self.truth.spec
        check_dtype(truth.dtype, self._called)
        if math.prod(truth.row_shape) != math.prod(spec.row_shape):
            shape, wanted = (truth.rows, *truth.row_shape), (spec.rows, *spec.row_shape)
            raise InputError(f"{self._called}: shape {shape}; predictions have {wanted}, and so must the truth")
        if spec.rows is not None and truth.rows != spec.rows:
            raise InputError(f"{self._called}: {truth.rows} values for {spec.rows} queries; there must be one for each")
        return spec

    def hold(self, spec: Spec, room: Room) -> Held:
        """A little of the truth, and what is summed up."""
        outputs = math.prod(spec.row_shape)
        table = 3 * 8 * MOST_CLASSES**2 if self.kind == "classify" else 6 * 8 * GROUP * outputs
        row = 8 * outputs + self.truth.spec.row_bytes
        nbytes = {"truth": (BLOCKS_AHEAD + 8) * self._chunk_rows * row, "sums": table}
        return Held(room.block_rows, spec.dtype, nbytes, {}, spec)

    @property
    def _chunk_rows(self) -> int:
        row = max(8, 8 * math.prod(self.truth.spec.row_shape))
        return max(1, min(CHUNK_BYTES // row, int(self.truth.spec.rows or 1)))

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Look at what passes."""
        beside = Beside(self.truth, READING, "--truth", self._chunk_rows, run)
        judge = (_Classes if self.kind == "classify" else _Means)(self._called, held.layout.dtype, self.truth.spec)
        step = self._chunk_rows
        for block in blocks:
            for first in range(0, len(block.data), step):
                some = block.data[first : first + step]
                judge.add(beside.take(len(some)), some, block.start + first)
            run.lane.count(rows=len(block.data), nbytes=block.data.nbytes)
            yield block
        beside.finish()
        self.scores.facts = judge.facts()


class _Classes:
    """Compares classes, whatever the dtypes."""

    def __init__(self, name: str, predicted: np.dtype[Any], truth: Spec) -> None:
        self._name, self._confusion = name, Confusion()
        # Above what int64 holds only where both are uint64.
        self._turned = predicted == np.uint64 == truth.dtype
        self._dtype = predicted

    def add(self, truth: Array, predicted: Array, start: int) -> None:
        """Compare some rows."""
        both = [self._whole(one, start) for one in (truth.reshape(-1), predicted.reshape(-1))]
        self._confusion.add(*both)

    def _whole(self, values: Array, start: int) -> Array:
        """As int64."""
        whole = as_integers(values, start, self._name)
        if self._turned or values.dtype != np.uint64:
            return whole
        if (whole >= 0).any():
            raise InputError(f"{self._name}: classes of 2**63 and more; give labels and truth the same dtype")
        return whole ^ np.int64(SIGN)

    def facts(self) -> dict[str, Any]:
        """What was found."""
        found = self._confusion
        facts = found.facts()
        table = found.counts
        if table is None:
            why = f"more than {MOST_CLASSES} classes make no table"
            return {**facts, "classes": None, "confusion": None, "why": why}
        whole = not self._turned and not (self._dtype == np.bool_ and np.isin(found.classes, (0, 1)).all())
        classes = plain_labels(found.classes, np.dtype(np.int64) if whole else self._dtype)
        return {**facts, "classes": classes, "confusion": table.tolist()}


class _Means:
    """Compares values."""

    def __init__(self, name: str, predicted: np.dtype[Any], truth: Spec) -> None:
        self._name, self._errors = name, Errors(math.prod(truth.row_shape))

    def add(self, truth: Array, predicted: Array, start: int) -> None:
        """Compare some rows."""
        check_known(truth, start, self._name)
        self._errors.add(truth.reshape(len(truth), -1), predicted.reshape(len(predicted), -1))

    def facts(self) -> dict[str, Any]:
        """What was found."""
        return self._errors.facts()
