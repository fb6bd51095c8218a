"""What shapes and dtypes of X and Y go together, and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlpipe.errors import InputError, UsageError
from mlpipe.link import Source


def check_rows(sources: Sequence[Source]) -> int:
    """Number of features that all sources share.

    A one-dimensional source is one row per element, when all of them are.

    Raises
    ------
    InputError
        For more than two dimensions, or features that differ; the message holds the shapes.
    """
    shapes = [(source.spec.rows, *source.spec.row_shape) for source in sources]
    for source, shape in zip(sources, shapes, strict=True):
        if source.spec.dtype.kind not in "biuf":
            raise InputError(f"{source.name} holds {source.spec.dtype.name}; distances take bool, integers and floats")
        if len(shape) > 2:
            raise InputError(
                f"{source.name} has shape {shape}: rows of {len(shape) - 1} dimensions; reshape it to two dimensions"
            )
    if len({len(shape) for shape in shapes}) > 1 or len({shape[1:] for shape in shapes}) > 1:
        both = " and ".join(f"{source.name} {shape}" for source, shape in zip(sources, shapes, strict=True))
        raise InputError(f"rows do not fit: {both}; both must have the same number of features")
    return 1 if len(shapes[0]) == 1 else int(shapes[0][1] or 0)


def output_dtype(inputs: list[np.dtype[Any]], wanted: npt.DTypeLike | None = None) -> np.dtype[Any]:
    """float32 or float64: as wanted, else float32 when every input is float16 or float32.

    Examples
    --------
    >>> output_dtype([np.dtype("f2"), np.dtype("f4")]), output_dtype([np.dtype("u1")])
    (dtype('float32'), dtype('float64'))
    """
    if wanted is not None:
        dtype = np.dtype(wanted).newbyteorder("=")
        if dtype not in (np.float32, np.float64):
            raise UsageError(f"dtype must be float32 or float64, not {dtype}")
        return dtype
    narrow = all(dtype.kind == "f" and dtype.itemsize <= 4 for dtype in inputs)
    return np.dtype(np.float32 if narrow else np.float64)
