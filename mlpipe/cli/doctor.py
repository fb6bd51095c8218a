"""``mlpipe doctor``: what this machine offers, and what of it mlpipe will use."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer

from mlpipe.cli import options
from mlpipe.cli.text import aligned, one_line

_LAYER_MODULES = {"tbb": "tbbpool", "omp": "omppool", "workqueue": "workqueue"}
_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class Finding:
    """What one probe found: a line for people, and the facts behind it for machines."""

    text: str
    facts: dict[str, Any]


def doctor(as_json: options.Json = False) -> None:
    """Versions, processors, vectors, kernel cache, CUDA and memory: what a run here would use.

    Nothing is compiled. What cannot be found out is said, with the reason.
    """
    findings = {name: examine(probe) for name, probe in PROBES.items()}
    if as_json:
        typer.echo(json.dumps({name: finding.facts for name, finding in findings.items()}, indent=2))
    else:
        typer.echo(aligned([(name, finding.text) for name, finding in findings.items()]))


def examine(probe: Callable[[], Finding]) -> Finding:
    """Carry out one probe; its failure is a finding too.

    Examples
    --------
    >>> examine(lambda: Finding(str(1 / 0), {})).text
    'not known: ZeroDivisionError: division by zero'
    """
    try:
        return probe()
    except Exception as error:  # noqa: BLE001 - a broken installation is what doctor is for
        reason = one_line(f"{type(error).__name__}: {error}")
        return Finding(f"not known: {reason}", {"error": reason})


def _versions() -> Finding:
    from mlpipe.measure.host import versions

    found = versions()
    return Finding(", ".join(f"{name} {version or 'missing'}" for name, version in found.items()), dict(found))


def _processors() -> Finding:
    from mlpipe.measure.host import host_facts

    facts: dict[str, Any] = host_facts()
    usable, present = facts["usable_processors"], facts["processors"]
    where = f"{facts['system']}, {facts['architecture']}"
    return Finding(f"{facts['cpu']}: {usable} of {present} usable by this process ({where})", facts)


def _threads() -> Finding:
    from mlpipe.measure.host import processors

    count, layer = processors(), _numba_threading_layer()
    text = f"{count} unless --threads says otherwise; mlpipe's own, not those of Numba (which would use {layer})"
    return Finding(text, {"default": count, "workers": "mlpipe", "numba_threading_layer": layer})


def _numba_threading_layer() -> str:
    """Threading layer a parallel Numba kernel would run on; mlpipe's kernels have none."""
    import numba

    settings: Any = numba.config
    if settings.THREADING_LAYER in _LAYER_MODULES:
        return str(settings.THREADING_LAYER)
    for layer in settings.THREADING_LAYER_PRIORITY:
        try:
            importlib.import_module(f"numba.np.ufunc.{_LAYER_MODULES[layer]}")
        except ImportError:
            continue
        return str(layer)
    return "none"


def _vectors() -> Finding:
    from mlpipe.kernels.simd import describe

    facts = describe()
    lanes = f"{facts['float32_lanes']} float32 or {facts['float64_lanes']} float64 at once"
    return Finding(f"{facts['name']}, {facts['bits']} bits: {lanes} ({facts['processor']})", facts)


def _cache() -> Finding:
    from mlpipe.kernels._jit import cache_state
    from mlpipe.measure.sizes import format_size

    facts = cache_state()
    if facts["directory"] is None:
        return Finding("nowhere to write: every run compiles; set MLPIPE_CACHE_DIR", facts)
    state = f"warm: {facts['entries']} kernels, {format_size(facts['bytes'])}"
    if not facts["warm"]:
        state = "cold: mlpipe warmup fills it" if facts["writable"] else "cold, and cannot be written"
    return Finding(f"{facts['directory']} (from {facts['source']}), {state}", facts)


def _cuda() -> Finding:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        reason = "no NVIDIA driver (libcuda.so.1 not found)"
        return Finding(f"not available: {reason}", {"available": False, "reason": reason})
    status, version, count = driver.cuInit(0), ctypes.c_int(), ctypes.c_int()
    status = status or driver.cuDriverGetVersion(ctypes.byref(version))
    status = status or driver.cuDeviceGetCount(ctypes.byref(count))
    if status:
        words = ctypes.c_char_p()
        driver.cuGetErrorString(status, ctypes.byref(words))
        reason = f"the NVIDIA driver answers: {(words.value or b'unknown error').decode()} ({status})"
        return Finding(f"not available: {reason}", {"available": False, "reason": reason})
    names = []
    for number in range(count.value):
        name = ctypes.create_string_buffer(_NAME_BYTES)
        driver.cuDeviceGetName(name, _NAME_BYTES, number)
        names.append(name.value.decode())
    supported = f"{version.value // 1000}.{version.value % 1000 // 10}"
    facts = {"available": True, "devices": names, "cuda": supported, "used": False}
    return Finding(f"{', '.join(names)} (CUDA {supported}), not used: this version computes on the processor", facts)


def _memory() -> Finding:
    from mlpipe.measure.memory import available_bytes, default_ceiling
    from mlpipe.measure.sizes import format_size

    ceiling, available = default_ceiling(), available_bytes()
    free = "an unknown amount" if available is None else format_size(available)
    text = f"{format_size(ceiling)} unless --memory says otherwise; {free} free for this process"
    return Finding(text, {"default_ceiling": ceiling, "available": available})


def _variables() -> Finding:
    facts = {name: value for name, value in sorted(os.environ.items()) if name.startswith("MLPIPE_")}
    return Finding(" ".join(f"{name}={one_line(value)}" for name, value in facts.items()) or "none set", dict(facts))


PROBES: dict[str, Callable[[], Finding]] = {
    "versions": _versions,
    "processors": _processors,
    "threads": _threads,
    "vectors": _vectors,
    "cache": _cache,
    "cuda": _cuda,
    "memory": _memory,
    "variables": _variables,
}
