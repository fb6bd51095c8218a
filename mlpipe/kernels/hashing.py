"""Rows by what they hold: hashes, and a table of those seen."""

from __future__ import annotations

import numpy as np

from mlpipe.kernels._jit import kernel

_R13, _R16, _R17, _R21, _R32 = (np.uint64(bits) for bits in (13, 16, 17, 21, 32))
_WORD = np.uint64(64)
_V0, _V1 = np.uint64(0x736F6D6570736575), np.uint64(0x646F72616E646F6D)
_V2, _V3 = np.uint64(0x6C7967656E657261), np.uint64(0x7465646279746573)
_END = np.uint64(0xFF)

KNOWN, NEW, NO_ROOM = 0, 1, 2
"""What `remember` says of a row."""


@kernel
def _left(word, bits):
    return (word << bits) | (word >> (_WORD - bits))


@kernel
def _round(a, b, c, d):
    """One round of SipHash."""
    a += b
    c += d
    b, d = _left(b, _R13) ^ a, _left(d, _R16) ^ c
    a = _left(a, _R32) + d
    c += b
    d, b = _left(d, _R21) ^ a, _left(b, _R17) ^ c
    return a, b, _left(c, _R32), d


@kernel
def hash_rows(rows, key, out):
    """SipHash-1-3 (Aumasson and Bernstein 2012) of rows of equal length.

    Nobody who does not know the key can make rows of equal hashes, which would take the table's speed.

    Parameters
    ----------
    rows : ndarray of uint64, shape (count, words)
        What is hashed.
    key : ndarray of uint64, shape (2,)
        Secret.
    out : ndarray of uint64, shape (count,)
        The hashes.
    """
    for i in range(rows.shape[0]):
        a, b, c, d = key[0] ^ _V0, key[1] ^ _V1, key[0] ^ _V2, key[1] ^ _V3
        for k in range(rows.shape[1]):
            word = rows[i, k]
            a, b, c, d = _round(a, b, c, d ^ word)
            a ^= word
        c ^= _END
        for _ in range(3):
            a, b, c, d = _round(a, b, c, d)
        out[i] = a ^ b ^ c ^ d


@kernel
def _equal(a, i, b, j):
    differs = False
    for k in range(a.shape[1]):
        differs |= a[i, k] != b[j, k]
    return not differs


@kernel
def remember(rows, hashes, places, tags, kept, count, out):
    """Look rows up in a table, and put those in that are new, as long as there is room.

    Parameters
    ----------
    rows : ndarray of uint64, shape (rows, words)
        What is looked up.
    hashes : ndarray of uint64, shape (rows,)
        Of `hash_rows`.
    places : ndarray of int32, shape (a power of two,)
        The table, with linear probing: one more than the index of a kept row, or 0. Never full.
    tags : ndarray of uint64, shape (capacity,)
        Hashes of the rows that were kept.
    kept : ndarray of uint64, shape (capacity, words)
        Those rows.
    count : int
        How many there are.
    out : ndarray of uint8, shape (rows,)
        KNOWN, NEW, or NO_ROOM for what is not in the table and did not fit.

    Returns
    -------
    int
        How many there are now.
    """
    mask = np.uint64(places.shape[0] - 1)
    for i in range(rows.shape[0]):
        place = hashes[i] & mask
        out[i] = NEW
        while places[place] != 0:
            j = places[place] - 1
            # Equal hashes are no proof.
            if tags[j] == hashes[i] and _equal(rows, i, kept, j):
                out[i] = KNOWN
                break
            place = (place + np.uint64(1)) & mask
        if out[i] == NEW:
            if count == tags.shape[0]:
                out[i] = NO_ROOM
                continue
            for k in range(rows.shape[1]):
                kept[count, k] = rows[i, k]
            tags[count] = hashes[i]
            count += 1
            places[place] = count
    return count
