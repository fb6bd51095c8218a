"""Tables as Parquet, through pyarrow."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlpipe.errors import UsageError
from mlpipe.opening import Opening
from mlpipe.writers.output import file_output
from mlpipe.writers.rows import Rows, Values, regrouped

GROUP_CELLS = 1 << 18
"""Values of a row group, whatever the pieces: the same table gives the same bytes."""

GROUP_BYTES = 8 << 20
"""Text of a row group, at most, unless one row has more."""

_REPEATED = ["count"]
"""Columns in which few values are many: a dictionary of the others takes 60 MiB, and gains nothing."""


def check_parquet(path: str) -> None:
    """Raise UsageError where pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{path}: .parquet takes pyarrow: pip install 'mlpipe[parquet]', or write .csv, .json, .npz or .npy"
        ) from error


def write_parquet(table: Rows, path: str, opening: Opening) -> int:
    """Write a table; return its rows.

    Numbers keep their dtype; text, which may be any bytes, and fixed-width byte strings are binary, and fixed-width
    text is text.
    """
    check_parquet(path)
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([(name, _type(dtype, pa)) for name, dtype in zip(table.names, table.dtypes, strict=True)])
    rows, group_rows = 0, max(1, GROUP_CELLS // len(table.names))
    with (
        file_output(path, opening) as out,
        pa.PythonFile(out, mode="w") as file,
        parquet.ParquetWriter(file, schema, use_dictionary=_REPEATED) as writer,
    ):
        for group in regrouped(table.pieces, group_rows, GROUP_BYTES):
            arrays = [_array(column, field.type, pa) for column, field in zip(group, schema, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=group_rows)
            rows += len(arrays[0])
    return rows


def _type(dtype: np.dtype[Any] | None, pa: Any) -> Any:
    """The type of a column."""
    if dtype is None or dtype.kind == "S":
        return pa.large_binary()
    return pa.large_string() if dtype.kind == "U" else pa.from_numpy_dtype(dtype)


def _array(column: Values, kind: Any, pa: Any) -> Any:
    if isinstance(column, np.ndarray):
        return pa.array(np.ascontiguousarray(column), kind)
    size = int(column.offsets[-1])
    buffers = [None, pa.py_buffer(np.ascontiguousarray(column.offsets)), pa.py_buffer(column.content[:size])]
    return pa.Array.from_buffers(kind, len(column.offsets) - 1, buffers)
