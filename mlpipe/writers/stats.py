"""Files of statistics: a ``.npz`` of named arrays that `numpy.load` reads, the same bytes for the same statistics."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mlpipe.link import Array
from mlpipe.npy_format import build_header
from mlpipe.opening import Opening
from mlpipe.writers.atomic import AtomicFile
from mlpipe.writers.zipped import LONG_AGO


@dataclass(frozen=True)
class StatsFile:
    """Where statistics go once they were learned.

    Parameters
    ----------
    path : str
        Where the file appears, whole or not at all.
    opening : Opening
        Whether it may replace what is there, and what it may not.
    """

    path: str
    opening: Opening

    def check(self) -> None:
        """Raise OutputError for what can be known to fail."""
        self._file(None).check()

    def save(self, arrays: Mapping[str, Array]) -> None:
        """Write the arrays."""
        content = stats_bytes(arrays)
        with self._file(len(content)) as file:
            file.pwrite(content, 0)

    def _file(self, size: int | None) -> AtomicFile:
        return AtomicFile(self.path, size=size, force=self.opening.force, inputs=self.opening.inputs)


def stats_bytes(arrays: Mapping[str, Array]) -> bytes:
    """An uncompressed ``.npz`` of arrays.

    Examples
    --------
    >>> np.load(io.BytesIO(stats_bytes({"mean": np.array([1.5])})))["mean"]
    array([1.5])
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", LONG_AGO)
            archive.writestr(member, build_header(array.shape, array.dtype) + np.ascontiguousarray(array).tobytes())
    return content.getvalue()
