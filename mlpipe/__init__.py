"""Exact, fast, out-of-core work on ``.npy`` files, under a memory ceiling that is kept.

What needs NumPy or Numba is resolved on first use, so that importing the package loads neither.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mlpipe.errors import (
    DeviceError,
    InputError,
    InputMissingError,
    Interrupted,
    LockedError,
    MemoryCeilingError,
    MlpipeError,
    OutputError,
    RegressionError,
    UsageError,
)

if TYPE_CHECKING:
    from mlpipe.api import pairwise_distances
    from mlpipe.chain import Chain as Pipeline
    from mlpipe.chain import generate, read, read_raw
    from mlpipe.counting.histogram import histogram
    from mlpipe.counting.in_memory import value_counts
    from mlpipe.nearest import kneighbors
    from mlpipe.predicting import kneighbors_predict
    from mlpipe.radius import radius_neighbors
    from mlpipe.readers.npy import NpySource
    from mlpipe.readers.npy import NpySource as open  # noqa: A004, N813 - mlpipe.open reads like numpy.load
    from mlpipe.statistics.in_memory import describe

__version__ = "0.1.0"

__all__ = [
    "DeviceError",
    "InputError",
    "InputMissingError",
    "Interrupted",
    "LockedError",
    "MemoryCeilingError",
    "MlpipeError",
    "NpySource",
    "OutputError",
    "Pipeline",
    "RegressionError",
    "UsageError",
    "__version__",
    "describe",
    "generate",
    "histogram",
    "kneighbors",
    "kneighbors_predict",
    "open",
    "pairwise_distances",
    "radius_neighbors",
    "read",
    "read_raw",
    "value_counts",
]

_LAZY = {
    "NpySource": ("mlpipe.readers.npy", "NpySource"),
    "Pipeline": ("mlpipe.chain", "Chain"),
    "describe": ("mlpipe.statistics.in_memory", "describe"),
    "generate": ("mlpipe.chain", "generate"),
    "histogram": ("mlpipe.counting.histogram", "histogram"),
    "read": ("mlpipe.chain", "read"),
    "read_raw": ("mlpipe.chain", "read_raw"),
    "open": ("mlpipe.readers.npy", "NpySource"),
    "kneighbors": ("mlpipe.nearest", "kneighbors"),
    "kneighbors_predict": ("mlpipe.predicting", "kneighbors_predict"),
    "pairwise_distances": ("mlpipe.api", "pairwise_distances"),
    "radius_neighbors": ("mlpipe.radius", "radius_neighbors"),
    "value_counts": ("mlpipe.counting.in_memory", "value_counts"),
}


def __getattr__(name: str) -> Any:
    """Import the home of a public name when it is first asked for (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Name all that can be had, loaded or not."""
    return sorted(__all__)
