"""Partitions in temporary files: written in long runs, read back one partition after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from mlpipe.link import Array
from mlpipe.writers.temporary import TemporaryFile


class Spill:
    """Words of partitions; a file for each worker, since the system lets one at a time write to a file.

    Parameters
    ----------
    directory : str
        Where.
    workers : int
        How many write at once.
    parts : int
        Partitions.
    """

    def __init__(self, directory: str, workers: int, parts: int) -> None:
        self._stack = ExitStack()
        self._files = [self._stack.enter_context(TemporaryFile(directory)) for _ in range(workers)]
        self._ends = [0] * workers
        self._runs: list[list[tuple[int, int, int]]] = [[] for _ in range(parts)]

    @property
    def nbytes(self) -> int:
        """What was written."""
        return sum(self._ends)

    def write(self, worker: int, words: Array, first: int, sizes: list[int]) -> None:
        """Write neighbouring partitions, from `first` on, whose words lie one after the other."""
        if not len(words):
            return
        self._files[worker].pwrite(words, self._ends[worker])
        offset = self._ends[worker]
        self._ends[worker] += words.nbytes
        for part, size in enumerate(sizes, first):
            if size:
                self._runs[part].append((worker, offset, size))
            offset += 8 * size

    def words(self, part: int) -> int:
        """How many a partition has."""
        return sum(size for _, _, size in self._runs[part])

    def read(self, part: int, stage: Array) -> Iterator[Array]:
        """A partition's words in their order, in views of `stage`, filled as far as it goes."""
        held = 0
        for worker, offset, size in self._runs[part]:
            done = 0
            while done < size:
                more = min(size - done, len(stage) - held)
                self._files[worker].pread(stage[held : held + more], offset + 8 * done)
                held, done = held + more, done + more
                if held == len(stage):
                    yield stage
                    held = 0
        if held:
            yield stage[:held]

    def forget(self, part: int) -> None:
        """A partition will not be read again."""
        self._runs[part] = []

    def close(self) -> None:
        """Give the files back; harmless when repeated."""
        self._stack.close()
