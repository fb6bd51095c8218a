"""Rows that later ones are compared with: packed in memory, as many as fit, the others in a temporary file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from mlpipe.kernels.distances import pack
from mlpipe.link import Array
from mlpipe.stages.pairing import Pairing, Panels, Rows
from mlpipe.writers.temporary import TemporaryFile


def fill(panels: Panels, rows: Rows) -> None:
    """Append prepared rows to panels that have room for them."""
    first = panels.columns
    pack(rows.values, first, panels.values)
    panels.columns = first + len(rows.values)
    panels.status[first : panels.columns] = rows.status


class KeptRows:
    """Prepared rows, to be gone through in any order, some panels at a time.

    Parameters
    ----------
    pairing : Pairing
        The metric.
    capacity : int
        Rows that are held in memory; whole pieces.
    piece : int
        Rows of a piece: of one array of panels, and of what is read from the file at once.
    directory : str
        For the temporary file, which is made when it is needed.
    """

    def __init__(self, pairing: Pairing, capacity: int, piece: int, directory: str) -> None:
        self._pairing, self._capacity, self._piece, self._directory = pairing, capacity, piece, directory
        self._held: list[Panels] = []
        self._files = ExitStack()
        self._file: TemporaryFile | None = None
        self._stored = 0
        self._kind, self._features = pairing.compute_dtype, pairing.prepared_features

    @property
    def stored_bytes(self) -> int:
        """Bytes of rows that went to the file."""
        return self._stored * (self._features + 1) * self._kind.itemsize

    def add(self, rows: Rows) -> None:
        """Append rows."""
        count, start = len(rows.values), 0
        while start < count:
            last = self._held[-1] if self._held else None
            if last is None or last.columns == self._piece:
                if len(self._held) * self._piece >= self._capacity:
                    self._store(Rows(rows.values[start:], rows.status[start:]))
                    return
                last = self._pairing.empty_panels(self._piece)
                last.values[:] = 0  # rows that are still missing cost no slow denormals
                self._held.append(last)
            stop = min(count, start + self._piece - last.columns)
            fill(last, Rows(rows.values[start:stop], rows.status[start:stop]))
            start = stop

    def in_memory(self) -> list[Panels]:
        """Those that are held."""
        return self._held

    def on_disk(self) -> Iterator[Panels]:
        """The others, piece by piece; each is overwritten by the next."""
        if self._file is None:
            return
        values, panels = self._empty()
        for number in range(-(-self._stored // self._piece)):
            count = min(self._piece, self._stored - number * self._piece)
            rows = Rows(values[:count], panels.status[:count].copy())
            self._file.pread(rows.values, self._place(number, 0))
            self._file.pread(rows.status, self._place(number, self._piece * self._features))
            panels.columns = 0
            fill(panels, rows)
            yield panels

    def _empty(self) -> tuple[Array, Panels]:
        """Memory for a piece that is read."""
        from mlpipe.buffers import aligned_empty

        panels = self._pairing.empty_panels(self._piece)
        panels.values[:] = 0
        return aligned_empty((self._piece, self._features), self._kind), panels

    def _place(self, piece: int, value: int) -> int:
        """Where a value of a piece is in the file: rows first, then one number for each of them."""
        return (piece * self._piece * (self._features + 1) + value) * self._kind.itemsize

    def _store(self, rows: Rows) -> None:
        if self._file is None:
            self._file = self._files.enter_context(TemporaryFile(self._directory))
        start = 0
        while start < len(rows.values):
            number, at = divmod(self._stored, self._piece)
            stop = min(len(rows.values), start + self._piece - at)
            self._file.pwrite(rows.values[start:stop], self._place(number, at * self._features))
            self._file.pwrite(rows.status[start:stop], self._place(number, self._piece * self._features + at))
            self._stored += stop - start
            start = stop

    def close(self) -> None:
        """Give back the file."""
        self._files.close()
