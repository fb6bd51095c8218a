"""``tee``: what passes is also written to a file."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType

from mlpipe.buffers import Closed
from mlpipe.declare import argument
from mlpipe.errors import UsageError
from mlpipe.link import Blocks, Held, Room, Run, Spec, Writing
from mlpipe.opening import Opening
from mlpipe.stages.streaming import Streaming
from mlpipe.writers.npy import NpySink


@dataclass(frozen=True)
class Tee(Streaming):
    """Also write the rows to a .npy file, and hand them on as they are.

    The file gets all rows that reach this place, even those that what follows does not take, such as head. It appears
    when the whole run has succeeded. Labels go into a file of their own, out-labels.npy beside out.npy.

    Example: mlpipe run read examples/data/digits.npy then tee all.npy then head --rows 10 then write head.npy
    """

    path: str = argument(help="Where it appears, once it is whole.", metavar="FILE")

    def __post_init__(self) -> None:
        if self.path == "-":
            raise UsageError("tee -: stdout is for the end of the chain; name a file, or use write -")

    def open(self, opening: Opening) -> Streaming:
        """Nothing is created before the run."""
        opening.writes(self.path, "tee")
        return _Tee(LateFile(NpySink(self.path, force=opening.force, inputs=opening.inputs), opening.files))


class LateFile:
    """The file on its way, across all passes over the rows: the first one writes it.

    Parameters
    ----------
    sink : NpySink
        Writes it.
    files : ExitStack
        Closed when all is over: then it appears, unless there was an exception or rows are missing.
    """

    def __init__(self, sink: NpySink, files: ExitStack) -> None:
        self.sink, self._files, self._whole = sink, files, False
        self._context: AbstractContextManager[Writing] | None = None

    def start(self, spec: Spec) -> Writing | None:
        """Start it; None when it was written in an earlier pass."""
        if self._context is not None:
            return None
        self._context = self.sink.open(spec)
        writing = self._context.__enter__()
        self._files.push(self._leave)
        return writing

    def finish(self, writing: Writing) -> None:
        """All rows are there. What takes long is done now."""
        writing.sync()
        self._whole = True

    def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._context is None:
            return
        if kind is None and not self._whole:
            kind, error = Closed, Closed()
        with suppress(Closed):
            self._context.__exit__(kind, error, trace)


@dataclass(frozen=True)
class _Tee(Streaming):
    """A tee of one run."""

    file: LateFile

    @property
    def name(self) -> str:
        """Its verb."""
        return "tee"

    def plan(self, spec: Spec) -> Spec:
        """The same rows, of which there must be an end; raise OutputError for a file that cannot be written."""
        if spec.endless:
            raise UsageError("tee: the rows never end, so they cannot be written; put head before it")
        self.file.sink.check(spec)
        return spec

    def hold(self, spec: Spec, room: Room) -> Held:
        """Nothing."""
        return Held(room.block_rows, spec.dtype, {}, {}, spec)

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Hand on what was written; at the end, write what nobody asked for."""
        writing = self.file.start(held.layout)
        if writing is None:
            return blocks
        written = _written(blocks, writing, run)

        def rest() -> None:
            for block in written:
                block.release()
            self.file.finish(writing)

        run.at_end(rest)
        return written


def _written(blocks: Blocks, writing: Writing, run: Run) -> Blocks:
    place = 0
    for block in blocks:
        block.start = place
        writing.write(block)
        place += len(block.data)
        run.lane.count(rows=len(block.data), nbytes=block.data.nbytes)
        yield block
