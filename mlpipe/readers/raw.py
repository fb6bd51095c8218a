"""``read-raw``: rows of a file that holds nothing but values."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mlpipe.declare import argument, option
from mlpipe.errors import InputError, UsageError
from mlpipe.link import Source
from mlpipe.npy_format import MAX_ARRAY_BYTES, Header, check_file_size
from mlpipe.opening import Opening
from mlpipe.readers.npy import NpySource

DTYPES = "bool, int8 to int64, uint8 to uint64, float16 to float64, complex64, complex128, or such as >f4"

_LENGTH = re.compile(r"\s*[0-9]{1,18}\s*")


@dataclass(frozen=True)
class ReadRaw:
    """Rows of a raw binary file.

    The file holds the values one after the other, row by row, from --offset to its end, which is checked.

    Example: mlpipe run read-raw examples/data/digits.npy --dtype uint8 --shape auto,64 --offset 128 then nothing
    """

    path: str = argument(help="The file.", metavar="FILE")
    dtype: str = option(help="Of the values, such as float32, or >f4 for the other byte order.", metavar="T")
    shape: str = option(help="Number of rows, or auto, and lengths of one, such as auto,64.", metavar="R,C")
    offset: int = option(0, help="Bytes before the first value.", metavar="N")

    def __post_init__(self) -> None:
        parse_dtype(self.dtype, "read-raw --dtype")
        parse_shape(self.shape)
        if not 0 <= self.offset < MAX_ARRAY_BYTES:
            raise UsageError(f"read-raw --offset {self.offset}: give 0 or more")

    def open(self, opening: Opening) -> Source:
        """Open the file; nothing is read."""
        rows, row_shape = parse_shape(self.shape)
        dtype = parse_dtype(self.dtype, "read-raw --dtype")
        header = partial(_header, dtype=dtype, rows=rows, row_shape=row_shape, offset=self.offset)
        source = opening.files.enter_context(NpySource(self.path, header=header))
        opening.inputs.append(source.fingerprint)
        return source


def parse_dtype(text: str, flag: str) -> np.dtype[Any]:
    """A dtype that files may have, from its name.

    Examples
    --------
    >>> parse_dtype(">f4", "--dtype")
    dtype('>f4')
    >>> parse_dtype("text", "--dtype")
    Traceback (most recent call last):
    mlpipe.errors.UsageError: --dtype text: give bool, int8 to int64, uint8 to uint64, float16 to float64, \
complex64, complex128, or such as >f4
    """
    try:
        dtype = np.dtype(text)
    except (TypeError, ValueError, SyntaxError):
        dtype = np.dtype("O")
    if dtype.kind not in "biufc" or dtype.itemsize > (16 if dtype.kind == "c" else 8):
        raise UsageError(f"{flag} {text}: give {DTYPES}")
    return dtype


def parse_shape(text: str) -> tuple[int | None, tuple[int, ...]]:
    """Number of rows, None where the file decides, and shape of a row.

    Examples
    --------
    >>> parse_shape("auto,8,8"), parse_shape("10")
    ((None, (8, 8)), (10, ()))
    """
    first, *rest = text.split(",")
    automatic = first.strip() == "auto"
    if not all(_LENGTH.fullmatch(length) for length in (rest if automatic else [first, *rest])):
        raise UsageError(f"read-raw --shape {text}: give lengths such as 1000,64, or auto,64")
    row_shape = tuple(map(int, rest))
    if automatic and 0 in row_shape:
        raise UsageError(f"read-raw --shape {text}: rows without values cannot be counted; give their number")
    return None if automatic else int(first), row_shape


def _header(
    fd: int, name: str, *, dtype: np.dtype[Any], rows: int | None, row_shape: tuple[int, ...], offset: int
) -> Header:
    """What a ``.npy`` header would say of the file."""
    size = os.fstat(fd).st_size
    if offset > size:
        raise InputError(f"{name}: ends after {size} bytes, before --offset {offset}")
    row = Header((1, 0), dtype, row_shape, fortran_order=False, offset=offset)
    if rows is None:
        rows, over = divmod(size - offset, row.nbytes)
        if over:
            raise InputError(
                f"{name}: {size - offset} bytes from --offset {offset} on are {rows} rows of {row.nbytes} bytes and "
                f"{over} bytes more; check --dtype, --shape and --offset"
            )
    header = Header((1, 0), dtype, (rows, *row_shape), fortran_order=False, offset=offset)
    check_file_size(header, size, name)
    return header
