"""What the name of an output asks for, of those that are several arrays: a directory, a ``.npz``, or CSV."""

from __future__ import annotations

from pathlib import Path

from mlpipe.errors import UsageError
from mlpipe.writers.output import STDOUT

OTHERS = frozenset(
    (
        *(".txt", ".tsv", ".json", ".jsonl", ".ndjson", ".xlsx", ".parquet", ".feather", ".arrow", ".avro"),
        *(".npy", ".h5", ".hdf5", ".zarr", ".mat", ".pkl", ".pickle", ".pt", ".safetensors"),
        *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".svg", ".png", ".html"),
    )
)
"""Endings of files of other kinds. Any other, as of ``run-v1.2``, is part of the name of a directory."""


def arrays_form(path: str, arrays: str) -> str:
    """What a path asks for: ``csv``, ``npz`` or ``directory``.

    Parameters
    ----------
    path : str
        As given; with a slash at the end, or that of a directory that is there, it is a directory.
    arrays : str
        How many arrays there are, as a word.

    Raises
    ------
    UsageError
        For what ends as files of other kinds do.

    Examples
    --------
    >>> [arrays_form(path, "two") for path in ("-", "near.csv", "near.npz", "near", "near-v1.2", "near.txt/")]
    ['csv', 'csv', 'npz', 'directory', 'directory', 'directory']
    >>> arrays_form("near.txt", "two")
    Traceback (most recent call last):
    mlpipe.errors.UsageError: -o near.txt: .txt cannot be written; give a directory (near.txt/), a .npz, .csv or -
    """
    ending = "" if path.endswith("/") else Path(path).suffix.lower()
    if path == STDOUT or ending == ".csv":
        return "csv"
    if ending == ".npy":
        raise UsageError(f"-o {path}: {arrays} arrays do not fit into a .npy file; give a directory, a .npz, .csv or -")
    if ending in OTHERS and not Path(path).is_dir():
        raise UsageError(f"-o {path}: {ending} cannot be written; give a directory ({path}/), a .npz, .csv or -")
    return "npz" if ending == ".npz" else "directory"
