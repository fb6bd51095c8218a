"""How a user's function is called for rows: compiled in threads, or as plain Python; and what its errors become."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpipe.errors import InputError
from mlpipe.kernels.steps import Cast
from mlpipe.link import Array
from mlpipe.stages.mapped import pieces
from mlpipe.stages.user_code import described
from mlpipe.workers import Workers

if TYPE_CHECKING:
    from mlpipe.kernels.compiled import Compiled, Kind
    from mlpipe.stages.loop import Call

Place = int | slice
"""One value or row among those at hand, or several rows."""


class _MisfitError(Exception):
    """A result that does not fit.

    Parameters
    ----------
    row : int
        Which row's, among those that were given.
    reason : str
        What is wrong with it.
    """

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row, self.reason = row, reason


@dataclass(frozen=True)
class Caller:
    """Calls a function for rows.

    Parameters
    ----------
    shown : str
        What messages call it.
    function : callable
        As the user wrote it; called where it is not compiled.
    kind : {"scalar", "row", "batch"}
        What it is called for.
    fills : bool
        Whether it puts its result into a second argument.
    batch : int
        Rows of a batch.
    compiled : Compiled, optional
        The same, compiled.
    """

    shown: str
    function: Callable[..., Any]
    kind: Kind
    fills: bool
    batch: int
    compiled: Compiled | None

    def run(self, rows: Array, out: Array, first: int, workers: Workers) -> None:
        """Call it for all rows and fill `out`.

        Parameters
        ----------
        rows, out : ndarray, shape (rows, ...)
            C-contiguous.
        first : int
            Position of the first row, for messages.
        workers : Workers
            Threads in which it is called, if compiled.

        Raises
        ------
        InputError
            For the first row at which it raises an exception, or of which the result does not fit.
        """
        values = math.prod(rows.shape[1:]) if self.kind == "scalar" else 1
        if self.kind == "scalar":
            rows, out = rows.reshape(-1), out.reshape(-1)
        elif self.kind == "row" and self.compiled is not None and not self.fills:
            out = out.reshape(len(out), -1)
        failures: list[tuple[int, int, str]] = []

        def task(place: Place, _worker: int) -> None:
            start, stop, _ = place.indices(len(rows)) if isinstance(place, slice) else (place, place + 1, 1)
            try:
                self._call(rows, out, place)
            except _MisfitError as error:
                failures.append((start + error.row, stop, error.reason))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a user's function does
                failures.append((start, stop, described(error)))

        if self.compiled is None or self.compiled.parallel:
            with np.errstate(all="ignore"):
                for place in self._places(len(rows), 1):
                    task(place, 0)
                    if failures:
                        break
        else:
            workers.run(task, self._places(len(rows), workers.threads))
        if failures:  # of several threads the one that comes first, so that the message is always the same
            start, stop, reason = min(failures)
            where = (
                f"rows {first + start} to {first + stop - 1}"
                if self.kind == "batch"
                else f"row {first + start // values}"
            )
            raise InputError(f"{self.shown}: {where}: {reason}")

    def _places(self, count: int, threads: int) -> Iterable[Place]:
        """What is called for at a time."""
        if self.kind == "batch":
            return (slice(start, min(start + self.batch, count)) for start in range(0, count, self.batch))
        return range(count) if self.compiled is None else pieces(count, threads)

    def _call(self, rows: Array, out: Array, place: Place) -> None:
        if self.compiled is None:
            self._once(self.function, rows[place], out[place, ...])
        elif self.kind == "batch":
            self._once(self.compiled.call, rows[place], out[place])
        else:
            self._loop(self.compiled.call, rows[place], out[place])

    def _once(self, function: Callable[..., Any], rows: Any, out: Array) -> None:
        """One call, and its result put into `out`."""
        if self.fills:
            function(rows, out)
            return
        result = function(rows)
        try:
            values = np.asarray(result)
        except ValueError:
            raise _MisfitError(0, "returns rows of unequal length") from None
        if values.dtype.kind not in "biuf":
            raise _MisfitError(0, f"returns {type(result).__name__}, not numbers")
        if values.shape != out.shape:
            raise _MisfitError(0, _misfit(values.shape, out.shape, self.kind))
        cast_into(values, out)

    def _loop(self, loop: Callable[..., tuple[int, int]], rows: Array, out: Array) -> None:
        """A compiled loop over some rows; if it raises an exception, row by row to see where."""
        try:
            row, length = loop(rows, out)
        except Exception:
            for place in range(len(rows)):
                try:
                    loop(rows[place : place + 1], out[place : place + 1])
                except Exception as error:  # noqa: BLE001 - whatever a user's function does
                    raise _MisfitError(place, described(error)) from None
            raise
        if row >= 0:
            raise _MisfitError(row, _misfit((length,), out.shape[1:], self.kind))


def _misfit(found: tuple[int, ...], wanted: tuple[int, ...], kind: str) -> str:
    """What to say about a result of a wrong shape."""
    columns = found[1:] if kind == "batch" else found
    cure = ""
    if kind != "scalar" and len(columns) <= 1 and (kind == "row" or found[:1] == wanted[:1]):
        cure = f"; give --columns {columns[0] if columns else 0}"
    shown = [f"shape {shape}" if shape else "one value" for shape in (found, wanted)]
    return f"returns {shown[0]} where {shown[1]} is expected{cure}"


def cast_into(values: Array, out: Array) -> None:
    """Copy values into an array of the same shape and maybe another dtype, as the verb ``cast`` does.

    Examples
    --------
    >>> out = np.empty(3, np.uint8)
    >>> cast_into(np.array([-1.5, 2.7, np.nan]), out)
    >>> out
    array([0, 2, 0], dtype=uint8)
    """
    if values.dtype == out.dtype or not out.size:
        out[...] = values
        return
    shape = (out.size, 1)
    made = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
    source = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    _casting(source.dtype, out.dtype)(source.reshape(shape), made.reshape(shape), 0, 0)
    if made is not out:
        out[...] = made


@lru_cache(maxsize=64)
def _casting(old: np.dtype[Any], new: np.dtype[Any]) -> Call:
    """Casts rows of any length from one dtype to another."""
    from mlpipe.kernels.fused import write
    from mlpipe.stages.loop import Call

    return Call(write([((Cast(new),), new)], old, 1, in_place=False), 1)
