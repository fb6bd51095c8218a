"""Tables in files: ``.csv``, ``.json``, ``.npz``, ``.npy`` or ``.parquet``, as the name ends; on stdout, CSV."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mlpipe.errors import UsageError
from mlpipe.link import Array
from mlpipe.opening import Opening
from mlpipe.workers import Workers
from mlpipe.writers.archives import common_dtype, write_npy, write_npz
from mlpipe.writers.output import STDOUT, Output, check_output, output
from mlpipe.writers.parquet import check_parquet, write_parquet
from mlpipe.writers.rows import Rows, Values, chunks

FORMS = (".csv", ".json", ".npz", ".npy", ".parquet")
_TEXT = (".csv", ".json")
_AHEAD = 2
"""Chunks for each thread that are made into text before they are written."""

_TEXT_BYTES = 6 << 20
_WRITING_BYTES = {".csv": 4 << 20, ".json": 4 << 20, ".npz": 10 << 20, ".npy": 6 << 20, ".parquet": 96 << 20}
"""What each form takes, that of Parquet mostly for pyarrow itself; and, for text, what each thread takes."""

SCHEMA_VERSION = 1


def form_of(path: str, form: str | None = None) -> str:
    """How a table is written at `path`: as its name ends, or as `form` says; on stdout as CSV.

    Raises
    ------
    UsageError
        For a name that ends in something else, and for binary data on stdout.

    Examples
    --------
    >>> form_of("counts.csv"), form_of("-"), form_of("-", ".json")
    ('.csv', '.csv', '.json')
    >>> form_of("counts.xlsx")
    Traceback (most recent call last):
    mlpipe.errors.UsageError: counts.xlsx: tables are written as .csv, .json, .npz, .npy or .parquet; \
give a name that ends so
    """
    found = form or (".csv" if path == STDOUT else Path(path).suffix.lower())
    known = _TEXT if path == STDOUT else FORMS
    if found not in known:
        shown = f"{', '.join(known[:-1])} or {known[-1]}"
        if path == STDOUT:
            raise UsageError(f"- {found}: tables go to stdout as {shown}; write others to a file")
        raise UsageError(f"{path}: tables are written as {shown}; give a name that ends so")
    return found


def writing_bytes(form: str, threads: int) -> int:
    """Bytes that writing a table takes, whatever its length: measured, and rounded up.

    Examples
    --------
    >>> writing_bytes(".csv", 2) >> 20, writing_bytes(".parquet", 2) >> 20
    (16, 96)
    """
    return _WRITING_BYTES[form] + (threads * _TEXT_BYTES if form in _TEXT else 0)


def check_table(
    path: str,
    opening: Opening,
    names: Sequence[str] = (),
    dtypes: Sequence[np.dtype[Any] | None] = (),
    form: str | None = None,
) -> None:
    """Raise for what can be known to keep a table from being written, before it is there.

    Parameters
    ----------
    path : str
        Where to, ``-`` for stdout.
    opening : Opening
        Whether it may replace what is there, and what it may not.
    names, dtypes : sequence, optional
        Of the columns, as far as they are known.
    form : str, optional
        As for `form_of`.

    Raises
    ------
    UsageError
        If there is no such form, if it lacks a package, or if the columns do not fit into it.
    OutputError
        If the file may not be written.
    """
    found = form_of(path, form)
    if found == ".parquet":
        check_parquet(path)
    if found == ".npy" and dtypes and common_dtype(names, dtypes) is None:
        kinds = ", ".join(f"{name} {dtype or 'text'}" for name, dtype in zip(names, dtypes, strict=True))
        raise UsageError(f"{path}: one array takes one dtype, and {_clip(kinds)} have none in common; write .npz")
    check_output(path, opening)


def write_table(
    table: Rows,
    path: str,
    opening: Opening,
    *,
    facts: Mapping[str, Any] | None = None,
    workers: Workers | None = None,
    directory: str | None = None,
    form: str | None = None,
    label: str = "counts",
) -> int:
    """Write a table, piece by piece; a file appears whole or not at all.

    Parameters
    ----------
    table : Rows
        Used up.
    path : str
        Where to, ``-`` for stdout.
    opening : Opening
        Whether it may replace what is there, and what it may not.
    facts : mapping, optional
        What JSON says besides: numbers, text, and lists of them.
    workers : Workers, optional
        Threads that make text.
    directory : str, optional
        For temporary files, which ``.npz`` takes; that of `opening` if not given.
    form : str, optional
        As for `form_of`.
    label : str
        What JSON calls the rows.

    Returns
    -------
    int
        Rows written.

    Examples
    --------
    >>> from contextlib import ExitStack
    >>> from mlpipe.counting.table import table_of
    >>> table = table_of({"value": np.array([0.5, np.nan]), "count": np.array([2, 1])})
    >>> write_table(table, "-", Opening(ExitStack()))
    value,count
    0.5,2
    nan,1
    2
    """
    found = form_of(path, form)
    pieces: Any = table.pieces
    with closing(pieces) if hasattr(pieces, "close") else nullcontext():
        check_table(path, opening, table.names, table.dtypes, form)
        if found == ".npy":
            return write_npy(table, path, opening)
        if found == ".npz":
            return write_npz(table, path, opening, directory or opening.temporary)
        if found == ".parquet":
            return write_parquet(table, path, opening)
        with output(path, opening) as out, nullcontext(workers) if workers else Workers(1) as threads:
            if found == ".json":
                return _write_json(table, out, facts or {}, threads, label)
            return _write_csv(table, out, threads)


def _write_csv(table: Rows, out: Output, workers: Workers) -> int:
    """As RFC 4180, but that lines end with a newline alone, as everywhere on Unix."""
    from mlpipe.writers.cells import csv_cells, lines

    names: list[Values] = [np.array([name], f"U{max(1, len(name))}") for name in table.names]
    out.append(lines(names, [b"", *[b","] * (len(names) - 1)], csv_cells))
    before = [b"\n", *[b","] * (len(table.names) - 1)]
    rows = 0
    for count, text in _texts(table, lambda part: lines(part, before, csv_cells), workers):
        out.append(text)
        rows += count
    out.append(b"\n")
    return rows


def _write_json(table: Rows, out: Output, facts: Mapping[str, Any], workers: Workers, label: str) -> int:
    """One object: what is known of the whole, then the rows, an object each, a line each."""
    from mlpipe.writers.cells import json_cells, lines

    head = {"schema_version": SCHEMA_VERSION, **facts}
    for name, value in head.items():
        out.append(f"{'{' if name == 'schema_version' else ','}\n  {json.dumps(name)}: {_json(value)}".encode())
    out.append(f",\n  {json.dumps(label)}: [".encode())
    between = b"},"
    labels = [f"{json.dumps(name, ensure_ascii=False)}: ".encode() for name in table.names]
    before = [between + b"\n    {" + labels[0], *(b", " + text for text in labels[1:])]
    rows = 0
    for count, text in _texts(table, lambda part: lines(part, before, json_cells), workers):
        out.append(text if rows else text[len(between) :])
        rows += count
    out.append(b"}\n  ]\n}\n" if rows else b"]\n}\n")
    return rows


def _texts(table: Rows, make: Callable[[tuple[Values, ...]], Array], workers: Workers) -> Iterator[tuple[int, Array]]:
    """Chunks of the table as text, which threads make, in order, each with its rows."""
    for piece in table.pieces:
        parts = chunks(piece)
        while some := list(islice(parts, _AHEAD * workers.threads)):
            made: list[Array] = [np.empty(0, np.uint8)] * len(some)

            def work(i: int, worker: int, some: list[tuple[Values, ...]] = some, made: list[Array] = made) -> None:
                made[i] = make(some[i])

            workers.run(work, range(len(some)))
            for part, text in zip(some, made, strict=True):
                yield _rows(part), text


def _rows(part: tuple[Values, ...]) -> int:
    return len(part[0]) if isinstance(part[0], np.ndarray) else len(part[0].offsets) - 1


def _json(value: Any) -> str:
    """A fact as JSON has it; NaN and infinities, which it does not know, are null."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "null"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_json, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(name)}: {_json(one)}' for name, one in value.items())}}}"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _clip(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
