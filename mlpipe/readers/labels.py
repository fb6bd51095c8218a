"""Labels from files of their own, row by row."""

from __future__ import annotations

from dataclasses import replace

from mlpipe.errors import InputError
from mlpipe.link import Array, Labels, Source, Spec, gather_into
from mlpipe.readers.closing import Closing


class PairedSource(Closing):
    """Rows of one source, labelled with the rows of another.

    Parameters
    ----------
    rows, labels : Source
        With as many rows each; closed with this one.

    Raises
    ------
    InputError
        If they differ in the number of rows.
    """

    def __init__(self, rows: Source, labels: Source) -> None:
        if rows.spec.rows != labels.spec.rows:
            raise InputError(
                f"{labels.name}: {labels.spec.rows} labels, but {rows.name} has {rows.spec.rows} rows; "
                "there must be one for each"
            )
        self._rows, self._labels = rows, labels
        self.name, self.seekable = rows.name, rows.seekable and labels.seekable
        held = Labels(labels.spec.row_shape, labels.spec.dtype.newbyteorder("="))
        self.spec: Spec = replace(rows.spec, labels=held)

    def read_rows(self, start: int, out: Array) -> None:
        """Fill `out` with rows from `start` on, without their labels."""
        self._rows.read_rows(start, out)

    def read_labelled(self, start: int, out: Array, labels: Array) -> None:
        """Fill `out` and `labels`."""
        self._rows.read_rows(start, out)
        self._labels.read_rows(start, labels)

    def gather(self, rows: Array, out: Array, labels: Array | None = None) -> None:
        """Fill `out`, and `labels` if there are any, with rows in any order."""
        gather_into(self._rows, rows, out)
        if labels is not None:
            gather_into(self._labels, rows, labels)

    def check_unchanged(self) -> None:
        """Raise InputError when an input changed."""
        self._rows.check_unchanged()
        self._labels.check_unchanged()

    def close(self) -> None:
        """Close both."""
        try:
            self._rows.close()
        finally:
            self._labels.close()
