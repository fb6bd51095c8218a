"""Sources that show another source's rows: only some, or in another order. Nothing is read before it is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from mlpipe.link import Array, LabelledSource, Source, Spec


class SliceSource:
    """Consecutive rows of a source that can seek.

    Parameters
    ----------
    source : Source
        Of which; closed with this one.
    start, stop : int
        Which rows.
    """

    seekable = True

    def __init__(self, source: Source, start: int, stop: int) -> None:
        self._source, self._start = source, start
        self.name = source.name
        self.spec: Spec = replace(source.spec, rows=max(0, stop - start))

    def read_rows(self, start: int, out: Array) -> None:
        """Fill `out` with rows from `start` on."""
        self._source.read_rows(self._start + start, out)

    def read_labelled(self, start: int, out: Array, labels: Array) -> None:
        """Fill `out` and `labels`."""
        cast("LabelledSource", self._source).read_labelled(self._start + start, out, labels)

    def check_unchanged(self) -> None:
        """Raise InputError when the source changed."""
        self._source.check_unchanged()

    def close(self) -> None:
        """Close the source."""
        self._source.close()
