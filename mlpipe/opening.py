"""What verbs are given when they open what they name."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class FileIdentity(Protocol):
    """What tells files apart: `os.stat_result` has it, and so has a fingerprint."""

    @property
    def st_dev(self) -> int:
        """Device."""

    @property
    def st_ino(self) -> int:
        """Inode."""


@dataclass(slots=True)
class Opening:
    """One chain being opened.

    Parameters
    ----------
    files : ExitStack
        Closes what was opened.
    force : bool
        Whether outputs may replace what is there.
    inputs : list
        Files that are read, which no output may replace; readers add theirs. Sinks keep the list itself,
        so that what is opened later counts too.
    """

    files: ExitStack
    force: bool = False
    inputs: list[FileIdentity] = field(default_factory=list)


def labels_path(path: str | os.PathLike[str]) -> Path:
    """Where the labels are of the rows in a file: beside it.

    Examples
    --------
    >>> labels_path("out/shard-00000.npy").name
    'shard-00000-labels.npy'
    """
    path = Path(path)
    return path.with_name(f"{path.stem}-labels{path.suffix}")
