"""A function for `mlpipe run … then apply-python examples/ink.py:ink`: how dark each digit is, and where."""

from __future__ import annotations

import numpy as np


def ink(row: np.ndarray) -> tuple[float, float]:
    """The mean of the pixels, and the column of eight in which their weight lies."""
    total = 0.0
    moment = 0.0
    for place in range(row.size):
        total += row[place]
        moment += row[place] * (place % 8)
    return total / row.size, moment / total
