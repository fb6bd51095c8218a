"""What the control groups this process lives in allow it: memory and processors, versions 1 and 2.

Limits bind at every level, so a group and all its ancestors are read, as far up as they are mounted here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_NO_LIMIT = 2**60  # version 1 writes "unlimited" as a huge number that depends on the page size


def memory_left(root: Path = Path("/")) -> int | None:
    """Bytes that may still be allocated before a memory limit is reached; None without a limit.

    Page cache of files is not counted as used: the kernel drops it before it refuses anything.

    Parameters
    ----------
    root : Path
        Where the file system starts; tests put a made-up one here.

    Examples
    --------
    >>> left = memory_left()
    >>> left is None or left >= 0
    True
    """
    left = [
        max(0, limit - used)
        for group in _groups("memory", root)
        for limit, used in (_memory_v2(group), _memory_v1(group))
        if limit is not None
    ]
    return min(left, default=None)


def processor_quota(root: Path = Path("/")) -> int | None:
    """Whole processors' worth of time this process may use, rounded up; None without a quota.

    Examples
    --------
    >>> quota = processor_quota()
    >>> quota is None or quota >= 1
    True
    """
    quotas = []
    for group in _groups("cpu", root):
        words = _read(group / "cpu.max").split() or [
            _read(group / "cpu.cfs_quota_us").strip(),
            _read(group / "cpu.cfs_period_us").strip(),
        ]
        quota, period = _number(words[0]), _number(words[-1])
        if quota and period:
            quotas.append(max(1, math.ceil(quota / period)))
    return min(quotas, default=None)


def _memory_v2(group: Path) -> tuple[int | None, int]:
    """Limit and use of a group; ``memory.high`` slows a process down to nothing, so it counts as a limit."""
    limits = [_number(_read(group / name)) for name in ("memory.max", "memory.high")]
    limit = min((limit for limit in limits if limit is not None), default=None)
    return limit, _used(group, "memory.current", "")


def _memory_v1(group: Path) -> tuple[int | None, int]:
    limit = _number(_read(group / "memory.limit_in_bytes"))
    if limit is not None and limit >= _NO_LIMIT:
        limit = None
    return limit, _used(group, "memory.usage_in_bytes", "total_")


def _used(group: Path, file: str, prefix: str) -> int:
    """Bytes charged to a group, without those of cached files."""
    used = _number(_read(group / file)) or 0
    stat = dict(line.split(maxsplit=1) for line in _read(group / "memory.stat").splitlines() if " " in line)
    cached = sum(_number(stat.get(f"{prefix}{kind}_file", "")) or 0 for kind in ("active", "inactive"))
    return max(0, used - cached)


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Directories of this process's groups, innermost first, of either version."""
    own: dict[str, str] = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        own |= dict.fromkeys(controllers.split(","), path)
    for name, mount_root, mount_point in _mounts(controller, root):
        top = root / mount_point.lstrip("/")
        group = PurePosixPath(own.get(name, mount_root))
        # In a container the path may be the host's, outside of what is mounted: then the mount is the group.
        inside = group.is_relative_to(mount_root) and ".." not in group.parts
        directory = top / group.relative_to(mount_root) if inside else top
        while directory != top:
            yield directory
            directory = directory.parent
        yield top


def _mounts(controller: str, root: Path) -> Iterator[tuple[str, str, str]]:
    """Mounted hierarchies that may hold the controller: name in ``/proc/self/cgroup``, root, mount point."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        mount, _, filesystem = line.partition(" - ")
        words, kind = mount.split(" "), filesystem.split(" ")
        if len(words) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2":
            yield "", _unescape(words[3]), _unescape(words[4])
        elif kind[0] == "cgroup" and controller in kind[2].split(","):
            yield controller, _unescape(words[3]), _unescape(words[4])


def _unescape(text: str) -> str:
    """Undo the octal escapes of mountinfo (space, tab, newline, backslash)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _number(text: str) -> int | None:
    """Read a decimal number; None for ``max``, ``-1`` and nothing."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _read(path: Path) -> str:
    """Read a small file; one that is missing or closed to us reads as nothing."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
