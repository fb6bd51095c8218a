"""``bucketize``: in which interval each value lies."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import InputError, UsageError
from mlpipe.kernels.steps import Search, Steps
from mlpipe.link import Spec
from mlpipe.stages.rowwise import RowWise


@dataclass(frozen=True)
class Bucketize(RowWise):
    """In which interval between edges each value lies: 0 below the first edge, as numpy.digitize counts.

    An edge belongs to the interval above it, or with --right to the one below. NaN counts as larger than all edges. The
    result is int64.

    Example: mlpipe run read examples/data/digits.npy then bucketize --edges 1,8 then write buckets.npy
    """

    edges: tuple[float, ...] = option(help="Where intervals meet, in ascending order.", metavar="A,B,C")
    right: bool = option(False, help="Edges belong to the interval below.")

    def __post_init__(self) -> None:
        shown = ",".join(map(str, self.edges))
        if not self.edges or any(map(math.isnan, self.edges)) or any(a > b for a, b in pairwise(self.edges)):
            raise UsageError(f"bucketize --edges {shown}: give numbers in ascending order")

    def plan(self, spec: Spec) -> Spec:
        """Whole numbers in the place of any others."""
        if spec.dtype.kind not in "biuf":
            raise InputError(f"bucketize takes bool, integers and floats, not {spec.dtype.name}")
        return replace(spec, dtype=np.dtype(np.int64))

    def steps(self, spec: Spec) -> Steps:
        """Look each value up."""
        return [Search(np.array(self.edges, np.float64), "left" if self.right else "right")]
