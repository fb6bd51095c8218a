"""The first value that lies outside of bounds."""

from __future__ import annotations

from mlpipe.kernels._jit import kernel


@kernel
def first_outside(values, low, high):
    """Index of the first value that is not within [low, high], as NaN never is; -1 if all are.

    Parameters
    ----------
    values : ndarray, shape (count,)
        Integers or floats.
    low, high : scalar
        Of a type that compares with the values exactly.
    """
    # Counting has no way out of its loop, so it is vectorised; what is found is looked for afterwards.
    outside = 0
    for i in range(values.shape[0]):
        outside += not (low <= values[i] <= high)
    if outside:
        for i in range(values.shape[0]):
            if not (low <= values[i] <= high):
                return i
    return -1
