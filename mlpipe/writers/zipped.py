"""A ``.npz``, array after array: the same bytes for the same arrays."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from mlpipe.npy_format import build_header
from mlpipe.writers.output import FileOutput
from mlpipe.writers.temporary import TemporaryFile

LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The time that members bear: the earliest a zip file knows."""

_PIECE_BYTES = 1 << 20


def archive(out: FileOutput) -> zipfile.ZipFile:
    """A new archive, not compressed."""
    return zipfile.ZipFile(out, "w", zipfile.ZIP_STORED)


@contextmanager
def member(into: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[IO[bytes]]:
    """An array of an archive, of which the header is written; the values are to follow."""
    with into.open(zipfile.ZipInfo(f"{name}.npy", LONG_AGO), "w", force_zip64=True) as stream:
        stream.write(build_header(shape, dtype))
        yield stream


def hand_on(file: TemporaryFile, size: int, stream: IO[bytes]) -> None:
    """Write the first bytes of a temporary file."""
    buffer = np.empty(min(size, _PIECE_BYTES), np.uint8)
    for at in range(0, size, _PIECE_BYTES):
        piece = buffer[: size - at]
        file.pread(piece, at)
        stream.write(piece.data)
