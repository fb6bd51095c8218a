"""What every comparison says of itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mlpipe.measure.comparison import SCHEMA_VERSION, Comparison
from mlpipe.measure.host import host_facts, versions


class Clock:
    """When a comparison began, and for how long it has run."""

    def __init__(self) -> None:
        self.started = datetime.now().astimezone().isoformat(timespec="milliseconds")
        self._began = time.perf_counter()

    def facts(
        self, bench: str, settings: dict[str, Any], inputs: list[dict[str, Any]], notes: list[str],
        packages: Sequence[str] = (),
    ) -> Comparison:  # fmt: skip
        """What is said of the run, the machine and the versions; `packages` are the ones compared with."""
        return {
            "schema_version": SCHEMA_VERSION,
            "bench": bench,
            "started": self.started,
            "wall_s": round(time.perf_counter() - self._began, 6),
            "versions": {**versions(), **{name: installed(name) for name in packages}},
            "host": dict(host_facts()),
            "settings": settings,
            "inputs": inputs,
            "notes": notes,
        }


def installed(package: str) -> str | None:
    """Version of a package; None if it is not installed.

    Examples
    --------
    >>> installed("numpy") is None, installed("no-such-package") is None
    (False, True)
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return None
