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

QUARTILES = {"lower", "median", "upper"}
"""What `mlpipe stats` writes only if it is asked for quantiles."""

DESCRIPTION = "mlpipe_stats"
"""Name of an array that says: this file holds more than one verb wants. Its value is the version."""

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)


def read_stats(path: str, kinds: Mapping[str, str], opening: Opening) -> dict[str, Array]:
    """Arrays of a file that `mlpipe.writers.stats` wrote.

    Parameters
    ----------
    path : str
        A ``.npz`` file, compressed or not.
    kinds : mapping of str to str
        Name of each array it has to hold, and kind of its dtype: ``"i"`` for int64, ``"f"`` for float64. All have one
        shape. A file that `mlpipe stats` wrote may hold others, too, which are not read; no other file may.
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
                found, told = _members(archive, kinds, name)
        except _DAMAGED as error:
            raise InputError(f"{name}: not a readable .npz file of statistics: {error}") from error
    for key, array in found.items():
        wanted = np.dtype(f"{kinds.get(key, 'i')}8")
        if array.dtype != wanted:
            raise InputError(f"{name}: {key} holds {array.dtype}, not {wanted}; save the statistics again")
    if len({array.shape for array in found.values()}) > 1:
        shapes = ", ".join(f"{key} {array.shape}" for key, array in found.items())
        raise InputError(f"{name}: shapes differ: {shapes}; save the statistics again")
    if told:
        _check_finite(found, name)
        found.pop("infinite", None)
    return found


def _check_finite(found: Mapping[str, Array], name: str) -> None:
    """Raise InputError for a column of infinite values, or with a number that is not finite, as learning does."""
    for key, array in found.items():
        wrong = ~np.isfinite(array) & (found.get("count", np.ones(array.shape)) > 0)
        if key == "infinite":
            wrong = array > 0
        if wrong.any():
            raise InputError(
                f"{name}: column {int(wrong.reshape(-1).argmax())} held infinite values, or too large ones to learn "
                "from; clip or check them first, and save the statistics again"
            )


def _members(archive: zipfile.ZipFile, kinds: Mapping[str, str], name: str) -> tuple[dict[str, Array], bool]:
    """The arrays, their names checked before anything is decompressed; and whether others are with them."""
    members = archive.infolist()
    names = [member.filename.removesuffix(".npy") for member in members]
    told = DESCRIPTION in names and len(set(names)) == len(names)
    missing = [key for key in kinds if key not in names]
    if told and missing:
        advice = " with --quantiles 0.25,0.5,0.75" if QUARTILES & set(missing) else ""
        raise InputError(f"{name}: holds no {' and no '.join(missing)}; save it again by mlpipe stats{advice}")
    if not told and sorted(names) != sorted(kinds):
        held = ", ".join(map(ascii, names[:8])) or "nothing"
        raise InputError(f"{name}: holds {held}; statistics of this verb are {', '.join(kinds)}")
    found = {}
    for key, member in zip(names, members, strict=True):
        if key not in kinds and not (told and key == "infinite" and "mean" in kinds):
            continue
        if member.file_size > LARGEST + MAX_HEADER_BYTES:
            raise InputError(f"{name}: {key} takes {member.file_size} bytes, more than the limit of {LARGEST}")
        with archive.open(member) as stream:
            found[key] = _array(stream.read(member.file_size + 1), f"{name}: {key}")
    return found, told


def _array(content: bytes, name: str) -> Array:
    """The array of a whole ``.npy`` file, in the machine's byte order."""
    header = read_stream_header(io.BytesIO(content).read, name)
    check_file_size(header, len(content), name)
    flat = np.frombuffer(content, header.dtype, count=header.count, offset=header.offset)
    array = flat.reshape(header.shape, order="F" if header.fortran_order else "C")
    return array.astype(header.dtype.newbyteorder("="), order="C")
