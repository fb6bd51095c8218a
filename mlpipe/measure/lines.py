"""Where the time and the memory of the user's own functions go, line by line.

``mlpipe profile --lines`` tells the process it starts, through environment variables, to watch the functions that
``apply-python`` calls, and the others of the same file; what was found is written when the process ends.

Times are those of line_profiler. Memory (with ``--memory``) is the anonymous memory of the process, looked at before
and after each line; what a line takes and gives back within itself does not show. memory-profiler's own machinery for
lines is not used: it looks at the resident size, in which pages of files come and go; it takes the growth of a line
from the largest size ever seen at the line before, which is wrong from the second round of a loop on; and it keeps one
stack for all threads. The time that looking takes is measured and taken off those of the lines.

Calls from several threads are added up. Functions compiled by Numba have no lines any more.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import json
import linecache
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter_ns
from types import CodeType, FrameType, FunctionType
from typing import Any

from mlpipe.errors import UsageError
from mlpipe.measure.memory import process_rss
from mlpipe.measure.schema import FunctionFacts, SourceLineFacts

LINES_TO = "MLPIPE_LINES_TO"
"""The variable that names the file for the results; nothing is watched without it."""

LINES_MEMORY = "MLPIPE_LINES_MEMORY"
"""The variable that asks for memory, too, if it is not empty."""

_LOCK = threading.RLock()


def watched(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the user's, as it is to be called: watched if the environment asks for it, else itself.

    Examples
    --------
    >>> watched(len) is len
    True
    """
    path = os.environ.get(LINES_TO)
    return function if not path else _watch(path).wrap(function)


def not_watched(reason: str) -> None:
    """Say why a function is not watched, if anybody asks."""
    path = os.environ.get(LINES_TO)
    if path:
        _watch(path).reasons.append(reason)


def check_installed() -> str:
    """The version of line_profiler.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("line_profiler")
    except PackageNotFoundError:
        raise UsageError("--lines needs line_profiler; pip install 'mlpipe[lines]'") from None


@functools.lru_cache(maxsize=1)
def _watch(path: str) -> Watch:
    """The one watch of this process, which writes what it found when the process ends."""
    watch = Watch(memory=bool(os.environ.get(LINES_MEMORY)))
    atexit.register(watch.save, Path(path))
    return watch


class Watch:
    """Watches functions.

    Parameters
    ----------
    memory : bool
        Whether to look at the memory, too.
    """

    def __init__(self, *, memory: bool = False) -> None:
        import line_profiler

        self.reasons: list[str] = []
        self._profiler = line_profiler.LineProfiler(wrap_trace=True)  # so that memory can be looked at beside it
        self._functions: set[FunctionType] = set()
        self._codes: dict[CodeType, str] = {}
        self._wrapped: dict[int, tuple[Callable[..., Any], Callable[..., Any]]] = {}  # with what it wraps, for its id
        self._memory = _MemoryTracer(self._codes) if memory else None

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, so that its lines and those of the others of its file are watched while it is called."""
        with _LOCK:
            if id(function) not in self._wrapped:
                self._wrapped[id(function)] = self._wrap(function), function
            return self._wrapped[id(function)][0]

    def _wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        plain = inspect.unwrap(function)
        if not isinstance(function, FunctionType) or not isinstance(plain, FunctionType):
            self.reasons.append(
                f"{getattr(function, '__name__', type(function).__name__)} is compiled, or not made by def"
            )
            return function
        for one in _functions_beside(plain):
            if one not in self._functions:
                self._functions.add(one)
                self._profiler.add_function(one)  # which may give it another code
                self._codes[one.__code__] = one.__qualname__
        enter, leave, memory = self._profiler.enable_by_count, self._profiler.disable_by_count, self._memory

        @functools.wraps(function)
        def call(*arguments: Any) -> Any:
            with memory or contextlib.nullcontext():
                enter()
                try:
                    return function(*arguments)
                finally:
                    leave()

        return call

    def facts(self) -> list[FunctionFacts]:
        """What was found: functions that were called, by file and place."""
        timings = self._profiler.get_stats()
        times: dict[tuple[str, int], dict[int, tuple[int, float]]] = {}
        for (file, start, _name), lines in timings.timings.items():
            times[file, start] = {number: (hits, took * timings.unit) for number, hits, took in lines}
        found = []
        for code, name in sorted(self._codes.items(), key=lambda one: (one[0].co_filename, one[0].co_firstlineno)):
            seen = times.get((code.co_filename, code.co_firstlineno))
            if seen:
                looked = {} if self._memory is None else self._memory.lines.get(code, {})
                found.append(_function_facts(code, name, seen, looked))
        return found

    def save(self, path: Path) -> None:
        """Write what was found, as JSON."""
        with contextlib.suppress(OSError):  # whoever asked is gone
            path.write_text(json.dumps({"functions": self.facts(), "reasons": sorted(set(self.reasons))}))


def _functions_beside(function: FunctionType) -> Iterator[FunctionType]:
    """A function, and the others that its file defines, methods included."""
    yield function
    file = function.__code__.co_filename
    for value in list(function.__globals__.values()):
        members = list(vars(value).values()) if isinstance(value, type) else [value]
        for one in members:
            plain = inspect.unwrap(one) if callable(one) else getattr(one, "__func__", None)
            if isinstance(plain, FunctionType) and plain.__code__.co_filename == file:
                yield plain


class _Looked:
    """The memory of one line: the largest seen after it, how much it grew, and what looking at it took."""

    __slots__ = ("grown", "largest", "took_ns")

    def __init__(self) -> None:
        self.largest = self.grown = self.took_ns = 0


class _MemoryTracer:
    """Looks at the memory before and after each line of some functions; a context in each thread that calls them."""

    def __init__(self, codes: Mapping[CodeType, str]) -> None:
        self.lines: dict[CodeType, dict[int, _Looked]] = {}
        self._codes = codes
        self._thread = threading.local()

    def __enter__(self) -> None:
        self._thread.took = getattr(self._thread, "took", 0)
        self._thread.before = [*getattr(self._thread, "before", []), sys.gettrace()]
        sys.settrace(self._enter)

    def __exit__(self, *_error: object) -> None:
        sys.settrace(self._thread.before.pop())

    def _enter(self, frame: FrameType, event: str, _argument: object) -> Any:
        if event != "call" or frame.f_code not in self._codes:
            return None
        began = perf_counter_ns()
        line, memory, took = 0, 0, 0  # of the line that runs; before its first line a frame does nothing

        def look(frame: FrameType, event: str, _argument: object) -> Any:
            nonlocal line, memory, took
            if event not in ("line", "return"):
                return look
            began, now, thread = perf_counter_ns(), _anonymous(), self._thread
            if line:
                self._add(frame.f_code, line, now, now - memory, thread.took - took)
            line, memory, took = (frame.f_lineno if event == "line" else 0), now, thread.took
            thread.took += perf_counter_ns() - began
            return look

        self._thread.took += perf_counter_ns() - began
        return look

    def _add(self, code: CodeType, line: int, memory: int, grown: int, took_ns: int) -> None:
        with _LOCK:
            looked = self.lines.setdefault(code, {}).setdefault(line, _Looked())
            looked.largest = max(looked.largest, memory)
            looked.grown += grown
            looked.took_ns += took_ns


def _anonymous() -> int:
    """Anonymous memory of this process; its resident size where the system does not tell them apart.

    `statm` is read in 3 µs, `status` in 40.
    """
    descriptor = _statm()
    if descriptor is None:
        return process_rss(os.getpid()) or 0
    _, resident, shared, *_ = os.pread(descriptor, 128, 0).split()
    return (int(resident) - int(shared)) * _PAGE


_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@functools.lru_cache(maxsize=1)
def _statm() -> int | None:
    try:
        return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _function_facts(
    code: CodeType, name: str, seen: Mapping[int, tuple[int, float]], looked: Mapping[int, _Looked]
) -> FunctionFacts:
    """One function, with every line of its source."""
    file = code.co_filename
    relative = os.path.relpath(file)
    try:
        text, first = inspect.getsourcelines(code)
    except OSError:  # the file is gone
        text, first = [], code.co_firstlineno
    executable = {number for _, _, number in code.co_lines() if number is not None}
    numbers = sorted({*range(first, first + len(text)), *seen})
    lines: list[SourceLineFacts] = []
    for number in numbers:
        hits, took = seen.get(number, (0 if number in executable - {first} else None, None))
        line = looked.get(number)
        if took is not None and line is not None:
            took = max(0.0, took - line.took_ns / 1e9)
        lines.append({
            "number": number,
            "source": linecache.getline(file, number).rstrip("\n"),
            "hits": hits,
            "time_s": took,
            "memory": None if line is None else line.largest,
            "increment": None if line is None else line.grown,
        })  # fmt: skip
    return {"file": file if relative.startswith("..") else relative, "function": name, "lines": lines}
