"""Rows copied from where they lie in memory, in any order.

Rows are bytes, whatever they hold. They are named by their addresses, since one call copies from many files; whoever
calls keeps the memory alive.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.intrinsics import Arguments, signature_of

AHEAD = 8
"""Rows by which memory is asked for before they are copied; random rows are in no cache."""

LINE = 64
_READ, _ONCE, _DATA = 0, 0, 1


@intrinsic
def _fetch(_context, address):
    """Ask for the cache line at an address; harmless where there is nothing."""

    def body(arguments: Arguments, builder: Any) -> None:
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        call = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        at = builder.inttoptr(arguments["address"], byte)
        builder.call(call, [at, *(ir.Constant(flag, value) for value in (_READ, _ONCE, _DATA))])

    return signature_of(body, address=address)


@intrinsic
def _copy(_context, address, out, i, count):
    """Copy `count` bytes at an address to row i of `out`."""

    def body(arguments: Arguments, builder: Any) -> None:
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, byte, ir.IntType(64), ir.IntType(1)])
        call = builder.module.declare_intrinsic("llvm.memcpy", [byte, byte, ir.IntType(64)], kind)
        source = builder.inttoptr(arguments["address"], byte)
        target = arguments.at("out", arguments["i"], ir.IntType(64)(0))
        builder.call(call, [target, source, arguments["count"], ir.Constant(ir.IntType(1), 0)])

    return signature_of(body, address=address, out=out, i=i, count=count)


@kernel
def locate(bounds, firsts, row_bytes, rows, addresses, needed):
    """Where rows lie, and in which files.

    Parameters
    ----------
    bounds : ndarray of int64, shape (files + 1,)
        The first row of each file, and the number of all rows.
    firsts : ndarray of int64, shape (files,)
        Where the first row of each file lies.
    row_bytes : int
        Bytes of a row.
    rows : ndarray of int64, shape (count,)
        Which rows.
    addresses : ndarray of int64, shape (count,)
        Where each lies.
    needed : ndarray of bool, shape (files,)
        Set for the files of these rows.

    Returns
    -------
    bool
        Whether there are such rows; if not, nothing else counts.
    """
    files = bounds.shape[0] - 1
    density = files / max(1, bounds[files])
    for i in range(rows.shape[0]):
        row = rows[i]
        if not 0 <= row < bounds[files]:
            return False
        # Where it is among files of one size, a step or none away from where it is, as a rule; else bisected.
        place = min(files - 1, int(row * density))
        place += (bounds[place + 1] <= row) - (bounds[place] > row)
        if not bounds[place] <= row < bounds[place + 1]:
            place, high = 0, files
            while high - place > 1:
                middle = (place + high) // 2
                if bounds[middle] <= row:
                    place = middle
                else:
                    high = middle
        needed[place] = True
        addresses[i] = firsts[place] + (row - bounds[place]) * row_bytes
    return True


@kernel
def gather(addresses, out):
    """Copy rows from where they lie.

    Parameters
    ----------
    addresses : ndarray of int64, shape (count,)
        Of the first byte of each row.
    out : ndarray of uint8, shape (count, bytes of a row)
        C-contiguous.
    """
    count, nbytes = out.shape
    for i in range(count):
        later = addresses[min(i + AHEAD, count - 1)]
        for line in range(0, nbytes, LINE):
            _fetch(later + line)
        _copy(addresses[i], out, i, nbytes)


@kernel
def compact(rows, kept):
    """Move rows of these indices, which ascend, to the front."""
    for k in range(kept.shape[0]):
        if kept[k] != k:
            for j in range(rows.shape[1]):
                rows[k, j] = rows[kept[k], j]


@kernel
def exchange(rows, store, slots):
    """Swap each row with the one that is in its slot of the store by then."""
    for i in range(rows.shape[0]):
        slot = slots[i]
        for j in range(rows.shape[1]):
            rows[i, j], store[slot, j] = store[slot, j], rows[i, j]


@kernel
def settle(store, start, slots):
    """Put rows of a store in order: the n-th from `start` on is swapped with the one so many places behind it."""
    for i in range(slots.shape[0]):
        here, there = start + i, start + i + slots[i]
        for j in range(store.shape[1]):
            store[here, j], store[there, j] = store[there, j], store[here, j]
