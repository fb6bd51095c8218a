"""What the kernels are compared on: made-up rows and values, or those of files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlpipe.errors import InputError, MemoryCeilingError, UsageError
from mlpipe.link import Array
from mlpipe.measure.memory import available_bytes
from mlpipe.measure.sizes import format_size
from mlpipe.opening import FileIdentity
from mlpipe.readers.npy import NpySource
from mlpipe.stages.shapes import check_rows, output_dtype

SEED = 20

BOXED = 40
"""Bytes of a number in a list of Python."""

BLOCK_ROWS = 1 << 16
"""Rows read at a time to take one column of them."""


@dataclass
class Data:
    """Rows for distances, and a column to count.

    Parameters
    ----------
    x, y : ndarray, shape (rows, features) and (columns, features)
        Of one dtype, float32 or float64.
    values : ndarray of integers or None
        What is counted.
    no_values : str
        Why there are none.
    inputs : list
        Path, shape and dtype of files.
    notes : list of str
        What is not all of a file.
    files : list
        What tells these files from others.
    """

    x: Array
    y: Array
    values: Array | None
    no_values: str = ""
    inputs: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: list[FileIdentity] = field(default_factory=list)


def made_up(rows: int, columns: int, features: int, dtype: str | None, values: int, distinct: int) -> Data:
    """Normally distributed rows, and evenly distributed values; the same every time.

    Examples
    --------
    >>> data = made_up(3, 4, 5, None, 100, 7)
    >>> data.x.shape, data.y.dtype.name, int(data.values.max())
    ((3, 5), 'float64', 6)
    """
    kind = np.dtype(dtype or "float64")
    _check_memory(rows, columns, features, kind, values)
    random = np.random.default_rng(SEED)
    x, y = (random.standard_normal((count, features)).astype(kind) for count in (rows, columns))
    return Data(x, y, random.integers(0, distinct, values))


def of_files(
    paths: Sequence[str], rows: int, columns: int, dtype: str | None, values: int, column: int
) -> Data:  # fmt: skip
    """The first rows of one or two files, and the first values of a column of the first one.

    Parameters
    ----------
    paths : sequence of str
        X, and Y; X alone is compared with itself.
    rows, columns : int
        At most so many rows of X and of Y.
    dtype : str or None
        That of the distances; by default float32 for float16 and float32 inputs, else float64.
    values : int
        At most so many values are counted.
    column : int
        Of X, from the end if negative.

    Raises
    ------
    InputMissingError, InputError
        As for other commands; and for values whose squares overflow.
    """
    with ExitStack() as files:
        sources = [files.enter_context(NpySource(path)) for path in paths]
        features = check_rows([*sources])
        kind = output_dtype([source.dtype for source in sources], dtype)
        wanted = [rows, columns]
        counts = [min(len(sources[min(place, len(sources) - 1)]), wanted[place]) for place in range(2)]
        if 0 in counts or not features:
            raise InputError(f"{sources[0].name}: no rows or no features, so there is nothing to compare")
        _check_memory(counts[0], counts[1], features, kind, values)
        x, y = (np.empty((count, features), kind) for count in counts)
        for source, array in ((sources[0], x), (sources[-1], y)):
            source.read_rows(0, array.reshape(len(array), *source.spec.row_shape))
            _check_range(array, source.name)
        data = Data(x, y, None)
        for source, count, flag in zip(sources, counts, ("--rows", "--columns"), strict=False):
            shape = [len(source), *source.spec.row_shape]
            data.files.append(source.fingerprint)
            data.inputs.append({"path": source.name, "shape": shape, "dtype": source.dtype.name})
            if count < len(source):
                data.notes.append(f"the first {count:,} of {len(source):,} rows of {source.name}; {flag} takes more")
        _count_column(data, sources[0], features, values, column)
    return data


def _count_column(data: Data, source: NpySource, features: int, values: int, column: int) -> None:
    """Take the column that is counted, or say why there is none."""
    if not -features <= column < features:
        raise UsageError(f"--column {column}: {source.name} has the columns 0 to {features - 1}")
    if source.dtype.kind not in "biu":
        data.no_values = f"{source.name} holds {source.dtype.name}, and integers are what is counted here"
        return
    count = min(values, len(source))
    found = np.empty(count, source.dtype.newbyteorder("=") if source.dtype.kind != "b" else np.uint8)
    for start in range(0, count, BLOCK_ROWS):
        stop = min(count, start + BLOCK_ROWS)
        found[start:stop] = source[start:stop].reshape(stop - start, -1)[:, column]
    if found.dtype == np.uint64:
        if found.max() > np.iinfo(np.int64).max:
            data.no_values = f"{source.name} holds values of 2⁶³ and more, which plain loops cannot index with"
            return
        found = found.astype(np.int64)
    data.values = found
    if count < len(source):
        data.notes.append(f"the first {count:,} of {len(source):,} values of column {column}; --values takes more")


def _check_range(array: Array, name: str) -> None:
    """Raise InputError for values whose squares overflow: plain loops return infinity then, and mlpipe need not."""
    magnitudes = np.abs(array[np.isfinite(array)])
    largest = float(magnitudes.max()) if magnitudes.size else 0.0
    limit = float(np.sqrt(np.finfo(array.dtype).max / max(1, array.shape[1]))) / 2
    if largest > limit:
        raise InputError(
            f"{name}: values up to {largest:.3g}, whose squares overflow in {array.dtype.name} (limit {limit:.3g}); "
            "scale them, or give --dtype float64"
        )


def _check_memory(rows: int, columns: int, features: int, dtype: np.dtype[Any], values: int) -> None:
    """Raise MemoryCeilingError for what would not fit: arrays, lists, and three results at a time."""
    need = (rows + columns) * features * (dtype.itemsize + BOXED) + 3 * rows * columns * dtype.itemsize
    need += values * (8 + BOXED)
    free = available_bytes()
    if free is not None and need > free:
        raise MemoryCeilingError(
            f"comparing takes {format_size(need)}, and {format_size(free)} are free; give fewer --rows, --columns or "
            "--values",
            need,
        )
