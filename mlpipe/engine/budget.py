"""Bytes to block sizes: a plan that keeps a memory ceiling, made before any work is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlpipe.errors import MemoryCeilingError
from mlpipe.link import Held, Room, Spec
from mlpipe.measure.memory import anonymous_bytes
from mlpipe.measure.sizes import format_size, size_argument
from mlpipe.pipeline import Pipeline

KERNEL_BYTES = 64 << 20
"""What compiling and loading kernels, the threads and the interpreter take while running (measured: 25 to 50 MiB)."""


BASE_VARIES = 4 << 20
"""By how much the base may differ between two processes: the ceiling that a message names must do in the next."""


@dataclass(frozen=True)
class Plan:
    """How a pipeline will be carried out.

    Parameters
    ----------
    pipeline : Pipeline
        What will be carried out.
    specs : list of Spec
        What flows between its links.
    held : list of Held
        What each stage holds.
    ceiling, base : int
        Bytes of anonymous memory: the most there may be, and those that are taken before any data.
    threads : int
        Threads that compute.
    """

    pipeline: Pipeline
    specs: list[Spec]
    held: list[Held]
    ceiling: int
    base: int
    threads: int

    @property
    def output(self) -> Spec:
        """What the sink gets."""
        return self.specs[-1]

    def describe(self) -> dict[str, Any]:
        """The plan as plain values, for `--dry-run` and reports."""
        stages = [
            {"stage": stage.name, "bytes_held": held.nbytes, **held.facts}
            for stage, held in zip(self.pipeline.stages, self.held, strict=True)
        ]
        held = sum(sum(held.nbytes.values()) for held in self.held)
        return {
            "memory_ceiling": self.ceiling,
            "memory_base": self.base,
            "bytes_held": held,
            "bytes_written": self.output.nbytes,
            "threads": self.threads,
            "stages": stages,
        }


def plan(pipeline: Pipeline, ceiling: int, threads: int) -> Plan:
    """Plan a pipeline within a ceiling on the anonymous memory of the whole process.

    Raises
    ------
    MemoryCeilingError
        When the ceiling is too small; the message names the smallest that works.
    OutputError
        When the sink cannot take the output.
    """
    specs = pipeline.specs()
    pipeline.sink.check(specs[-1])
    base = (anonymous_bytes() or 0) + KERNEL_BYTES
    share = max(0, ceiling - base) // max(1, len(pipeline.stages))
    sink = pipeline.sink
    room = Room(share, threads, sink.sequential, sink.stored, sink.offset(specs[-1]))
    held = []
    for stage, spec in zip(pipeline.stages, specs, strict=False):
        try:
            held.append(stage.hold(spec, room))
        except MemoryCeilingError as error:
            least = base + error.needs * len(pipeline.stages) + BASE_VARIES
            raise MemoryCeilingError(
                f"a memory ceiling of {format_size(ceiling)} is too small: {stage.name} and the interpreter need "
                f"{format_size(least)}; use --memory {size_argument(least)} or more",
                needs=least,
            ) from None
    return Plan(pipeline, specs, held, ceiling, base, threads)
