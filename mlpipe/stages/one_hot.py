"""``one-hot``: a column for each class."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import InputError, UsageError
from mlpipe.link import Array, Run, Spec
from mlpipe.stages.mapped import Mapped, pieces


@dataclass(frozen=True)
class OneHot(Mapped):
    """A column for each class: 1 in that of the row, 0 elsewhere.

    A row is one whole number, from 0 to below --classes; any other ends the run. How many classes there are has to be
    said, for the shape of the result is planned before rows are read. The result is uint8; cast makes floats of it.

    Example: mlpipe run read examples/data/digits_labels.npy then one-hot --classes 10 then write one_hot.npy
    """

    kernel_bytes = 8 << 20

    classes: int = option(help="How many there are.", metavar="N")

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise UsageError(f"one-hot --classes {self.classes}: give 1 or more")

    @property
    def name(self) -> str:
        """Its verb."""
        return "one-hot"

    def plan(self, spec: Spec) -> Spec:
        """A column for each class; raise InputError for rows that are not one whole number."""
        if spec.dtype.kind not in "biu" or spec.row_shape not in ((), (1,)):
            raise InputError(
                f"one-hot takes rows of one whole number, not of shape {spec.row_shape} and {spec.dtype.name}; "
                "select one column and cast it"
            )
        return replace(spec, row_shape=(self.classes,), dtype=np.dtype(np.uint8))

    def prepare(self, spec: Spec) -> None:
        """Compile."""
        from mlpipe.kernels.features import one_hot

        one_hot(_whole(np.zeros(1, spec.dtype)), np.zeros((1, self.classes), np.uint8))

    def fill(self, data: Array, out: Array, first: int, run: Run) -> None:
        """Mark the class of each row."""
        from mlpipe.kernels.features import one_hot

        values, wrong = _whole(data), list[int]()

        def mark(rows: slice, _worker: int) -> None:
            at = one_hot(values[rows], out[rows])
            if at >= 0:
                wrong.append(rows.start + at)

        run.workers.run(mark, pieces(len(data), run.workers.threads))
        if wrong:
            row = min(wrong)
            raise InputError(
                f"one-hot: row {first + row} holds {values[row]}, but classes are 0 to {self.classes - 1}; "
                "give more --classes"
            )


def _whole(data: Array) -> Array:
    """Values one after the other, as integers."""
    return data.reshape(-1).view(np.uint8) if data.dtype == np.bool_ else data.reshape(-1)
