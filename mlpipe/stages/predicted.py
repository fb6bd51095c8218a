"""What is said of predictions that are not written: which classes, or how large."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from mlpipe.link import Blocks, Held, Room, Run, Spec
from mlpipe.stages.known import Kind, as_integers, plain_labels
from mlpipe.stages.streaming import Streaming
from mlpipe.statistics.scores import GROUP, MOST_CLASSES, Frequencies, Means

STEP = 1 << 14
"""Rows that are looked at at once."""


@dataclass(frozen=True)
class Predicted(Streaming):
    """Hands predictions on as they are, and keeps what a summary says of them.

    Parameters
    ----------
    kind : {"classify", "regress"}
        What was predicted.
    facts : dict
        The summary, once all rows have passed.
    """

    kind: Kind
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What reports call it."""
        return "summary"

    def hold(self, spec: Spec, room: Room) -> Held:
        """A few rows."""
        outputs = math.prod(spec.row_shape)
        size = 4 * 8 * STEP + 64 * MOST_CLASSES if self.kind == "classify" else 4 * 8 * GROUP * outputs
        return Held(room.block_rows, spec.dtype, {"summary": size}, {}, spec)

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Look at what passes."""
        spec: Spec = held.layout
        classes, means = Frequencies(), Means(math.prod(spec.row_shape))
        for block in blocks:
            for first in range(0, len(block.data), STEP):
                some = block.data[first : first + STEP]
                if self.kind == "classify":
                    classes.add(as_integers(some, block.start + first, ""))
                else:
                    means.add(some.reshape(len(some), -1))
            run.lane.count(rows=len(block.data), nbytes=block.data.nbytes)
            yield block
        if self.kind == "regress":
            self.facts.update(means.facts())
        elif classes.many:
            self.facts.update(classes=None, counts=None, why=f"more than {MOST_CLASSES} classes")
        else:
            self.facts.update(classes=plain_labels(classes.classes, spec.dtype), counts=classes.counts.tolist())
