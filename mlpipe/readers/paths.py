"""From what the user names to the files that are read: directories, patterns and lists of files."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence

from mlpipe.errors import InputError, InputMissingError
from mlpipe.opening import labels_path
from mlpipe.readers.files import shown_name

LIST_BYTES = 64 << 20
"""A list of files is not longer: what is longer is something else."""

_DIGITS = re.compile(r"([0-9]+)")


def natural_key(path: str) -> tuple[list[str | int], str]:
    """Key that sorts numbers within names by value.

    Examples
    --------
    >>> sorted(["shard-10.npy", "shard-2.npy"], key=natural_key)
    ['shard-2.npy', 'shard-10.npy']
    """
    parts = _DIGITS.split(path)  # text and digits take turns, so that like is compared with like
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], path


def expand(paths: Iterable[str]) -> list[str]:
    """Files that the given paths stand for, in order.

    Parameters
    ----------
    paths : iterable of str
        Each a file, a directory (its ``.npy`` files that are not hidden, in natural order), or, where nothing
        has that very name, a pattern as of a shell, ``**`` included.

    Returns
    -------
    list of str
        A path that names nothing is kept as it is, for whoever opens it to refuse.

    Raises
    ------
    InputMissingError
        For a directory without such files, and a pattern without a match.
    """
    return [file for path in paths for file in _expand(path)]


def _expand(path: str) -> list[str]:
    if os.path.isdir(path):  # noqa: PTH112 - of any text, whatever the system says about it
        found = _in_directory(path)
        if not found:
            raise InputMissingError(f"{shown_name(path)}: a directory without .npy files; check the path")
        return found
    if os.path.lexists(path) or not glob.has_magic(path):
        return [path]
    found = sorted(glob.glob(path, recursive=True), key=natural_key)  # noqa: PTH207 - takes any text
    if not found:
        raise InputMissingError(f"{shown_name(path)}: no file matches this pattern; check the path")
    return found


def _in_directory(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            names = [one.name for one in entries if one.name.endswith(".npy") and one.name[0] != "."]
    except OSError as error:
        raise InputMissingError(
            f"{shown_name(path)}: cannot be listed: {error.strerror}; check its permissions"
        ) from error
    return [os.path.join(path, name) for name in sorted(names, key=natural_key)]  # noqa: PTH118 - there may be many


def listed(source: str) -> list[str]:
    r"""Paths in a file, one a line, or with a zero byte after each, as ``find -print0`` writes them.

    Parameters
    ----------
    source : str
        The file; ``-`` is stdin. Relative paths are relative to the working directory.

    Raises
    ------
    InputMissingError
        If it cannot be read or names no file.
    InputError
        If it is no list.
    """
    name = "standard input" if source == "-" else shown_name(source)
    try:
        with open(0 if source == "-" else source, "rb", closefd=source != "-") as file:
            content = file.read(LIST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no name of a file"
        raise InputMissingError(f"{name}: cannot be read: {reason}; --files-from takes a list of files") from error
    if content.startswith(b"\x93NUMPY"):
        raise InputError(f"{name}: a .npy file, not a list of files; read it without --files-from")
    if len(content) > LIST_BYTES:
        raise InputError(f"{name}: longer than {LIST_BYTES} bytes; --files-from takes a list of files, one a line")
    lines = content.split(b"\0") if b"\0" in content else content.splitlines()
    found = [os.fsdecode(line) for line in lines if line.strip()]
    if not found:
        raise InputMissingError(f"{name}: names no file; --files-from takes a list of files, one a line")
    return found


def split_labels(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell files of rows from the files of labels that stand beside them.

    Parameters
    ----------
    paths : sequence of str
        All files.

    Returns
    -------
    rows, labels : list of str
        As many of both, or no labels.

    Raises
    ------
    InputMissingError
        If some files of rows have labels and others have not.

    Examples
    --------
    >>> split_labels(["a.npy", "a-labels.npy", "b.npy", "b-labels.npy"])
    (['a.npy', 'b.npy'], ['a-labels.npy', 'b-labels.npy'])
    """
    known = set(paths)
    if not any(path.endswith("-labels.npy") for path in paths):
        return list(paths), []
    beside = {path: str(labels_path(path)) for path in paths if path.endswith(".npy")}
    labels = {label for label in beside.values() if label in known}
    if not labels:
        return list(paths), []
    rows = [path for path in paths if path not in labels]
    without = [path for path in rows if beside.get(path) not in labels]
    if without:
        raise InputMissingError(
            f"{shown_name(without[0])}: has no {labels_path(without[0]).name} beside it, as {shown_name(min(labels))} "
            "is for its rows; give the labels of all files or of none"
        )
    return rows, [beside[path] for path in rows]
