"""Sources that show another source's rows: only some, or in another order. Nothing is read before it is asked for."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpipe.link import Array, Source, Spec, gather_into, read_into, scattered

if TYPE_CHECKING:
    from mlpipe.stages.permutation import Permutation
    from mlpipe.stages.sampling import Sampling


def in_epoch(source: Source, epoch: int) -> Source:
    """The source as it is the n-th time its rows are read: shuffled anew, if it is shuffled at all."""
    again: Any = getattr(source, "in_epoch", None)
    found: Source = source if again is None else again(epoch)
    return found


class View:
    """Rows of a source that can seek, at other positions than there.

    Parameters
    ----------
    source : Source
        Of which; closed with this one.
    spec : Spec
        What is to be seen of it.
    """

    seekable = True

    def __init__(self, source: Source, spec: Spec) -> None:
        self._source, self.spec, self.name = source, spec, source.name
        self.scattered = scattered(source)

    def rows_at(self, positions: Array) -> Array:
        """Where in the source the rows at some positions are, both int64."""
        raise NotImplementedError

    def read_rows(self, start: int, out: Array) -> None:
        """Fill `out` with rows from `start` on."""
        self._read(start, out, None)

    def read_labelled(self, start: int, out: Array, labels: Array) -> None:
        """Fill `out` and `labels`."""
        self._read(start, out, labels)

    def gather(self, rows: Array, out: Array, labels: Array | None = None) -> None:
        """Fill `out` and `labels` with rows in any order."""
        gather_into(self._source, self.rows_at(rows), out, labels)

    def check_unchanged(self) -> None:
        """Raise InputError when the source changed."""
        self._source.check_unchanged()

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _read(self, start: int, out: Array, labels: Array | None) -> None:
        self.gather(np.arange(start, start + len(out)), out, labels)


class SliceSource(View):
    """Consecutive rows of a source.

    Parameters
    ----------
    source : Source
        Of which; closed with this one.
    start : int
        The first row.
    stop : int, optional
        The row after the last; endless rows need none.
    """

    def __init__(self, source: Source, start: int, stop: int | None) -> None:
        rows = None if stop is None else max(0, stop - start)
        super().__init__(source, replace(source.spec, rows=rows, endless=stop is None))
        self._start, self._stop = start, stop

    def rows_at(self, positions: Array) -> Array:
        """So many rows further on."""
        return positions + self._start

    def in_epoch(self, epoch: int) -> SliceSource:
        """The same part of the source in another epoch."""
        return SliceSource(in_epoch(self._source, epoch), self._start, self._stop)

    def _read(self, start: int, out: Array, labels: Array | None) -> None:
        read_into(self._source, self._start + start, out, labels)


class ShuffledSource(View):
    """All rows of a source in the order of a permutation.

    Parameters
    ----------
    source : Source
        Of which; closed with this one.
    order : Permutation
        Of as many rows.
    """

    def __init__(self, source: Source, order: Permutation) -> None:
        super().__init__(source, source.spec)
        self._order, self.scattered = order, True

    def rows_at(self, positions: Array) -> Array:
        """As the permutation has it."""
        return self._order.rows_at(positions)

    def in_epoch(self, epoch: int) -> ShuffledSource:
        """In the order of a later epoch."""
        return ShuffledSource(in_epoch(self._source, epoch), self._order.in_epoch(self._order.epoch + epoch))


class SampledSource(View):
    """Some rows of a source, in its order.

    Parameters
    ----------
    source : Source
        Of which; closed with this one.
    sampling : Sampling
        Which of them.
    """

    def __init__(self, source: Source, sampling: Sampling) -> None:
        self._sampling = sampling
        super().__init__(source, replace(source.spec, rows=sampling.count))

    def rows_at(self, positions: Array) -> Array:
        """As the sampling has it."""
        return self._sampling.rows_at(positions)

    def in_epoch(self, epoch: int) -> SampledSource:
        """The same positions of the source in another epoch."""
        return SampledSource(in_epoch(self._source, epoch), self._sampling)


class RepeatedSource(View):
    """All rows of a source several times, each time in the order of another epoch if they are shuffled.

    Parameters
    ----------
    source : Source
        At least one row; closed with this one.
    epochs : int, optional
        How often; endlessly if not given.
    first : int
        Epochs that went by before.
    """

    def __init__(self, source: Source, epochs: int | None, first: int = 0) -> None:
        self._rows = source.spec.rows or 0
        rows = None if epochs is None else self._rows * epochs
        super().__init__(source, replace(source.spec, rows=rows, endless=epochs is None))
        self._epochs, self._first = epochs, first
        # One that is being read, and the next, which a block may reach into.
        self._epoch = functools.lru_cache(maxsize=2)(lambda epoch: in_epoch(source, first + epoch))

    def gather(self, rows: Array, out: Array, labels: Array | None = None) -> None:
        """Fill `out` and `labels` with rows in any order."""
        epochs = rows // self._rows
        for epoch in np.unique(epochs).tolist():
            places = np.flatnonzero(epochs == epoch)
            part = np.empty((len(places), *out.shape[1:]), out.dtype)
            tags = None if labels is None else np.empty((len(places), *labels.shape[1:]), labels.dtype)
            gather_into(self._epoch(epoch), rows[places] - epoch * self._rows, part, tags)
            out[places] = part
            if labels is not None:
                labels[places] = tags

    def in_epoch(self, epoch: int) -> Source:
        """The epochs that follow as many repeats; what never ends begins but once."""
        if self._epochs is None:
            return self
        return RepeatedSource(self._source, self._epochs, self._first + epoch * self._epochs)

    def _read(self, start: int, out: Array, labels: Array | None) -> None:
        for epoch, first, done, stop in self._parts(start, len(out)):
            read_into(self._epoch(epoch), first, out[done:stop], None if labels is None else labels[done:stop])

    def _parts(self, start: int, count: int) -> Iterator[tuple[int, int, int, int]]:
        """The epochs that rows lie in: which, the first row of it, and where they go."""
        done = 0
        while done < count:
            epoch, first = divmod(start + done, self._rows)
            stop = min(count, done + self._rows - first)
            yield epoch, first, done, stop
            done = stop
