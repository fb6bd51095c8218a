"""The one decorator that owns how kernels are compiled, and where compiled kernels are kept.

Policy: no GIL (`mlpipe.workers` runs kernels on plain threads; there is no parallel Numba target, so no
threading layer that can abort or deadlock after a fork), no fast-math (it would fold ``isnan`` and
reorder sums), no eager signatures.

Numba's own cache is not used: it watches the modification time of one file, so a kernel stays stale when
a function it inlines changes; a truncated file raises; and two processes that compile different kernels
at once can leave an index that names the wrong code. Here every kernel is one file named by a hash of all
that went into it, checked when read, and replaced atomically.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import platform
import re
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from llvmlite import binding
from numba.core.caching import CompileResultCacheImpl, _Cache
from numba.core.runtime import rtsys

from mlpipe.kernels.simd import host_width

CACHE_VARIABLE = "MLPIPE_CACHE_DIR"
_SUFFIX = ".kernel"
_DIGEST_BYTES = 32


@functools.cache
def _stamp() -> str:
    """Hash of everything that changes what a kernel compiles to, besides its signature."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    features = binding.get_host_cpu_features().flatten()
    width = host_width()
    for fact in (numba.__version__, llvmlite.__version__, platform.python_version(), features, str(width)):
        digest.update(fact.encode())
    return digest.hexdigest()[:16]


def _private(directory: Path) -> bool:
    """Whether only this user can have written there: compiled code is loaded from it."""
    try:
        facts = directory.stat()
    except OSError:
        return False
    return facts.st_uid == os.getuid() and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _candidates() -> list[tuple[str, Path]]:
    """Where the cache may be, best first, each with the reason."""
    wanted = os.environ.get(CACHE_VARIABLE)
    if wanted:
        return [(CACHE_VARIABLE, Path(wanted))]
    places = []
    if os.environ.get("XDG_CACHE_HOME"):
        places.append(("XDG_CACHE_HOME", Path(os.environ["XDG_CACHE_HOME"]) / "mlpipe"))
    if os.environ.get("HOME") != "":  # which would be the root directory
        with contextlib.suppress(RuntimeError):
            places.append(("home", Path.home() / ".cache" / "mlpipe"))
    places.append(("temporary", Path(tempfile.gettempdir()) / f"mlpipe-{os.getuid()}"))
    return places


@functools.cache
def cache_directory() -> tuple[str, Path] | None:
    """Why and where compiled kernels of this version, on this processor, are kept; None for nowhere.

    ``MLPIPE_CACHE_DIR``, else ``XDG_CACHE_HOME/mlpipe``, else ``~/.cache/mlpipe``, else a private directory
    among the temporary files. A directory that others can write to is passed over, unless it was named.
    """
    name = f"{re.sub(r'[^A-Za-z0-9]+', '-', binding.get_host_cpu_name())}-{host_width().bits}-{_stamp()}"
    for why, base in _candidates():
        directory = base / name
        with contextlib.suppress(OSError):
            base.mkdir(mode=0o700, parents=True, exist_ok=True)  # `parents` are made as the umask has it
            directory.mkdir(mode=0o700, exist_ok=True)
        if directory.is_dir() and (why == CACHE_VARIABLE or (_private(base) and _private(directory))):
            return why, directory
    return None


def cache_state() -> dict[str, Any]:
    """What `mlpipe doctor` shows of the cache: directory, why there, entries, bytes, warm or not.

    Examples
    --------
    >>> sorted(cache_state())
    ['bytes', 'directory', 'entries', 'source', 'warm', 'writable']
    """
    found = cache_directory()
    if found is None:
        return {"directory": None, "source": None, "warm": False, "entries": 0, "bytes": 0, "writable": False}
    why, directory = found
    sizes = [file.stat().st_size for file in directory.glob(f"*{_SUFFIX}")]
    return {
        "directory": str(directory),
        "source": why,
        "warm": bool(sizes),
        "entries": len(sizes),
        "bytes": sum(sizes),
        "writable": os.access(directory, os.W_OK),
    }


def _digest(file: Path, payload: bytes) -> bytes:
    """What a kernel's file begins with: no other content, and none under another name, has the same."""
    return hashlib.sha256(f"{file.parent.name}/{file.name}/".encode() + payload).digest()


class _KernelCache(_Cache):  # type: ignore[misc]
    """One file per kernel and signature; what cannot be read is removed and compiled again."""

    def __init__(self, function: Callable[..., Any], text: str = "") -> None:
        self._function, self._text = function, text
        self._enabled = True

    @property
    def cache_path(self) -> str:
        found = cache_directory()
        return str(found[1]) if found else ""

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def flush(self) -> None:
        found = cache_directory()
        for file in found[1].glob(f"{self._function.__name__}-*{_SUFFIX}") if found else ():
            file.unlink(missing_ok=True)

    def _file(self, signature: Any) -> Path | None:
        found = cache_directory()
        if not self._enabled or found is None:
            return None
        name = self._function.__name__
        key = hashlib.sha256(f"{self._function.__module__}.{name}{signature}{self._text}".encode()).hexdigest()[:24]
        return found[1] / f"{name}-{key}{_SUFFIX}"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The kernel compiled earlier for this signature, or None."""
        file = self._file(sig)
        if file is None:
            return None
        try:
            content = file.read_bytes()
        except OSError:
            return None
        # Not `target_context.refresh()`, as Numba does: it imports everything that compiling may need (0.3 s of a
        # warm start, SciPy included where installed); a kernel that is only loaded needs the runtime.
        rtsys.initialize(target_context)
        try:
            digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
            if _digest(file, payload) != digest:
                raise ValueError("truncated, overwritten or another kernel's")
            return numba.core.compiler.CompileResult._rebuild(target_context, *pickle.loads(payload))
        except Exception:  # whatever is wrong with it, compiling again is right
            with contextlib.suppress(OSError):
                file.unlink()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel; a cache that cannot be written costs time, never the run."""
        file = self._file(sig)
        if file is None or not CompileResultCacheImpl.check_cachable(self, data):
            return
        payload = pickle.dumps(data._reduce(), protocol=pickle.HIGHEST_PROTOCOL)
        with contextlib.suppress(OSError):
            descriptor, temporary = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(_digest(file, payload) + payload)
                Path(temporary).replace(file)
            except BaseException:
                Path(temporary).unlink()
                raise


def kernel(function: Callable[..., Any], text: str = "") -> Any:
    """Compile a function of arrays on first use, without the GIL, and keep the result on disk.

    `text` is the source of a function that is not in a file of this package: its name does not say what it does.
    """
    dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
    dispatcher._cache = _KernelCache(function, text)
    return dispatcher
