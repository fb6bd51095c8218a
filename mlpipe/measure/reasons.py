"""Why a figure of a record is missing: the keys without a value, each with a reason."""

from __future__ import annotations

from collections.abc import Iterator

from mlpipe.measure.facts import RecordFacts
from mlpipe.measure.threads import WHY_NO_FAULTS, WHY_NO_STORAGE

NOT_BEGUN = "the run did not begin"
NO_GPU = "no GPU was used: mlpipe computes on the processor"
HELPER = "it runs kernels for the stages, and has no clock of its own"
NO_ROWS = "no rows came to it; a stage that makes a whole of them writes it itself"
_ANONYMOUS = ("anonymous_peak", "file_backed_peak", "samples.anonymous", "samples.file_backed", "samples.rss_peak")


def reasons(facts: RecordFacts, *, seeds: bool, files: bool) -> dict[str, str]:
    """Keys without a value, and why; stages and threads are named by their names.

    Parameters
    ----------
    facts : RecordFacts
        The record; what it says of reasons already is not looked at.
    seeds : bool
        Whether anything was drawn by chance.
    files : bool
        Whether what is read are files.
    """
    return dict((*_of_the_run(facts, seeds), *_of_stages(facts, files), *_of_threads(facts)))


def _of_the_run(facts: RecordFacts, seeds: bool) -> Iterator[tuple[str, str]]:
    process = facts["process"]
    if facts["wall_s"] is None:
        yield from ((key, NOT_BEGUN) for key in ("wall_s", "stages", "process"))
        return
    if facts["host"]["simd"] is None:
        yield "host.simd", "no compiled kernel was used"
    if facts["startup_s"] is None:
        yield "startup_s", "the command was not started as a process of its own"
    if facts["seed"] is None:
        yield "seed", "stages have different seeds" if seeds else "nothing was drawn by chance"
    for one in facts["inputs"]:
        if one["fingerprint"] is None:
            yield f"inputs.{one['path']}.fingerprint", "not a file"
    if process["note"]:
        yield from ((f"process.{key}", process["note"]) for key in _ANONYMOUS)
    if process["bytes_read"] is None:
        yield from ((f"process.{key}", WHY_NO_STORAGE) for key in ("bytes_read", "bytes_written"))
    if process["major_faults"] is None:
        yield "process.major_faults", WHY_NO_FAULTS


def _of_stages(facts: RecordFacts, files: bool) -> Iterator[tuple[str, str]]:
    yield "stages.gpu_transfer_s", NO_GPU
    yield "stages.gpu_kernel_s", NO_GPU
    why = WHY_NO_STORAGE if files else "what is read is no file"
    for stage in facts["stages"]:
        if stage["rows"] is None:
            yield f"stages.{stage['name']}.rows", NO_ROWS
        if stage["bytes_asked"] is not None and stage["bytes_read"] is None:
            yield f"stages.{stage['name']}.bytes_read", why
            yield f"stages.{stage['name']}.cache", why


def _of_threads(facts: RecordFacts) -> Iterator[tuple[str, str]]:
    for thread in facts["thread_facts"]:
        name = f"thread_facts.{thread['name']}"
        if thread["accounted"] is None:
            yield f"{name}.accounted", HELPER
        if thread["major_faults"] is None:
            yield f"{name}.major_faults", WHY_NO_FAULTS
        if thread["bytes_read"] is None:
            yield f"{name}.bytes_read", WHY_NO_STORAGE
