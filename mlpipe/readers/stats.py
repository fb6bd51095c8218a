"""Files of statistics: a ``.npz`` of named arrays, read without trusting it and without pickle."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from mlpipe.errors import InputError
from mlpipe.link import Array
from mlpipe.npy_format import MAX_HEADER_BYTES, check_file_size, read_stream_header
from mlpipe.opening import Opening
from mlpipe.readers.files import open_regular, shown_name

LARGEST = 256 << 20
"""Bytes of one array at most: more columns than that has no row."""

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)


def read_stats(path: str, kinds: Mapping[str, str], opening: Opening) -> dict[str, Array]:
    """Arrays of a file that `mlpipe.writers.stats` wrote.

    Parameters
    ----------
    path : str
        A ``.npz`` file, compressed or not.
    kinds : mapping of str to str
        Name of each array it has to hold, no more and no less, and kind of its dtype: ``"i"`` for int64, ``"f"``
        for float64. All have one shape.
    opening : Opening
        Told that this is an input.

    Raises
    ------
    InputMissingError
        If it cannot be opened.
    InputError
        If it is anything else.
    """
    name = shown_name(path)
    descriptor, fingerprint = open_regular(path)
    opening.inputs.append(fingerprint)
    with os.fdopen(descriptor, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                found = _members(archive, kinds, name)
        except _DAMAGED as error:
            raise InputError(f"{name}: not a readable .npz file of statistics: {error}") from error
    for key, array in found.items():
        wanted = np.dtype(f"{kinds[key]}8")
        if array.dtype != wanted:
            raise InputError(f"{name}: {key} holds {array.dtype}, not {wanted}; save the statistics again")
    if len({array.shape for array in found.values()}) > 1:
        shapes = ", ".join(f"{key} {array.shape}" for key, array in found.items())
        raise InputError(f"{name}: shapes differ: {shapes}; save the statistics again")
    return found


def _members(archive: zipfile.ZipFile, kinds: Mapping[str, str], name: str) -> dict[str, Array]:
    """The arrays, their names checked before anything is decompressed."""
    members = archive.infolist()
    names = [member.filename.removesuffix(".npy") for member in members]
    if sorted(names) != sorted(kinds):
        held = ", ".join(map(ascii, names[:8])) or "nothing"
        raise InputError(f"{name}: holds {held}; statistics of this verb are {', '.join(kinds)}")
    found = {}
    for key, member in zip(names, members, strict=True):
        if member.file_size > LARGEST + MAX_HEADER_BYTES:
            raise InputError(f"{name}: {key} takes {member.file_size} bytes, more than the limit of {LARGEST}")
        with archive.open(member) as stream:
            found[key] = _array(stream.read(member.file_size + 1), f"{name}: {key}")
    return found


def _array(content: bytes, name: str) -> Array:
    """The array of a whole ``.npy`` file, in the machine's byte order."""
    header = read_stream_header(io.BytesIO(content).read, name)
    check_file_size(header, len(content), name)
    flat = np.frombuffer(content, header.dtype, count=header.count, offset=header.offset)
    array = flat.reshape(header.shape, order="F" if header.fortran_order else "C")
    return array.astype(header.dtype.newbyteorder("="), order="C")
