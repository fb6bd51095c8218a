"""``write``: a ``.npy`` file."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from mlpipe.declare import argument
from mlpipe.errors import UsageError
from mlpipe.link import Sink
from mlpipe.opening import Opening
from mlpipe.writers.npy import NpySink, StreamSink


@dataclass(frozen=True)
class Write:
    """A .npy file, or - for stdout.

    Example: mlpipe run read examples/data/digits.npy then head --rows 100 then write head.npy
    """

    path: str = argument(help="Where it appears, once it is whole.", metavar="FILE")

    def open(self, opening: Opening) -> Sink:
        """Nothing is created before the run."""
        if self.path != "-":
            return NpySink(self.path, force=opening.force, inputs=opening.inputs)
        if sys.stdout.isatty():
            raise UsageError("write - would write binary data to the terminal; redirect it, or name a file")
        return StreamSink(sys.stdout, inputs=opening.inputs)
