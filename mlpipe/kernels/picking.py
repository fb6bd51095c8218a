"""Picking out of integers those below a bound, with their places: appended to a buffer, in order.

By vectors that compress where there are any (see `integers.py`), else by loops without branches.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.integers import EmitIntegers, compresses
from mlpipe.kernels.intrinsics import Arguments

VECTORS = 4
"""Vectors looked at together: most groups hold nothing that is wanted, and cost one branch."""

GROUP = 64
"""The most elements that are appended between two looks at how full the buffer is."""

BEYOND = 16
"""Elements behind the end of a buffer that may be overwritten, for vectors are stored whole."""


def _store_picked(emit: EmitIntegers, key: Any, place: Any, mask: Any, arguments: Arguments, count: Any) -> Any:
    """Append the lanes of the mask to keys and places (64-bit, `place` holds the vectors); the new count."""
    builder = emit.builder
    emit.store(emit.compress(key, mask), arguments.at("keys", count))
    wide = EmitIntegers(builder, 64)
    for h, vector in enumerate(place):
        part = mask if len(place) == 1 else emit.part(mask, h * wide.lanes, wide.lanes)
        wide.store(wide.compress(vector, part), arguments.at("places", count))
        count = builder.add(count, wide.count(part))
    return count


def _bits(arguments: Arguments, name: str) -> int:
    return int(arguments.type(name).dtype.bitwidth)


@intrinsic
def _pick_vectors(_context, row, start, stop, first, bound, keys, places, counts, q, most):
    """`pick` by vectors; elements from `stop` on that fill the last group must be readable."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        names = ("row", "start", "stop", "first", "bound", "keys", "places", "counts", "q", "most")
        arguments = Arguments(names, context, builder, signature, values)
        emit, wide = EmitIntegers(builder, _bits(arguments, "row")), EmitIntegers(builder, 64)
        i64 = ir.IntType(64)
        halves = emit.lanes // wide.lanes
        bound, stop = emit.broadcast(arguments["bound"]), arguments["stop"]
        place = arguments.at("counts", arguments["q"])
        at = cgutils.alloca_once_value(builder, arguments["start"])
        loop, body, hit, after, end = (
            builder.append_basic_block(name) for name in ("loop", "body", "hit", "on", "end")
        )
        builder.branch(loop)
        builder.position_at_end(loop)
        now = builder.load(at)
        builder.cbranch(builder.icmp_signed("<", now, stop), body, end)
        builder.position_at_end(body)
        found, vectors = [], []
        for v in range(VECTORS):
            vector = emit.load(arguments.at("row", builder.add(now, i64(v * emit.lanes))))
            left = builder.sub(builder.sub(stop, now), i64(v * emit.lanes))
            inside = builder.icmp_signed("<", emit.counting(), emit.broadcast(_clamped(builder, left, emit)))
            found.append(builder.and_(builder.icmp_signed("<", vector, bound), inside))
            vectors.append(vector)
        builder.store(builder.add(now, i64(VECTORS * emit.lanes)), at)
        builder.cbranch(emit.any(functools.reduce(builder.or_, found)), hit, loop)
        builder.position_at_end(hit)
        count = builder.load(place)
        base = builder.add(arguments["first"], now)
        for v in range(VECTORS):
            indices = [
                builder.add(wide.broadcast(base), wide.counting(v * emit.lanes + h * wide.lanes)) for h in range(halves)
            ]
            count = _store_picked(emit, vectors[v], indices, found[v], arguments, count)
        builder.store(count, place)
        builder.cbranch(builder.icmp_signed(">", count, arguments["most"]), after, loop)
        builder.position_at_end(after)
        builder.branch(end)
        builder.position_at_end(end)
        return builder.load(at)

    long = types.int64
    return long(row, long, long, long, row.dtype, keys, places, counts, long, long), generate


def _clamped(builder: Any, left: Any, emit: EmitIntegers) -> Any:
    """How many elements are left, in an element's bits, no more than matter."""
    i64 = ir.IntType(64)
    few = builder.select(builder.icmp_signed("<", left, i64(emit.lanes)), left, i64(emit.lanes))
    return few if emit.bits == 64 else builder.trunc(few, emit.scalar)


@kernel
def _pick_one_by_one(row, start, stop, first, bound, keys, places, counts, q, most):
    """`pick` by plain loops: does a group hold anything, and if so, append without branches."""
    count = counts[q]
    for left in range(start, stop, GROUP):
        right = min(left + GROUP, stop)
        found = 0
        for c in range(left, right):
            found |= row[c] < bound
        if not found:
            continue
        for c in range(left, right):
            keys[count], places[count] = row[c], first + c
            count += row[c] < bound
        if count > most:
            counts[q] = count
            return right
    counts[q] = count
    return stop


if compresses():

    @kernel
    def pick(row, start, stop, first, bound, keys, places, counts, q, most):
        """Append what is below a bound to a buffer, until that holds more than it should.

        Parameters
        ----------
        row : ndarray of int32 or int64
            Keys; 64 more elements than are used must be there.
        start, stop : int
            Which of them.
        first : int
            Place of the element 0.
        bound : int
            Of the keys' type.
        keys, places : ndarray, 1-D
            The buffer; 16 elements more must be there than are ever used, and 64 more than `most`.
        counts : ndarray of int64
            ``counts[q]`` is how full the buffer is.
        q : int
            See there.
        most : int
            Stop when it holds more.

        Returns
        -------
        int
            How far it came; at least `stop` at the end.
        """
        return _pick_vectors(row, start, stop, first, bound, keys, places, counts, q, most)

else:
    pick = _pick_one_by_one


@intrinsic
def _keep_vectors(_context, keys, places, count, bound):
    """`keep` by vectors."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arguments = Arguments(("keys", "places", "count", "bound"), context, builder, signature, values)
        emit, wide = EmitIntegers(builder, _bits(arguments, "keys")), EmitIntegers(builder, 64)
        i64 = ir.IntType(64)
        bound = emit.broadcast(arguments["bound"])
        kept = cgutils.alloca_once_value(builder, i64(0))
        with cgutils.for_range_slice(builder, i64(0), arguments["count"], i64(emit.lanes), i64) as (i, _):
            vector = emit.load(arguments.at("keys", i))
            left = builder.sub(arguments["count"], i)
            inside = builder.icmp_signed("<", emit.counting(), emit.broadcast(_clamped(builder, left, emit)))
            mask = builder.and_(builder.icmp_signed("<=", vector, bound), inside)
            held = [wide.load(arguments.at("places", builder.add(i, i64(h)))) for h in range(0, emit.lanes, wide.lanes)]
            builder.store(_store_picked(emit, vector, held, mask, arguments, builder.load(kept)), kept)
        return builder.load(kept)

    return types.int64(keys, places, types.int64, keys.dtype), generate


@kernel
def _keep_one_by_one(keys, places, count, bound):
    """`keep` by a plain loop."""
    kept = 0
    for i in range(count):
        key, place = keys[i], places[i]
        keys[kept], places[kept] = key, place
        kept += key <= bound
    return kept


if compresses():

    @kernel
    def keep(keys, places, count, bound):
        """Drop from a buffer what is above a bound; what stays keeps its order. Returns how much that is.

        `count` of the keys and places are in use, and 16 elements more must be there.
        """
        return _keep_vectors(keys, places, count, bound)

else:
    keep = _keep_one_by_one
