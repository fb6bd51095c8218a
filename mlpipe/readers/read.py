"""``read``: rows of ``.npy`` files."""

from __future__ import annotations

from dataclasses import dataclass

from mlpipe.declare import argument
from mlpipe.errors import UsageError
from mlpipe.link import Source
from mlpipe.opening import Opening
from mlpipe.readers.npy import NpySource


@dataclass(frozen=True)
class Read:
    """Rows of .npy files, one after the other.

    Example: mlpipe run read examples/data/digits.npy then head --rows 10 then nothing
    """

    paths: tuple[str, ...] = argument(help="Files.", metavar="FILE…")

    def __post_init__(self) -> None:
        if not self.paths:
            raise UsageError("read: give at least one file")

    def open(self, opening: Opening) -> Source:
        """Open the files; only headers are read."""
        source = opening.files.enter_context(NpySource(self.paths[0]))
        opening.inputs.append(source.fingerprint)
        return source
