"""``select``: only some columns."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import InputError
from mlpipe.kernels.steps import Select as SelectStep
from mlpipe.kernels.steps import Steps
from mlpipe.link import Spec
from mlpipe.readers.columns import check_columns, parse_columns, resolve_columns
from mlpipe.stages.rowwise import RowWise


@dataclass(frozen=True)
class Select(RowWise):
    """Only some columns, in the order given.

    A column may come more than once. Right after `read`, its own --columns does the same.

    Example: mlpipe run read examples/data/digits.npy then select --columns 8:56,-1 then nothing
    """

    columns: tuple[int | str, ...] = option(
        help="Indices and ranges from 0 on, such as 0,3:7,-1.", metavar="COLUMNS", parse=parse_columns
    )

    def __post_init__(self) -> None:
        check_columns(self.columns)

    @property
    def in_place(self) -> bool:
        """A value that was overwritten may be needed further on."""
        return False

    def plan(self, spec: Spec) -> Spec:
        """As many columns; raise for one that there is not."""
        return replace(spec, row_shape=(len(self._chosen(spec)),), dtype=spec.dtype.newbyteorder("="))

    def _chosen(self, spec: Spec) -> list[int]:
        if len(spec.row_shape) != 1:
            raise InputError(f"select: rows have shape {spec.row_shape}; it takes rows of one dimension")
        return resolve_columns(self.columns, spec.row_shape[0], "select")

    def steps(self, spec: Spec) -> Steps:
        """One choice."""
        return [SelectStep(np.array(self._chosen(spec), np.int64))]
