"""Tables of values that are several words wide, or of any length: hashes, look-ups, and what finds no room.

An *item* is what comes in: its body, maybe with words in front of it that are passed over. A *body* is a number of
words that all items share (`width`), or, where `width` is 0, the number of bytes followed by as many words as they
need. An *entry* of a table is a count followed by a body. All words are such that comparing them as numbers orders the
values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.intrinsics import Arguments, signature_of

AHEAD, NEAR = 16, 8
"""Items by which a place of the table, and the entry it names, are asked for before they are needed."""

SMALL_BITS = 13
"""Tables of so few places are in the cache anyway."""

TAG_BITS = 32
_U32, _MASK = np.uint64(32), np.uint64(0xFFFFFFFF)


@intrinsic
def fold(_context, a, b):
    """The upper and the lower half of a product of two words, xored."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        word, wide = ir.IntType(64), ir.IntType(128)
        product = builder.mul(builder.zext(values[0], wide), builder.zext(values[1], wide))
        upper = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), word)
        return builder.xor(builder.trunc(product, word), upper)

    return types.uint64(types.uint64, types.uint64), emit


@intrinsic
def fetch(_context, array, index):
    """Ask for the cache line of an element."""

    def body(arguments: Arguments, builder: Any) -> None:
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        call = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        at = builder.bitcast(arguments.at("array", arguments["index"]), byte)
        builder.call(call, [at, ir.Constant(flag, 0), ir.Constant(flag, 3), ir.Constant(flag, 1)])

    return signature_of(body, array=array, index=index)


@kernel
def body_words(words, at, width):
    """Words of the body that begins at a place."""
    if width:
        return width
    return 1 + ((np.int64(words[at]) + 7) >> 3)


@kernel
def locate_items(words, first, stop, lead, width, starts):
    """Where the items lie that follow each other, as many as there are whole ones and room for in `starts`.

    Parameters
    ----------
    words : ndarray of uint64
        The items.
    first, stop : int
        Where the first one begins, and where the last one ends or is cut off.
    lead : int
        Words before the body of each.
    width : int
        Words of a body; 0 for any length.
    starts : ndarray of int64
        Filled.

    Returns
    -------
    count, end : int
        How many were found, and where the last of them ends.
    """
    count, at = 0, first
    while count < starts.shape[0] and at + lead < stop:
        after = at + lead + body_words(words, at + lead, width)
        if after > stop:
            break
        starts[count] = at
        count += 1
        at = after
    return count, at


@kernel
def hash_items(words, starts, lead, width, count, key, hashes):
    """Keyed hashes of bodies: multiplied, word after word, with a secret number, both halves of the product folded.

    Without the key nobody can make items of equal hashes. It takes half of the time of SipHash-1-3.

    Parameters
    ----------
    words : ndarray of uint64
        The items.
    starts : ndarray of int64
        Where each begins; unused if they are of one width.
    lead, width : int
        Words before a body, and of a body.
    count : int
        How many items.
    key : ndarray of uint64, shape (3,)
        Secret.
    hashes : ndarray of uint64
        Filled.
    """
    for i in range(count):
        at = lead + (i * (lead + width) if width else starts[i])
        size = width if width else 1 + ((np.int64(words[at]) + 7) >> 3)
        value = key[0]
        for k in range(at, at + size):
            value = fold(value ^ words[k], key[1])
        hashes[i] = fold(value, key[2])


@kernel
def by_shard(hashes, count, order, bounds):
    """Order items by the lowest bits of their hashes, keeping the order of those that share them.

    Parameters
    ----------
    hashes : ndarray of uint64
        Of the items.
    count : int
        How many items.
    order : ndarray of int32
        Filled: indices of items, shard after shard.
    bounds : ndarray of int64, shape (shards + 1,)
        Filled: where in `order` each shard begins. The number of shards is a power of two.
    """
    shards = bounds.shape[0] - 1
    if shards == 1:
        for i in range(count):
            order[i] = i
        bounds[0], bounds[1] = 0, count
        return
    mask = np.uint64(shards - 1)
    bounds[:] = 0
    for i in range(count):
        bounds[np.int64(hashes[i] & mask) + 1] += 1
    for s in range(shards):
        bounds[s + 1] += bounds[s]
    for i in range(count):
        own = np.int64(hashes[i] & mask)
        order[bounds[own]] = i
        bounds[own] += 1
    for s in range(shards, 0, -1):
        bounds[s] = bounds[s - 1]
    bounds[0] = 0


@kernel
def absorb(items, chosen, weights, table, state, left):
    """Count items in a table, and put in those that are new, as long as there is room.

    All in one piece: with functions for its inner loops, it takes twice as long, 24 ns for an item instead of 11.

    Parameters
    ----------
    items : tuple
        Words; where items begin (unused if they are of one width); words before the body, and of it; hashes.
    chosen : tuple
        Indices of items; the first one and the one after the last that are looked at. What finds no room is moved
        to the front of them.
    weights : tuple
        Array, and by how much its index grows with that of the items: 0 where all weigh alike.
    table : tuple
        Places, of which each holds 32 bits of a hash and one more than the position of an entry, or 0; their number
        as a power of two, and the largest it may become; the entries; their counts, in the same memory; where in it
        the table begins; how many words it may take.
    state : ndarray of int64, shape (3,)
        Words used, entries, words of the longest entry; kept up to date.
    left : int
        How many found no room in earlier calls with the same items.

    Returns
    -------
    next, left : int
        The item before which the places have to grow, or the end; and how many found no room.
    """
    words, starts, lead, width, hashes = items
    order, first, stop, begin = chosen
    weight, step = weights
    places, bits, most, heap, sums, base, limit = table
    mask, shift = (1 << bits) - 1, np.uint64(TAG_BITS - bits)
    full = (11 << bits) >> 4
    for k in range(first, stop):
        if bits > SMALL_BITS:
            if k + AHEAD < stop:
                fetch(places, np.int64((hashes[order[k + AHEAD]] >> _U32) >> shift))
            if k + NEAR < stop:
                near = places[np.int64((hashes[order[k + NEAR]] >> _U32) >> shift)]
                fetch(heap, base + max(0, np.int64(near & _MASK) - 1))
        i = np.int64(order[k])
        tag = hashes[i] >> _U32
        at = lead + (i * (lead + width) if width else starts[i])
        count = width if width else 1 + ((np.int64(words[at]) + 7) >> 3)
        slot = np.int64(tag >> shift)
        found = False
        while places[slot] != 0:
            if places[slot] >> _U32 == tag:
                # Equal hashes are no proof. Texts begin with their lengths, so no more is read than there is.
                entry, same = base + np.int64(places[slot] & _MASK) - 1, True
                for j in range(count):
                    if heap[entry + 1 + j] != words[at + j]:
                        same = False
                        break
                if same:
                    sums[entry] += weight[i * step]
                    found = True
                    break
            slot = (slot + 1) & mask
        if found:
            continue
        room = state[0] + 1 + count <= limit
        if room and state[1] >= full and bits < most:
            return k, left
        if not room or state[1] >= full:
            order[begin + left] = i
            left += 1
            continue
        entry = base + state[0]
        sums[entry] = weight[i * step]
        for j in range(count):
            heap[entry + 1 + j] = words[at + j]
        places[slot] = (tag << _U32) | np.uint64(state[0] + 1)
        state[0] += 1 + count
        state[1] += 1
        state[2] = max(state[2], 1 + count)
    return stop, left


@kernel
def grow(old, new, bits):
    """Move the places of a table to more of them, all 0 before; their number is a power of two."""
    mask, shift = (1 << bits) - 1, np.uint64(TAG_BITS - bits)
    for i in range(old.shape[0]):
        if old[i] != 0:
            slot = np.int64((old[i] >> _U32) >> shift)
            while new[slot] != 0:
                slot = (slot + 1) & mask
            new[slot] = old[i]


@kernel
def deal(items, chosen, weights, buffers, filled, heaps):
    """Put items into the buffers of their heaps, with their weights in front, until one is full.

    Parameters
    ----------
    items : tuple
        As in `absorb`.
    chosen : tuple
        Indices of items, the first and the one after the last.
    weights : tuple
        The bits of weights, and whether they are kept.
    buffers : ndarray of uint64, shape (heaps, words)
        One for each heap.
    filled : ndarray of int64, shape (heaps,)
        Words in each; counted on.
    heaps : tuple
        The first heap and the number of those that may be chosen.

    Returns
    -------
    next, heap : int
        The item for which there was no room, and its heap; or the end.
    """
    words, starts, lead, width, hashes = items
    order, first, stop = chosen
    weight, weighted = weights
    low, count = heaps
    for k in range(first, stop):
        i = np.int64(order[k])
        heap = low + np.int64((hashes[i] >> np.uint64(8)) & np.uint64(0xFFFFFF)) % count
        at = lead + (i * (lead + width) if width else starts[i])
        size = body_words(words, at, width)
        place = filled[heap]
        if place + weighted + size > buffers.shape[1]:
            return k, heap
        if weighted:
            buffers[heap, place] = weight[i]
            place += 1
        for j in range(size):
            buffers[heap, place + j] = words[at + j]
        filled[heap] = place + size
    return stop, -1
