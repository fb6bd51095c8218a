"""``write``: ``.npy`` files."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

from mlpipe.declare import argument, option
from mlpipe.errors import UsageError
from mlpipe.link import Sink
from mlpipe.opening import Opening
from mlpipe.writers.columns import LabelColumnSink
from mlpipe.writers.npy import NpySink, StreamSink
from mlpipe.writers.shards import ShardsSink


@dataclass(frozen=True)
class Write:
    """A .npy file, or - for stdout, or DIR/ for a directory of them.

    It appears once all of it is on disk; on an error what was there stays. A directory is written where the name
    ends with a slash or --rows-per-shard is given: files shard-00000.npy and so on, and a manifest.json with their
    rows and SHA-256. A directory that is there is never replaced, not even with --force.

    Labels go into files of their own, out-labels.npy beside out.npy, or become the last column.

    Example: mlpipe run read examples/data/digits.npy then head --rows 100 then write head.npy
    """

    path: str = argument(help="Where it appears, once it is whole.", metavar="FILE")
    rows_per_shard: int | None = option(
        None, help="Write a directory of files with so many rows; DIR/ alone: of 256 MiB.", metavar="N"
    )
    labels: Literal["files", "column"] = option("files", help="Where labels go, if the rows have them.")

    def __post_init__(self) -> None:
        if self.rows_per_shard is not None and self.rows_per_shard < 1:
            raise UsageError(f"write --rows-per-shard {self.rows_per_shard}: give 1 or more")
        if self.rows_per_shard is not None and self.path == "-":
            raise UsageError("write - --rows-per-shard: stdout is one array; name a directory")
        if self.labels not in ("files", "column"):
            raise UsageError(f"write --labels {self.labels}: give files or column")

    def open(self, opening: Opening) -> Sink:
        """Nothing is created before the run."""
        sink = self._sink(opening)
        return LabelColumnSink(sink) if self.labels == "column" else sink

    def _sink(self, opening: Opening) -> Sink:
        if self.path != "-":
            opening.ends(self.path, "write")
            if self.path.endswith("/") or self.rows_per_shard is not None:
                return ShardsSink(self.path, self.rows_per_shard)
            return NpySink(self.path, force=opening.force, inputs=opening.inputs)
        if sys.stdout.isatty():
            raise UsageError("write - would write binary data to the terminal; redirect it, or name a file")
        return StreamSink(sys.stdout, inputs=opening.inputs)
