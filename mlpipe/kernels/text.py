"""Lines and words of text: where they end, and as items of `mlpipe.kernels.entries`."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.count_records import word_at
from mlpipe.kernels.entries import fold
from mlpipe.kernels.intrinsics import Arguments

SPAN = 64
"""Bytes looked at together: one bit of a word for each."""

NEWLINE, SPACE, FIRST_BLANK, LAST_BLANK = 10, 32, 9, 13
"""Space, tab, newline, vertical tab, form feed and carriage return separate words, as in C's locale."""

_U1, _U63 = np.uint64(1), np.uint64(63)


@intrinsic
def _ends(_context, text, at, split):
    """A bit for each of 64 bytes: whether it ends a line, or separates words."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        byte, word = ir.IntType(8), ir.IntType(64)
        kind = ir.VectorType(byte, SPAN)

        def every(value: int) -> Any:
            return ir.Constant(kind, [value] * SPAN)

        pointer = Arguments(("text", "at", "split"), context, builder, signature, values).at("text", values[1])
        some = builder.load(builder.bitcast(pointer, kind.as_pointer()), align=1)
        line = builder.icmp_unsigned("==", some, every(NEWLINE))
        blank = builder.icmp_unsigned("<=", builder.sub(some, every(FIRST_BLANK)), every(LAST_BLANK - FIRST_BLANK))
        blank = builder.or_(blank, builder.icmp_unsigned("==", some, every(SPACE)))
        return builder.select(values[2], builder.bitcast(blank, word), builder.bitcast(line, word))

    return types.uint64(text, types.intp, types.boolean), emit


@intrinsic
def _lowest(_context, word):
    """Position of the lowest bit that is set; there is one."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.cttz(values[0], ir.Constant(ir.IntType(1), 1))

    return types.intp(types.uint64), emit


@intrinsic
def _reversed(_context, word):
    """The bytes of a word in the opposite order."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bswap(values[0])

    return types.uint64(types.uint64), emit


@kernel
def _is_end(byte, split):
    return (FIRST_BLANK <= byte <= LAST_BLANK or byte == SPACE) if split else byte == NEWLINE


@kernel
def _ends_within(text, at, stop, split):
    """As `_ends`, of at most 64 bytes before `stop`."""
    if at + SPAN <= text.shape[0]:
        found = _ends(text, at, split)
        if at + SPAN > stop:
            found &= (_U1 << np.uint64(stop - at)) - _U1
        return found
    found = np.uint64(0)
    for k in range(stop - at):
        if _is_end(text[at + k], split):
            found |= _U1 << np.uint64(k)
    return found


@kernel
def next_end(text, at, stop, split):
    """Where the first line or word from `at` on ends; -1 if none does before `stop`."""
    while at < stop:
        found = _ends_within(text, at, stop, split)
        if found:
            return at + _lowest(found)
        at += SPAN
    return -1


@kernel
def last_end(text, split):
    """Where the last line or word ends that does end; -1 if none does."""
    for at in range(text.shape[0] - 1, -1, -1):
        if _is_end(text[at], split):
            return at
    return -1


@kernel
def _last_bytes(text, at, stop):
    """The bytes up to the end of the text, fewer than 8, as a word: the first one uppermost, filled up with zeros."""
    word = np.uint64(0)
    for k in range(stop - at):
        word |= np.uint64(text[at + k]) << np.uint64(56 - 8 * k)
    return word


@kernel
def tokens(text, at, stop, split, longest, key, words, starts, hashes):
    """Lines or words as items, as many as there is room for.

    Parameters
    ----------
    text : ndarray of uint8
        C-contiguous.
    at, stop : int
        Where the first one begins, and the byte after the end of the last one.
    split : bool
        Words, none of them empty; else lines.
    longest : int
        Bytes; there is no room for what is longer.
    key : ndarray of uint64, shape (3,)
        Of the hashes, which are those of `mlpipe.kernels.entries.hash_items`.
    words : ndarray of uint64
        Filled with items: the number of bytes, then the bytes.
    starts : ndarray of int64
        Filled: where the items begin.
    hashes : ndarray of uint64
        Filled.

    Returns
    -------
    count, next : int
        How many there are, and where the one begins that comes next.
    """
    count, used, begin = 0, 0, at
    for group in range(at, stop, SPAN):
        found = _ends_within(text, group, stop, split)
        while found:
            end = group + _lowest(found)
            found &= found - _U1
            length = end - begin
            if length == 0 and split:
                begin = end + 1
                continue
            size = (length + 7) >> 3
            if count == starts.shape[0] or used + 1 + size > words.shape[0] or length > longest:
                return count, begin
            starts[count] = used
            words[used] = length
            value = fold(key[0] ^ np.uint64(length), key[1])
            for k in range(size):
                here = begin + 8 * k
                if here + 8 <= text.shape[0]:
                    empty = np.uint64(8 * max(0, here + 8 - end))
                    word = (_reversed(word_at(text, here)) >> empty) << empty
                else:
                    word = _last_bytes(text, here, end)
                words[used + 1 + k] = word
                value = fold(value ^ word, key[1])
            hashes[count] = fold(value, key[2])
            count += 1
            used += 1 + size
            begin = end + 1
    return count, stop


@kernel
def spell(heap, entries, offsets, content):
    """Copy the bytes of entries.

    Parameters
    ----------
    heap : ndarray of uint64
        Entries of `mlpipe.kernels.entries`, of any length.
    entries : ndarray of int64, shape (count,)
        Which.
    offsets : ndarray of int64, shape (count + 1,)
        Where the bytes of each belong.
    content : ndarray of uint8
        Filled.
    """
    for i in range(entries.shape[0]):
        entry, at = entries[i], offsets[i]
        for k in range(offsets[i + 1] - at):
            word = heap[entry + 2 + (k >> 3)]
            content[at + k] = (word >> np.uint64(56 - 8 * (k & 7))) & np.uint64(255)


@kernel
def lengths(heap, entries, out):
    """The number of bytes of each entry."""
    for i in range(entries.shape[0]):
        out[i] = heap[entries[i] + 1]


@kernel
def count_newlines(text):
    """How many lines end."""
    count = 0
    for byte in text:
        count += byte == NEWLINE
    return count
