"""What verbs are given when they open what they name."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mlpipe.errors import UsageError


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
    outputs : dict
        What each file will be that is written, by its path without symbolic links.
    place : str or None
        Directory in which the output of the chain will appear, if it has one.

    Examples
    --------
    >>> opening = Opening(ExitStack())
    >>> opening.writes("out/X.npy", "tee")
    >>> opening.ends("out/Y.npy", "write")
    >>> opening.temporary
    'out'
    >>> opening.writes("out/../out/X.npy", "--report")
    Traceback (most recent call last):
    mlpipe.errors.UsageError: both tee and --report name out/../out/X.npy; give them different files
    """

    files: ExitStack
    force: bool = False
    inputs: list[FileIdentity] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    place: str | None = None

    @property
    def temporary(self) -> str:
        """Where temporary files go, unless somebody says otherwise."""
        return self.place or "."

    def writes(self, path: str | os.PathLike[str], what: str) -> None:
        """Say that a file will be written, and what it is; raise UsageError if it is another one already."""
        place = os.path.realpath(path)
        if place in self.outputs:
            raise UsageError(f"both {self.outputs[place]} and {what} name {path}; give them different files")
        self.outputs[place] = what

    def ends(self, path: str | os.PathLike[str], what: str) -> None:
        """Say that the chain ends in a file or directory, as `writes`; temporary files go beside it."""
        self.writes(path, what)
        self.place = str((Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)).parent)


def labels_path(path: str | os.PathLike[str]) -> Path:
    """Where the labels are of the rows in a file: beside it.

    Examples
    --------
    >>> labels_path("out/shard-00000.npy").name
    'shard-00000-labels.npy'
    """
    path = Path(path)
    return path.with_name(f"{path.stem}-labels{path.suffix}")
