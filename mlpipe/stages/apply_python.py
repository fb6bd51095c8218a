"""``apply-python``: a function of the user's own."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlpipe.declare import argument, option
from mlpipe.errors import InputError, UsageError
from mlpipe.kernels.steps import working
from mlpipe.link import Array, Blocks, Held, Room, Run, Spec, Stage
from mlpipe.measure.lines import not_watched, watched
from mlpipe.opening import Opening
from mlpipe.stages.batch import Batches
from mlpipe.stages.calling import Caller, cast_into
from mlpipe.stages.cast import DType
from mlpipe.stages.mapped import Mapped
from mlpipe.stages.streaming import BUFFERS, Buffers, buffer_bytes
from mlpipe.stages.user_code import UserFunction, load_function, split_target

if TYPE_CHECKING:
    from mlpipe.kernels.compiled import Compiled, Kind

BATCH_BYTES = 2 << 20
"""Of the batches that are called for side by side."""


@dataclass(frozen=True)
class ApplyPython:
    """A function from a Python file of your own, compiled.

    A scalar function is called with each value; a row function with each row, an array; a batch function with --rows
    rows at a time. They return the result, or put it into a second argument if they take one. The annotation of
    the first parameter says which of the three it is (float; np.ndarray; an array of two dimensions), or --kind does.
    It is compiled by Numba, division by zero as in NumPy, unless --object-mode is given. The file is run: name only
    files that you trust. More: docs/expressions.md.

    Example: mlpipe run read examples/data/digits.npy then apply-python examples/ink.py:ink then nothing
    """

    function: str = argument(help="The file, and which of its functions.", metavar="FILE.py:FUNCTION")
    kind: Literal["scalar", "row", "batch"] | None = option(None, help="What it is called for.")
    object_mode: bool = option(False, help="Call it as plain Python: slow, but anything goes.")
    dtype: DType | None = option(  # noqa: RUF009 - it makes a field
        None, help="Cast the result; whole numbers are cut off and kept in range."
    )
    columns: int | None = option(
        None, help="Values in a row of the result, if not as many as come in; 0 for one value without an axis.",
        metavar="N",
    )  # fmt: skip
    rows: int = option(1024, help="Rows of a batch, for a batch function; the last may be smaller.", metavar="N")

    def __post_init__(self) -> None:
        split_target(self.function)
        if self.columns is not None and self.columns < 0:
            raise UsageError(f"apply-python --columns {self.columns}: give 0 or more")
        if self.rows < 1:
            raise UsageError(f"apply-python --rows {self.rows}: give 1 or more")

    def open(self, opening: Opening) -> Stage:
        """Run the file."""
        function = load_function(self.function, opening)
        fills = function.fills()
        return _Applied(self, function, self.kind or function.kind(), fills)


@dataclass(frozen=True)
class _Layout:
    """What comes out of the function, and what comes in.

    Parameters
    ----------
    out : Spec
        Of what is handed on.
    made : numpy.dtype
        In which the function, or its loop, puts its results.
    taken : numpy.dtype
        In which it gets the rows.
    compiled : Compiled or None
        None in object mode.
    """

    out: Spec
    made: np.dtype[Any]
    taken: np.dtype[Any]
    compiled: Compiled | None


@dataclass(frozen=True)
class _Applied(Mapped):
    """The function, loaded."""

    verb: ApplyPython
    function: UserFunction
    kind: Kind
    fills: bool
    _layouts: dict[tuple[Any, ...], _Layout] = field(default_factory=dict, compare=False)

    @property
    def name(self) -> str:
        """The verb."""
        return "apply-python"

    def plan(self, spec: Spec) -> Spec:
        """Compile it; the result says what comes out."""
        layout = self.layout(spec)
        return replace(spec, row_shape=layout.out.row_shape, dtype=layout.out.dtype)

    def layout(self, spec: Spec) -> _Layout:
        """What comes out for what comes in; compiled once for each dtype."""
        key = (spec.dtype, spec.row_shape)
        if key not in self._layouts:
            self._layouts[key] = self._make_layout(spec)
        return self._layouts[key]

    def _make_layout(self, spec: Spec) -> _Layout:
        if spec.dtype.kind not in "biuf":
            raise InputError(f"{self.function.shown}: rows of {spec.dtype.name}; bool, integers and floats are taken")
        if self.kind == "row" and not spec.row_shape:
            raise InputError(f"{self.function.shown}: a row function, but each row is one value; use --kind scalar")
        if self.kind == "scalar" and (self.fills or self.verb.columns is not None):
            what = "a second argument" if self.fills else "--columns"
            raise UsageError(f"{self.function.shown}: {what} makes no sense for a scalar function")
        if self.kind == "row" and self.fills and self.verb.columns == 0:
            raise UsageError(f"{self.function.shown}: --columns 0 leaves it nothing to fill; give 1 or more")
        taken = working(spec.dtype) if spec.dtype.kind == "f" else spec.dtype.newbyteorder("=")
        wanted = None if self.verb.dtype is None else np.dtype(self.verb.dtype)
        made = working(spec.dtype if wanted is None else wanted) if wanted is None or wanted.kind == "f" else wanted
        compiled, row_shape = None, self._unknown_shape(spec)
        if not self.verb.object_mode:
            not_watched(f"{self.function.shown} is compiled; give the verb --object-mode to see its lines")
            compiled = self._compile(spec, taken, (made, 1 + len(row_shape)))
            made = made if compiled.dtype is None else compiled.dtype
            row_shape = row_shape if self.fills else self._returned_shape(spec, compiled)
        return _Layout(replace(spec, row_shape=row_shape, dtype=wanted or made), made, taken, compiled)

    def _compile(self, spec: Spec, taken: np.dtype[Any], out: tuple[np.dtype[Any], int]) -> Compiled:
        from mlpipe.kernels.compiled import NotCompiledError, compile_function

        function = self.function
        try:
            rows = (taken, 1 + len(spec.row_shape))
            return compile_function(function.call, self.kind, rows, out if self.fills else None)
        except NotCompiledError as error:
            place = f"{function.path}:{error.line}" if error.line else function.path
            raise UsageError(
                f"{place}: {function.name} does not compile for {self.kind}s of {taken.name}: {error.reason}; "
                f"{error.cure}"
            ) from None

    def _unknown_shape(self, spec: Spec) -> tuple[int, ...]:
        """Shape of a row of the result, where only the function knows it."""
        columns = self.verb.columns
        if columns is None and self.verb.object_mode and self.kind == "row" and self.function.returns_number():
            columns = 0
        if columns is None:
            return spec.row_shape
        return (columns,) if columns else ()

    def _returned_shape(self, spec: Spec, compiled: Compiled) -> tuple[int, ...]:
        """Shape of a row of the result, as far as the type of the result says it."""
        columns, length = self.verb.columns, compiled.length
        ndim = compiled.ndim - (self.kind == "batch")
        if self.kind == "scalar":
            return spec.row_shape
        given = (1 if columns else 0) if columns is not None else ndim
        if ndim != given or (columns and length not in (None, columns)):
            what = f"{length} values" if length else "one value" if not ndim else f"rows of {ndim} dimensions"
            raise UsageError(f"{self.function.shown}: --columns {columns}, but it returns {what}")
        if ndim == 0:
            return ()
        if ndim == 1:
            return (columns or length or math.prod(spec.row_shape),)
        return self._unknown_shape(spec)

    def hold(self, spec: Spec, room: Room) -> Held:
        """Buffers for the results; and for the batches, where it wants them of one size."""
        layout = self.layout(spec)
        rows = max(1, room.block_rows)
        held = {}
        if self.kind == "batch":
            side_by_side = min(room.threads, BATCH_BYTES // max(1, self.verb.rows * spec.row_bytes))
            rows = self.verb.rows * max(1, side_by_side)
            held["batches"] = buffer_bytes(spec, rows)
        held["results"] = buffer_bytes(self.plan(spec), rows)
        if layout.taken != spec.dtype:
            held["rows in another dtype"] = rows * math.prod(spec.row_shape) * layout.taken.itemsize
        if layout.made != layout.out.dtype:
            held["results in another dtype"] = rows * math.prod(layout.out.row_shape) * layout.made.itemsize
        return Held(rows, spec.dtype, held, {"kind": self.kind}, spec)

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """A new block for each that comes, or for each few batches."""
        if self.kind == "batch":
            blocks = _batched(blocks, held.layout, held.block_rows, run)
        return super().apply(blocks, held, run)

    def fill(self, data: Array, out: Array, first: int, run: Run) -> None:
        """Call the function for some rows."""
        layout = self.layout(Spec(None, data.shape[1:], data.dtype))
        rows = np.ascontiguousarray(data, layout.taken)
        results = out if layout.made == out.dtype else np.empty(out.shape, layout.made)
        if self.fills:
            results[...] = 0  # what it leaves out must not be what was there before
        call = watched(self.function.call) if layout.compiled is None else self.function.call
        caller = Caller(self.function.shown, call, self.kind, self.fills, self.verb.rows, layout.compiled)
        caller.run(rows, results, first, run.workers)
        if results is not out:
            cast_into(results, out)


def _batched(blocks: Blocks, spec: Spec, rows: int, run: Run) -> Blocks:
    """Blocks of so many rows; the last may be smaller."""
    batches = Batches(rows, Buffers(run, spec, rows, BUFFERS))
    for block in blocks:
        yield from batches.of(block)
    last = batches.rest()
    if last is not None:
        yield last
