"""``mlpipe bench loading``: every way to load a directory of shards, each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from glob import has_magic
from pathlib import Path
from typing import Any

from mlpipe.bench.facts import Clock, installed
from mlpipe.bench.loaders import Shards
from mlpipe.bench.watching import Watch
from mlpipe.bench.ways import WAYS, Way
from mlpipe.errors import InputError, InputMissingError, MlpipeError, UsageError
from mlpipe.measure.comparison import Loading, LoadingComparison
from mlpipe.measure.memory import available_bytes
from mlpipe.measure.sizes import format_size
from mlpipe.opening import FileIdentity
from mlpipe.readers.files import shown_name
from mlpipe.readers.paths import expand, split_labels
from mlpipe.readers.shards import ShardsSource

PATIENCE = 60.0
"""Seconds on top of the budget after which a process that does not answer is ended."""

_GRACE = 5.0


@dataclass(frozen=True)
class Settings:
    """How to compare.

    Parameters
    ----------
    batch, buffer : int
        Rows of a batch, and of a shuffle buffer.
    epochs : int
        Times each way goes through all rows.
    budget : float
        Seconds after which a way is stopped, and its rate taken from what it did.
    seed : int
        Of all orders.
    threads : int
        That mlpipe computes with.
    cold : bool
        Whether files leave the page cache before each epoch.
    methods : sequence of str
        Which ways.
    """

    batch: int = 256
    buffer: int = 4096
    epochs: int = 1
    budget: float = 20.0
    seed: int = 0
    threads: int = 1
    cold: bool = False
    methods: Sequence[str] = tuple(WAYS)


@dataclass(frozen=True)
class Found:
    """The shards of a directory.

    Parameters
    ----------
    paths : list of str
        Those that have rows.
    rows, row_bytes : int
        In all of them, and of each row.
    facts : dict
        Path, shape and dtype of all.
    notes : list of str
        What is left out.
    files : list
        What tells all files from others.
    """

    paths: list[str]
    rows: int
    row_bytes: int
    facts: dict[str, Any]
    notes: list[str]
    files: list[FileIdentity]


def find_shards(path: str) -> Found:
    """Look at the headers of all files of a directory.

    Raises
    ------
    InputMissingError, InputError
        As for ``mlpipe run read``; and if there is no row in any.
    """
    if not os.path.lexists(path) and not has_magic(path):
        raise InputMissingError(f"{shown_name(path)}: no such file or directory; check the path")
    paths, labels = split_labels(expand([path]))
    with ShardsSource(paths) as source:
        spec, notes = source.spec, []
        full = [shard for shard in source.shards if shard.rows]
        files: list[FileIdentity] = [shard.fingerprint for shard in source.shards]
    if not full or not spec.row_bytes:
        raise InputError(f"{path}: no rows in any of its {len(paths)} files, so there is nothing to load")
    if labels:
        notes.append(f"{len(labels)} files of labels beside the rows are not read")
    shape = [spec.rows, *spec.row_shape]
    facts = {"path": path, "shape": shape, "dtype": spec.dtype.name, "files": len(paths)}
    return Found([shard.path for shard in full], int(spec.rows or 0), spec.row_bytes, facts, notes, files)


def compare_loading(
    found: Found, settings: Settings, said: dict[str, Any], ready: Callable[[str], object] = lambda label: None
) -> LoadingComparison:
    """Run all ways, one after the other.

    Parameters
    ----------
    found : Found
        What is loaded.
    settings : Settings
        How.
    said : dict
        What the record has as settings.
    ready : callable
        Told of each way that is done.

    Raises
    ------
    MlpipeError
        If two ways that loaded everything did not load the same.
    """
    if settings.cold and not hasattr(os, "posix_fadvise"):
        raise UsageError("--cold: this system cannot be asked to forget files; leave it out")
    clock, notes, results = Clock(), list(found.notes), []
    for name in settings.methods:
        results.append(_load(name, found, settings))
        ready(WAYS[name].label)
    _check(results, found.rows * settings.epochs)
    if settings.cold and not any(one["read_bytes"] for one in results):
        notes.append("--cold: nothing came from the disk, so the files are in memory (tmpfs) or could not be dropped")
    facts = clock.facts("loading", said, [found.facts], notes, ("torch", "grain"))
    size = {"rows": found.rows, "row_bytes": found.row_bytes, "bytes": found.rows * found.row_bytes}
    return {**facts, **size, "files": len(found.paths), "methods": results}  # type: ignore[typeddict-item]


def _load(name: str, found: Found, settings: Settings) -> Loading:
    """One way; where it had to compile kernels, a second time, as they are kept from then on."""
    way = WAYS[name]
    result = _empty(name, way)
    result["skipped"] = _why_not(way, found)
    if result["skipped"] is not None:
        return result
    shards = Shards(
        found.paths, found.rows, found.row_bytes, settings.batch, settings.buffer, settings.seed, settings.threads
    )
    request = {
        "method": name, "shards": asdict(shards), "epochs": settings.epochs, "budget": settings.budget,
        "cold": settings.cold,
    }  # fmt: skip
    answer = _ask(request, settings.budget + PATIENCE)
    compiled = answer.get("compiled", 0)
    if compiled:
        answer = {**_ask(request, settings.budget + PATIENCE), "compiled": compiled}
    result.update(answer)  # type: ignore[typeddict-item]
    if not result["complete"]:
        result["checksum"] = None  # of some of the rows
    if result["rows"] and result["seconds"]:
        result["rows_per_s"] = result["rows"] / result["seconds"]
    return result


def _why_not(way: Way, found: Found) -> str | None:
    """Why a way cannot be taken here."""
    if way.package is not None and installed(way.package) is None:
        return f"{way.package} is not installed; run: pip install {way.package}"
    free = available_bytes()
    need = 2 * found.rows * found.row_bytes
    if way.whole and free is not None and need > free:
        return f"takes {format_size(need)} while files are put together, and {format_size(free)} are free"
    return None


def _empty(name: str, way: Way) -> Loading:
    return {
        "method": name, "label": way.label, "order": way.order, "skipped": None, "failed": None, "complete": False,
        "rows": None, "seconds": None, "rows_per_s": None, "later_rows_per_s": None, "epochs_s": [],
        "first_batch_s": None, "import_s": None, "anonymous_peak": None, "anonymous_start": None, "read_bytes": None,
        "checksum": None, "compiled": None,
    }  # fmt: skip


def _ask(request: dict[str, Any], patience: float) -> dict[str, Any]:
    """What a process of its own answers, and its peak of memory; or why it failed."""
    late = threading.Event()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mlpipe.bench.child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=said, start_new_session=True, env=_environment(),
        )  # fmt: skip

        def end_it() -> None:
            late.set()
            _end(process)

        timer = threading.Timer(patience, end_it)
        timer.start()
        try:
            assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - for the type checker
            # It is waited for below, after the watch: numbers of processes are used again.
            with process.stdout, Watch(process.pid) as watch:
                with suppress(BrokenPipeError), process.stdin:
                    process.stdin.write(json.dumps(request).encode())
                out = process.stdout.read()
            process.wait()
        finally:
            timer.cancel()
            _end(process)
        said.seek(0)
        err = said.read().decode(errors="replace")
    if late.is_set():
        return {"failed": f"no answer after {patience:.0f} s"}
    if process.returncode:
        return {"failed": _why(process.returncode, err)}
    answer: dict[str, Any] = json.loads(out)
    return {**answer, "anonymous_peak": watch.peak}


def _environment() -> dict[str, str]:
    """Ours, in which this very mlpipe is found, and nothing in the working directory (``-P``) is taken for a module."""
    places = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*places, str(Path(__file__).parents[2])])}


def _why(code: int, err: str) -> str:
    """Why a process failed."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"ended by {name}" + (", out of memory perhaps" if name == "SIGKILL" else "")
    lines = [line for line in err.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit code {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children, which are a group of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)


def _check(results: Sequence[Loading], rows: int) -> None:
    """Raise MlpipeError unless all ways that came to the end loaded the same rows."""
    whole = [one for one in results if one["complete"]]
    for one in whole:
        if one["rows"] != rows:
            raise MlpipeError(f"{one['label']} loaded {one['rows']:,} rows, but there are {rows:,}")
        if one["checksum"] != whole[0]["checksum"]:
            raise MlpipeError(
                f"{one['label']} loaded other values than {whole[0]['label']}: checksum {one['checksum']}, "
                f"not {whole[0]['checksum']}"
            )
