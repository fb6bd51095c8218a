"""``mlpipe info``: what the header of a file says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from mlpipe.cli import options
from mlpipe.cli.text import aligned, complain
from mlpipe.errors import MlpipeError

_TITLES = ("file", "shape", "dtype", "order", "bytes", "rows", "readable")


def info(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="The .npy files.")],
    as_json: options.Json = False,
) -> None:
    """Shape, dtype, order, bytes and rows of .npy files, and whether mlpipe can read them.

    Only headers are read. Every file is looked at, whatever is wrong with the others; the exit code is that
    of the worst. --json prints one object a line, one line a file.
    """
    found = [inspect(path) for path in files]
    if as_json:
        typer.echo("\n".join(json.dumps(facts) for facts, _ in found))
    else:
        typer.echo(aligned([_TITLES, *(_row(facts) for facts, _ in found)]))
    errors = [error for _, error in found if error]
    for error in errors:
        complain(error)
    if errors:
        raise typer.Exit(max(error.exit_code for error in errors))


def inspect(path: Path) -> tuple[dict[str, Any], MlpipeError | None]:
    """Facts about one file, and the error that reading it would raise."""
    from mlpipe.npy_format import check_dtype, read_header
    from mlpipe.readers.files import open_regular, shown_name
    from mlpipe.readers.npy import NpySource

    facts: dict[str, Any] = dict.fromkeys(
        ("path", "readable", "reason", "shape", "dtype", "byte_order", "order", "bytes", "rows", "format_version")
    )
    facts["path"] = str(path)
    try:
        descriptor, _ = open_regular(path)
        try:
            # The facts are worth showing even where the size belies them.
            header = read_header(descriptor, shown_name(path), check_size=False)
        finally:
            os.close(descriptor)
        facts["shape"] = list(header.shape)
        facts["dtype"] = header.dtype.name
        facts["byte_order"] = "big" if header.dtype.str.startswith(">") else "little"
        facts["order"] = "Fortran" if header.fortran_order else "C"
        facts["bytes"] = header.nbytes
        facts["rows"] = header.shape[0] if header.shape else None
        facts["format_version"] = ".".join(map(str, header.version))
        with NpySource(path) as source:
            check_dtype(source.dtype, source.name)
    except MlpipeError as error:
        facts["readable"], facts["reason"] = False, str(error)
        return facts, error
    facts["readable"] = True
    return facts, None


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table; what is not known stays a dash."""
    from mlpipe.measure.sizes import format_size
    from mlpipe.readers.files import shown_name

    name, readable = shown_name(facts["path"]), "yes" if facts["readable"] else "no"
    if facts["shape"] is None:
        return name, "-", "-", "-", "-", "-", readable
    return (
        name,
        str(tuple(facts["shape"])),
        facts["dtype"] + (" big-endian" if facts["byte_order"] == "big" else ""),
        facts["order"],
        f"{facts['bytes']:,} ({format_size(facts['bytes'])})",
        "-" if facts["rows"] is None else str(facts["rows"]),
        readable,
    )
