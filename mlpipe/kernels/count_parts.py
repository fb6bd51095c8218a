"""Keys sorted out into partitions, each a range of keys, by way of lines that stay in the cache.

What each worker does is its own: lines, chunks of an arena, and how far it is with each partition. A chunk belongs to
one partition; each names the one before.
"""

from __future__ import annotations

import numpy as np

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.count_keys import LINE, ordered, stream_line

BLOCK = 4096
"""Keys between two looks at what room is left."""

_ONE = np.uint64(1)
_UNIT = np.uint64(0x3FF << 52)
_ZERO = np.uint64(0)
_LAST = np.uint64(LINE - 1)
_SHIFT = np.uint64(3)


@kernel
def bucket(key, low, high, shift, base, logarithmic, last):
    """Which bucket of a map of ranges a key is in: of equal widths, or such that they grow with the distance to an end.

    Floats of both signs lie near both ends of the range of their keys, and numbers of all sizes near the lower one.
    """
    above = key - low if key > low else _ZERO
    if logarithmic:
        below = high - key if key < high else _ZERO
        bits = np.float64(min(above, below)).view(np.uint64)
        near = ((bits if bits > _UNIT else _UNIT) >> shift) - base
        return near if above < below else last - near
    x = above >> shift
    return x if x < last else last


@kernel
def buckets(keys, low, high, shift, base, logarithmic, last, out):
    """The buckets of some keys."""
    for i in range(keys.shape[0]):
        out[i] = bucket(keys[i], low, high, shift, base, logarithmic, last)


@kernel
def _sort_out(values, ranges, numbers, counts, current, lines, previous, arena, chunk, used):
    """Add values to their partitions; there is room. Returns how many chunks are used then."""
    low, high, shift, base, logarithmic, last = numbers
    mask = np.int64(chunk - 1)
    for i in range(values.shape[0]):
        key = ordered(values[i])
        part = np.uint64(ranges[bucket(key, low, high, shift, base, logarithmic, last)])
        count = counts[part]
        place = np.uint64(count) & _LAST
        lines[(part << _SHIFT) + place] = key
        if place == _LAST:
            first = count - np.int64(LINE - 1)
            inside = first & mask
            if inside == 0:
                previous[used] = current[part]
                current[part] = used
                used += 1
            stream_line(lines, np.int64(part << _SHIFT), arena, np.int64(current[part]) * chunk + inside)
        counts[part] = count + 1
    return used


@kernel
def _catch(values, table, mix, shift, used, missed):
    """Count values that are in a small table, or for which it has room; the keys of the others are put together."""
    mask, room = np.uint64(table.shape[0] - 1), np.int64(table.shape[0] // 2)
    count = 0
    for i in range(values.shape[0]):
        key = ordered(values[i])
        place = (key * mix) >> shift
        while table[place, 1] != _ZERO and table[place, 0] != key:
            place = (place + _ONE) & mask
        if table[place, 1] != _ZERO:
            table[place, 1] += _ONE
        elif used < room:
            table[place, 0] = key
            table[place, 1] = _ONE
            used += 1
        else:
            missed[count] = key
            count += 1
    return count, used


@kernel
def sift(values, start, reserve, ranges, numbers, counts, current, lines, previous, arena, chunk, used,
         table, mix, missed, patience):  # fmt: skip
    """Count frequent values in a small table, and sort the others out into partitions.

    Parameters
    ----------
    values : ndarray
        What comes in, of 32 or 64 bits each.
    start : int
        The first to take.
    reserve : int
        Chunks that a block may need at most.
    ranges : ndarray of uint16
        Partition of each bucket.
    numbers : tuple
        Arguments of `bucket`.
    counts, current : ndarray, shape (partitions,)
        Keys of each, and their last chunk.
    lines : ndarray of uint64, shape (8 · partitions,)
        A line of each, on its way.
    previous : ndarray of int32, shape (chunks,)
        The chunk before each.
    arena : ndarray of uint64
        The chunks.
    chunk : int
        Keys of a chunk, a power of two.
    used : ndarray of int64, shape (2,)
        Chunks in use, and keys in the table.
    table : ndarray of uint64, shape (slots, 2)
        Keys with their counts.
    mix : uint64
        An odd number by which keys are hashed.
    missed : ndarray of uint64, shape (BLOCK,)
        Scratch.
    patience : float
        Share of a block that may be missing in the table before it is left alone for the rest; negative for never
        to try it.

    Returns
    -------
    int, float
        How far it came, which is less than all when chunks run out; and the share that was missing at the last try.
    """
    stop, missing = values.shape[0], -1.0
    slots = table.shape[0]
    shift = np.uint64(64)
    while slots > 1:
        slots >>= 1
        shift -= _ONE
    tries = patience >= 0
    while start < stop and used[0] + reserve <= previous.shape[0]:
        end = min(start + BLOCK, stop)
        if tries:
            count, inside = _catch(values[start:end], table, mix, shift, used[1], missed)
            used[0] = _sort_out(
                missed[:count], ranges, numbers, counts, current, lines, previous, arena, chunk, used[0]
            )
            used[1] = inside
            missing = count / (end - start)
            tries = missing <= patience
        else:
            used[0] = _sort_out(
                values[start:end], ranges, numbers, counts, current, lines, previous, arena, chunk, used[0]
            )
        start = end
    return start, missing


@kernel
def sort_pairs(values, weights, start, reserve, ranges, numbers, counts, current, previous, arena, chunk, used):
    """Sort values out with their weights, 64 bits each; else as `sift`. In a partition they stay in their order."""
    low, high, shift, base, logarithmic, last = numbers
    stop, mask = values.shape[0], np.int64(chunk // 2 - 1)
    while start < stop and used[0] + reserve <= previous.shape[0]:
        end = min(start + BLOCK, stop)
        for i in range(start, end):
            key = ordered(values[i])
            part = np.uint64(ranges[bucket(key, low, high, shift, base, logarithmic, last)])
            inside = counts[part] & mask
            if inside == 0:
                previous[used[0]] = current[part]
                current[part] = used[0]
                used[0] += 1
            place = np.uint64(np.int64(current[part]) * chunk + 2 * inside)
            arena[place] = key
            arena[place + _ONE] = weights[i]
            counts[part] += 1
        start = end
    return start


@kernel
def collect(part, width, counts, current, lines, previous, arena, chunk, skip, out):
    """Copy what the workers have of a partition, in the order in which each took it in.

    Parameters
    ----------
    part : int
        The partition.
    width : int
        Words of an entry: 1, or 2 with a weight.
    counts, current, lines, previous, arena : ndarray
        As `sift` has them, with the workers as the first axis.
    chunk : int
        Words of a chunk.
    skip : int
        Entries to leave out, those of all workers counted one after the other.
    out : ndarray of uint64
        Filled with words from the front as far as there are any.

    Returns
    -------
    int
        Words that were copied.
    """
    done, left = np.int64(0), skip * width  # a literal would be a type of its own, for which callees compile again
    for worker in range(counts.shape[0]):
        words = counts[worker, part] * width
        if left >= words:
            left -= words
            continue
        first = left
        stop = min(words, first + out.shape[0] - done)
        # Words that fill no line yet are still there; with weights, nothing goes through lines.
        whole = words if width == 2 else words & ~np.int64(LINE - 1)
        _copy_chunks(
            current[worker, part], words, whole, first, stop, previous[worker], arena[worker], chunk, out, done
        )
        for word in range(max(first, whole), stop):
            out[done + word - first] = lines[worker, part * LINE + word - whole]
        done += stop - first
        left = 0
        if done == out.shape[0]:
            break
    return done


@kernel
def _copy_chunks(last, words, whole, first, stop, previous, arena, chunk, out, done):
    """Copy words `first` to `stop` of a chain of chunks, beginning from its end."""
    place = last
    number = (whole - 1) // chunk if whole else -1
    while number >= 0 and (number + 1) * chunk > first:
        begin, end = max(first, number * chunk), min(stop, whole, (number + 1) * chunk)
        if end > begin:
            source = np.int64(place) * chunk + begin - number * chunk
            part, copy = arena[source : source + end - begin], out[done + begin - first :]
            for i in range(part.shape[0]):  # assigning a slice takes ten times as long to compile, and 25 MiB
                copy[i] = part[i]
        place = previous[place]
        number -= 1
