"""What a run leaves behind: its record, on the terminal, in files and in logs, however it ended."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mlpipe.cli.explain import explain
from mlpipe.cli.session import Session
from mlpipe.cli.text import best_effort
from mlpipe.errors import InputError, InputMissingError, Interrupted, MemoryCeilingError, MlpipeError, UsageError

if TYPE_CHECKING:
    from mlpipe.cli.options import RunFlags
    from mlpipe.measure.meter import Meter
    from mlpipe.measure.record import Record
    from mlpipe.measure.schema import FingerprintFacts, RecordFacts, Status
    from mlpipe.opening import FileIdentity
    from mlpipe.report.progress import Progress
    from mlpipe.writers.atomic import AtomicFile

KINDS = (".json", ".html", ".prom")

RECORD_TO = "MLPIPE_RECORD_TO"
"""Variable that names a file for the record as JSON, besides `--report`; it is replaced."""

_WRITTEN_BY_US = {".json": b'{\n  "schema_version"', ".prom": b"# HELP mlpipe_", ".html": b"mlpipe"}
_HEAD = 4096
_WHEN_NOT_BEGUN = (InputMissingError, InputError, MemoryCeilingError, Interrupted)
"""Errors before a run that its report tells of; with any other, the flags may be wrong that say where it goes."""


class ReportFile:
    """The file of `--report`: what it is depends on how its name ends.

    Parameters
    ----------
    path : Path
        Where it will be.
    force : bool
        Whether it may replace what is there. A ``.prom`` file that mlpipe wrote is replaced anyway: that is what it
        is for.
    kept : sequence of FileIdentity
        Files that it must not replace.
    """

    def __init__(self, path: Path, *, force: bool, kept: Sequence[FileIdentity] = ()) -> None:
        self.path, self.kind = path, path.suffix.lower()
        self._force, self._kept = force or (self.kind == ".prom" and self.is_ours), kept

    @property
    def is_ours(self) -> bool:
        """Whether mlpipe wrote the file that is there."""
        return _WRITTEN_BY_US.get(self.kind, b"\n") in _beginning(self.path)[: _HEAD if self.kind == ".html" else 64]

    def check(self) -> None:
        """Raise for what can be known to fail."""
        self._file(None).check()
        if self.kind not in KINDS:
            raise UsageError(f"--report {self.path}: give a name that ends in {', '.join(KINDS[:-1])} or {KINDS[-1]}")

    def write(self, record: RecordFacts) -> None:
        """Write it, whole or not at all."""
        content = self._content(record)
        with self._file(len(content)) as file:
            file.pwrite(content, 0)

    def write_before_a_run(self, record: RecordFacts) -> None:
        """The same, but nothing is replaced that mlpipe did not write: it may be an input that was not opened yet."""
        if self.kind in KINDS and (self.is_ours or not os.path.lexists(self.path)):
            self.write(record)

    def _content(self, record: RecordFacts) -> bytes:
        if self.kind == ".html":
            from mlpipe.report.html import render

            return render(record).encode("utf-8", "replace")
        if self.kind == ".prom":
            from mlpipe.report.prometheus import prometheus_text

            before = _beginning(self.path).decode("utf-8", "replace")
            return prometheus_text(record, self.path.stem, before).encode()
        from mlpipe.measure.record import json_text

        return json_text(record).encode()

    def _file(self, size: int | None) -> AtomicFile:
        from mlpipe.writers.atomic import AtomicFile

        return AtomicFile(self.path, size=size, force=self._force, inputs=self._kept)


def _beginning(path: Path) -> bytes:
    """What a regular file begins with; nothing if there is none."""
    with suppress(OSError):
        if stat.S_ISREG(path.stat().st_mode):
            with path.open("rb") as file:
                return file.read(_HEAD)
    return b""


def fingerprint_of(path: str, kept: Sequence[FileIdentity]) -> FingerprintFacts | None:
    """Fingerprint of an input; where it is several files, of those that are kept.

    Parameters
    ----------
    path : str
        What the record calls the input.
    kept : sequence of FileIdentity
        All files that are read.
    """
    files: list[Any] = []
    with suppress(OSError, ValueError):
        status = Path(path).stat()
        files = [status] if stat.S_ISREG(status.st_mode) else []
    files = files or [one for one in kept if getattr(one, "st_size", None) and getattr(one, "st_mtime_ns", None)]
    if not files or path == "-":
        return None
    return {
        "inode": files[0].st_ino,
        "size": sum(one.st_size for one in files),
        "mtime_ns": max(one.st_mtime_ns for one in files),
    }


@contextmanager
def measured(
    record: Record, label: str, session: Session, flags: RunFlags, kept: Sequence[FileIdentity]
) -> Iterator[tuple[Meter, Callable[[float], None]]]:
    """Meter, memory sampler and progress round a run; table and reports after it, however it ended.

    Parameters
    ----------
    record : Record
        Of the run; it is finished here.
    label : str
        What progress calls the run.
    session : Session
        What is said, and how.
    flags : RunFlags
        Where reports go.
    kept : sequence of FileIdentity
        Files that they must not replace.

    Yields
    ------
    meter : Meter
    advance : callable
        To be told which share of a pass was completed.
    """
    from mlpipe.measure.memory import MemorySampler
    from mlpipe.measure.meter import Meter

    session.recorded = True
    if session.log is not None:
        from mlpipe.measure.host import versions

        session.log.started(record.command, versions(), record.plan)
    total = int(record.plan["bytes_written"] or record.plan["bytes_read"] or 0)
    meter, memory = Meter(), MemorySampler()
    try:
        with memory, _progress(session, flags, total, label) as progress:
            record.startup_s = _startup(session)
            meter = Meter()  # now that the threads are there which watch it
            memory.follow(meter)
            try:
                yield meter, _whole_bytes(progress.advance, total, int(record.plan.get("passes_over_source", 1)))
            finally:
                meter.stop()
    except BaseException as error:
        code, message = explain(error)
        record.finish(meter, memory, _status(error), error=message, exit_code=code)
        with suppress(OSError, MlpipeError):  # the error that ended the run counts
            _tell(record.to_dict(), session, flags, kept)
        raise
    record.finish(meter, memory, "done")
    facts = record.to_dict()
    try:
        _tell(facts, session, flags, kept)
    except (OSError, MlpipeError) as error:  # the work is done: its result is told first
        session.unreported = error
    if not session.quiet and session.log is None and RECORD_TO not in os.environ:  # else whoever wants it shows it
        _show_table(facts)


@contextmanager
def reporting(flags: RunFlags, session: Session) -> Iterator[None]:
    """Report of a command that ended before its run began, too: for those who watch jobs from outside.

    A report that could not be written is an error once the command has told its result.

    Parameters
    ----------
    flags : RunFlags
        Where the report goes.
    session : Session
        Knows whether the run began.
    """
    try:
        yield
    except BaseException as error:
        if not session.recorded and not flags.dry_run:
            with suppress(OSError, MlpipeError):
                _tell_of_nothing(error, flags, session)
        raise
    if session.unreported is not None:
        raise session.unreported


def _tell_of_nothing(error: BaseException, flags: RunFlags, session: Session) -> None:
    if flags.report is None and RECORD_TO not in os.environ:
        return
    from mlpipe.measure.record import Record

    code, message = explain(error)
    facts = Record(session.arguments, status=_status(error), error=message, exit_code=code).to_dict()
    _write_for_parent(facts)
    if flags.report is not None and isinstance(error, _WHEN_NOT_BEGUN):
        ReportFile(flags.report, force=flags.force).write_before_a_run(facts)


def _tell(facts: RecordFacts, session: Session, flags: RunFlags, kept: Sequence[FileIdentity]) -> None:
    """Write what was measured to whom it was promised."""
    if session.log is not None:
        session.log.finished(facts)
    _write_for_parent(facts)
    if flags.report is not None:
        ReportFile(flags.report, force=flags.force, kept=kept).write(facts)


def _write_for_parent(facts: RecordFacts) -> None:
    """Write the record where the process that started this one wants it."""
    path = os.environ.get(RECORD_TO)
    if path:
        from mlpipe.measure.record import json_text
        from mlpipe.writers.atomic import AtomicFile

        content = json_text(facts).encode()
        if path.startswith("/proc/"):  # a file without a name
            with suppress(OSError):  # whoever asked is gone
                Path(path).write_bytes(content)
            return
        with AtomicFile(path, size=len(content), force=True) as file:
            file.pwrite(content, 0)


def _status(error: BaseException) -> Status:
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"


def _startup(session: Session) -> float | None:
    """Seconds from the start of the process until now, if it is there for this command alone."""
    from mlpipe.measure.host import process_age

    return process_age() if session.alone else None


def _progress(session: Session, flags: RunFlags, total: int, label: str) -> Progress:
    from mlpipe.report.progress import Gauge, make_progress

    if session.log is not None:
        from mlpipe.report.events import EventProgress

        return EventProgress(Gauge(total), session.log)
    return make_progress("none" if session.quiet else flags.progress, total, label=label)


def _whole_bytes(advance: Callable[[int], None], total: int, passes: int) -> Callable[[float], None]:
    """Tell shares of each pass as bytes of the output, with nothing lost to rounding."""
    share, told = 0.0, 0

    def add(more: float) -> None:
        nonlocal share, told
        share += more / passes
        now = round(share * total)
        advance(now - told)
        told = now

    return add


def _show_table(facts: RecordFacts) -> None:
    from mlpipe.report.table import stage_table

    with best_effort():
        if sys.stderr.isatty():
            from mlpipe.report.console import ReportConsole

            ReportConsole(stderr=True).print(stage_table(facts, terminal=True))
        else:
            typer.echo(stage_table(facts, terminal=False), err=True, nl=False)
