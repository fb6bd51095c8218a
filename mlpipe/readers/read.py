"""``read``: rows of ``.npy`` files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from mlpipe.declare import argument, option
from mlpipe.errors import InputError, UsageError
from mlpipe.link import Source
from mlpipe.opening import Opening
from mlpipe.readers.columns import PartSource, check_columns, parse_columns, parse_range
from mlpipe.readers.labels import PairedSource
from mlpipe.readers.npy import NpySource
from mlpipe.readers.paths import expand, listed, split_labels
from mlpipe.readers.shards import ShardsSource
from mlpipe.readers.stdin import StdinSource


@dataclass(frozen=True)
class Read:
    """Rows of .npy files, one after the other.

    A directory stands for its .npy files, a pattern in quotes for those that match, both in natural order: shard-2
    comes before shard-10. All must agree in the shape of a row and in dtype, which is checked before any data is
    read. A single - is an array from stdin, which is read once, in order.

    Rows carry labels along if one column is declared to be the label, if labels come from files of their own, or
    if every file NAME.npy that is read comes with its NAME-labels.npy, as the verb write makes them.

    Example: mlpipe run read examples/data/digits.npy --rows 100:200 --columns 8:56 then nothing
    """

    paths: tuple[str, ...] = argument(
        (), help="Files, directories, patterns in quotes, or - for stdin.", metavar="FILE…"
    )
    files_from: str | None = option(
        None, help="Read the files named in this file, one a line; - is stdin.", metavar="F"
    )
    rows: str | None = option(None, help="Only these, such as 100:200, 100: or :-1.", metavar="A:B")
    columns: tuple[int | str, ...] | None = option(
        None, help="Only these, in this order, such as 0,3:7,-1.", metavar="COLUMNS", parse=parse_columns
    )
    label_column: int | None = option(None, help="The column that is the label; -1 is the last.", metavar="N")
    labels: str | None = option(None, help="A file of labels, or a directory or pattern of them.", metavar="FILE")

    def __post_init__(self) -> None:
        if not self.paths and self.files_from is None:
            raise UsageError("read: give at least one file, or --files-from")
        if "-" in self.paths and (len(self.paths) > 1 or self.files_from is not None):
            raise UsageError("read -: stdin is one array; give no other files beside it")
        if self.labels == "-":
            raise UsageError("read --labels -: labels cannot come from stdin; name a file")
        if self.labels is not None and self.label_column is not None:
            raise UsageError("read: give either --labels or --label-column, for rows have one label")
        if self.rows is not None:
            parse_range(self.rows, "--rows")
        if self.columns is not None:
            check_columns(self.columns)

    def open(self, opening: Opening) -> Source:
        """Open the files; only headers are read."""
        with ExitStack() as files:
            source = self._labelled(opening, files)
            if any(part is not None for part in (self.rows, self.columns, self.label_column)):
                rows = None if self.rows is None else parse_range(self.rows, "--rows")
                source = PartSource(source, rows, self.columns, self.label_column)
            opening.files.push(files.pop_all())
        return source

    def _labelled(self, opening: Opening, files: ExitStack) -> Source:
        """All rows, with the labels that come from files."""
        if self.paths == ("-",):
            stdin = StdinSource()
            opening.inputs.append(stdin.fingerprint)
            return self._paired(stdin, [], opening, files)
        names = listed(self.files_from) if self.files_from is not None else []
        paths, beside = split_labels(expand([*self.paths, *names]))
        source = open_files(paths, opening, files)
        if not beside:
            return self._paired(source, [], opening, files)
        if self.labels is not None or self.label_column is not None:
            flag = "--labels" if self.labels is not None else "--label-column"
            raise UsageError(
                f"read {flag}: {beside[0]} holds the labels already; read only files of rows, or leave it out"
            )
        return self._paired(source, beside, opening, files)

    def _paired(self, source: Source, beside: Sequence[str], opening: Opening, files: ExitStack) -> Source:
        """Rows with the labels beside them, or those named, or none."""
        paths = beside or ([] if self.labels is None else expand([self.labels]))
        if not paths:
            return source
        labels = open_files(paths, opening, files)
        if beside:
            _check_each(source, labels)
        return PairedSource(source, labels)


def open_files(paths: Sequence[str], opening: Opening, files: ExitStack) -> NpySource | ShardsSource:
    """One file, or several as one."""
    source: NpySource | ShardsSource
    if len(paths) == 1:
        source = files.enter_context(NpySource(paths[0]))
        opening.inputs.append(source.fingerprint)
    else:
        source = files.enter_context(ShardsSource(paths))
        opening.inputs += [shard.fingerprint for shard in source.shards]
    return source


def _check_each(rows: Source, labels: Source) -> None:
    """Raise InputError unless each file has as many labels as rows."""
    if isinstance(rows, ShardsSource) and isinstance(labels, ShardsSource):
        for shard, beside in zip(rows.shards, labels.shards, strict=True):
            if shard.rows != beside.rows:
                raise InputError(f"{beside.name}: {beside.rows} labels for the {shard.rows} rows of {shard.name}")
