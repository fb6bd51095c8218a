"""Finished rows to where they go, past the caches where they would only push other data out."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from mlpipe.kernels.intrinsics import Arguments, signature_of
from mlpipe.kernels.simd import Emit, Value, host_width


@intrinsic
def copy_row(_context, rows, r, count, out, row, column, stream):
    """Copy ``rows[r, :count]`` to ``out[row, column:]``; past the caches if `stream` is not 0.

    Single elements up to the first aligned vector and after the last whole one, so any address will do.
    An ordinary store to a line that is not in the cache reads it first: streamed, distances of 32
    features take half the time (256 MB of output, Zen 4).
    """

    def body(arguments: Arguments, builder: Any) -> None:
        double, count = arguments.double("out"), arguments["count"]
        emit = Emit(builder, double, host_width().lanes(8 if double else 4))
        index = count.type
        source = arguments.at("rows", arguments["r"], index(0))
        target = arguments.at("out", arguments["row"], arguments["column"])
        bytes_ahead = builder.and_(builder.neg(builder.ptrtoint(target, index)), index(emit.lanes * emit.itemsize - 1))
        ahead = builder.udiv(bytes_ahead, index(emit.itemsize))
        head = builder.select(builder.icmp_signed("<", ahead, count), ahead, count)
        whole = builder.and_(builder.sub(count, head), index(-emit.lanes))
        tail = builder.add(head, whole)

        def at(pointer: Value, k: Value) -> Value:
            return builder.gep(pointer, [k])

        def singles(start: Value, stop: Value) -> None:
            with cgutils.for_range_slice(builder, start, stop, index(1), index) as (k, _):
                builder.store(builder.load(at(source, k)), at(target, k))

        singles(index(0), head)
        streamed = builder.icmp_signed("!=", arguments["stream"], ir.Constant(arguments["stream"].type, 0))
        with builder.if_else(streamed) as (past, into):
            for branch, write in ((past, emit.stream), (into, emit.store)):
                with branch, cgutils.for_range_slice(builder, head, tail, index(emit.lanes), index) as (k, _):
                    write(emit.load(at(source, k)), at(target, k))
        singles(tail, count)

    return signature_of(body, rows=rows, r=r, count=count, out=out, row=row, column=column, stream=stream)


@intrinsic
def drain(_context):
    """Wait until all that was streamed can be seen by other threads."""

    def body(_arguments: Arguments, builder: Any) -> None:
        builder.fence("seq_cst")

    return signature_of(body)
