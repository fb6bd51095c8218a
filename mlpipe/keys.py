"""Keys of random numbers: what is drawn depends on a seed, an epoch and what it is for, and on nothing else."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt


def key(seed: int, epoch: int, stream: str, words: int = 2) -> npt.NDArray[np.uint64]:
    """Mix a seed, an epoch and a purpose into a key for `mlpipe.kernels.randoms`.

    Parameters
    ----------
    seed, epoch : int
        Any integers. They are hashed side by side, never added: seed 42 in epoch 1 has nothing to do with
        seed 43 in epoch 0.
    stream : str
        What is drawn, such as ``"shuffle"``: verbs with the same seed draw different numbers.
    words : int
        Length of the key, 8 at most.

    Returns
    -------
    ndarray of uint64, shape (words,)
        From BLAKE2b.

    Examples
    --------
    >>> key(42, 1, "shuffle").tolist() == key(43, 0, "shuffle").tolist()
    False
    """
    text = f"{stream}\0{int(seed)}\0{int(epoch)}".encode()
    digest = hashlib.blake2b(text, digest_size=8 * words, person=b"mlpipe").digest()
    little: npt.NDArray[Any] = np.frombuffer(digest, "<u8")
    return little.astype(np.uint64)
