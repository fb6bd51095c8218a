"""The machine and the software a run happened on."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

from mlpipe.measure.cgroup import processor_quota

_PACKAGES = ("numpy", "numba", "llvmlite")


def processors(root: Path = Path("/")) -> int:
    """Count the processors this process may use: its affinity, and the quota of its control groups rounded up.

    Parameters
    ----------
    root : Path
        Where ``/proc`` and ``/sys`` are looked for.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> processors() >= 1
    True
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = processor_quota(root)
    return max(1, allowed if quota is None else min(allowed, quota))


def cpu_model(root: Path = Path("/")) -> str | None:
    """Name of the processor, as the machine gives it; None when it does not.

    Examples
    --------
    >>> model = cpu_model()
    >>> model is None or len(model) > 0
    True
    """
    try:
        text = (root / "proc/cpuinfo").read_text(errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Model", "cpu model", "Processor"} and value.strip():
            return value.strip()
    return platform.processor() or None


def machine_memory() -> int | None:
    """Bytes of memory the machine has; None when it does not say.

    Examples
    --------
    >>> memory = machine_memory()
    >>> memory is None or memory > 0
    True
    """
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def process_age(root: Path = Path("/")) -> float | None:
    """Seconds since this process was started, to a hundredth or so; None where the system does not say.

    Examples
    --------
    >>> age = process_age()
    >>> age is None or age > 0
    True
    """
    try:
        began = int((root / "proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK"))
    except (AttributeError, OSError, ValueError, IndexError):
        return None


def host_facts() -> dict[str, str | int | None]:
    """Say where a run happens: for records and ``mlpipe doctor``.

    Returns
    -------
    dict
        ``system``, ``architecture``, ``cpu``, ``processors`` (of the machine), ``usable_processors`` (by this
        process) and ``memory`` in bytes. Nothing that names the machine or its user.

    Examples
    --------
    >>> sorted(host_facts())
    ['architecture', 'cpu', 'memory', 'processors', 'system', 'usable_processors']
    """
    return {
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "cpu": cpu_model(),
        "processors": os.cpu_count(),
        "usable_processors": processors(),
        "memory": machine_memory(),
    }


def versions() -> dict[str, str | None]:
    """Versions of mlpipe, Python and what the numbers depend on; None for what is not installed.

    Nothing is imported to find out.

    Examples
    --------
    >>> sorted(versions())
    ['llvmlite', 'mlpipe', 'numba', 'numpy', 'python']
    """
    from importlib.metadata import PackageNotFoundError, version

    from mlpipe import __version__

    found: dict[str, str | None] = {"mlpipe": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found
