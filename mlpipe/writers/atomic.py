"""Files that appear whole or not at all: the only code that creates, syncs and renames files."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import secrets
import shutil
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from mlpipe.errors import OutputError
from mlpipe.link import Array
from mlpipe.writers.draft import Draft, failures, link, open_named, open_unnamed, sync_directory
from mlpipe.writers.lock import hold
from mlpipe.writers.target import FileIdentity, Target, check_new_directory, check_target

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}


class AtomicFile:
    """A file written in full before it appears under its name; a context manager.

    Leaving the context normally makes it appear, on disk for good (fsync); an exception discards it and
    leaves what was there. While it is written the file has no name (O_TMPFILE), so that even SIGKILL leaves
    nothing; only on file systems that cannot do that is it a hidden ``.mlpipe-….tmp`` in the directory of
    the output. Permissions follow the umask; a file that replaces another takes over its mode and, where
    allowed, its owner. A symbolic link is followed and stays a link: the file it points to is replaced.

    Parameters
    ----------
    path : str or path-like
        Where the file will appear.
    size : int or None
        Bytes it will have, for which room is made before the first is written; None when not known.
    force : bool
        Whether a file that is there may be replaced.
    inputs : sequence of FileIdentity
        What `os.stat` says of files that must not be replaced.
    hint : str
        What to do instead when there is no room.

    Raises
    ------
    OutputError
        On entering, for whatever `check` would refuse; later when the system refuses something.
    LockedError
        On entering, when another run is writing the same output.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = Path(directory, "greeting")
    ...     with AtomicFile(path, size=5) as file:
    ...         file.pwrite(b"hello", 0)
    ...         there = path.exists()
    ...     there, path.read_bytes()
    (False, b'hello')
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size: int | None,
        force: bool = False,
        inputs: Sequence[FileIdentity] = (),
        hint: str = "",
    ) -> None:
        self._target = Target.of(path)
        self._size, self._force, self._inputs, self._hint = size, force, inputs, hint
        # Short, for the output's own name may be as long as names can be.
        self._temporary = self._target.path.with_name(f".mlpipe-{secrets.token_hex(8)}.tmp")
        self._named = False
        self._draft: Draft | None = None
        self._lock: socket.socket | None = None

    def check(self) -> None:
        """Raise OutputError for what can be known to fail, changing nothing.

        The output exists and `force` was not given, is an input, is not a regular file; its directory does
        not exist or cannot be written; there is no room for its size.
        """
        with failures(self._target.name):
            check_target(self._target, self._size, force=self._force, inputs=self._inputs, hint=self._hint)

    def pwrite(self, data: bytes | Array, offset: int) -> None:
        """Write all of `data` at `offset`, as `Draft.pwrite` does."""
        if self._draft is None:
            raise ValueError(f"{self._target.name} is not open")
        self._draft.pwrite(data, offset)

    def sync(self) -> None:
        """Bring what was written to disk, which takes long; afterwards the file appears at once."""
        if self._draft is not None:
            self._draft.sync()

    def __enter__(self) -> Self:
        self.check()
        try:
            with failures(self._target.name):
                self._lock = hold(self._target.path, self._target.name)
                self.check()  # again: a run that held it may just have ended
                fd = open_unnamed(self._target.path.parent)
                self._named = fd is None
                self._draft = Draft(open_named(self._temporary) if fd is None else fd, self._target.name)
                self._take_over(self._draft)
                self._draft.make_room(self._size)
        except BaseException:
            self.discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.sync()
                self.appear()
        finally:
            self.discard()

    def appear(self) -> None:
        """Give the file its name, after `sync`."""
        with failures(self._target.name):
            if self._force:
                if not self._named:
                    self._link(self._temporary)
                self._temporary.replace(self._target.path)
            else:
                self._appear_as_new()
            sync_directory(self._target.path.parent)

    def take_back(self) -> None:
        """Remove the file that appeared, unless it replaced another."""
        if not self._force:
            with contextlib.suppress(OSError):
                self._target.path.unlink()

    def discard(self) -> None:
        """Close everything and remove the temporary name; harmless when repeated."""
        with contextlib.suppress(OSError):  # mostly it has no such name
            self._temporary.unlink()
        draft, self._draft = self._draft, None
        if draft is not None:
            draft.close()
        if self._lock is not None:
            self._lock.close()

    def _take_over(self, draft: Draft) -> None:
        """Give the new file the owner and mode of the one it replaces, where allowed."""
        old = self._target.status()
        if old is not None:
            with contextlib.suppress(PermissionError):
                os.fchown(draft.fd, old.st_uid, old.st_gid)
            with contextlib.suppress(PermissionError):
                os.fchmod(draft.fd, stat.S_IMODE(old.st_mode) & 0o777)

    def _appear_as_new(self) -> None:
        """Give the file its name unless that is taken by now."""
        try:
            self._link(self._target.path)
            return
        except FileExistsError:
            taken = True
        except OSError as error:
            if not self._named or error.errno not in _NO_LINKS:
                raise
            # A file system without hard links: only a look can tell whether the name is taken.
            taken = os.path.lexists(self._target.path)
        if taken:
            raise OutputError(f"{self._target.name}: appeared meanwhile and is kept; use --force to replace it")
        self._temporary.replace(self._target.path)

    def _link(self, name: Path) -> None:
        """Give the file a further name, its first if it has none."""
        if self._draft is not None:
            link(self._temporary if self._named else self._draft.unnamed_path, name)


class AtomicFiles:
    """Files that appear together: all of them or, when one cannot, none of those that are new.

    Parameters
    ----------
    files : sequence of AtomicFile
        Not yet entered.
    """

    def __init__(self, files: Sequence[AtomicFile]) -> None:
        self._files = files

    def check(self) -> None:
        """Raise OutputError for what can be known to fail, changing nothing."""
        for file in self._files:
            file.check()

    def sync(self) -> None:
        """Bring what was written to disk."""
        for file in self._files:
            file.sync()

    def __enter__(self) -> Self:
        try:
            for file in self._files:
                file.__enter__()
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.sync()
                self._appear()
        finally:
            self._discard()

    def _appear(self) -> None:
        there: list[AtomicFile] = []
        try:
            for file in self._files:
                file.appear()
                there.append(file)
        except BaseException:
            for file in there:
                file.take_back()
            raise

    def _discard(self) -> None:
        for file in self._files:
            file.discard()


class AtomicDirectory:
    """A directory of new files that appears whole or not at all; a context manager.

    Leaving the context normally makes it appear, on disk for good; an exception discards it. While they are written
    its files have no names, so that even SIGKILL leaves nothing; only where there are more of them than a process
    may well keep open, or the file system cannot do that, are they in a hidden ``.mlpipe-….tmp`` beside the output.
    What is there already is never replaced: a directory may hold more than one thinks of.

    Parameters
    ----------
    path : str or path-like
        Where it will appear; may end with a slash.
    size : int or None
        Bytes of all its files; None when not known.
    largest : int, optional
        Bytes of the largest of them.
    kept_open : int, optional
        Files that are kept open without a name; by default a quarter of what the system allows.

    Raises
    ------
    OutputError
        On entering, for whatever `check` would refuse; later when the system refuses something.
    LockedError
        On entering, when another run is writing the same output.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = Path(directory, "greetings")
    ...     with AtomicDirectory(path, size=5) as made:
    ...         [file] = made.create(("hello.txt", 5))
    ...         file.pwrite(b"hello", 0)
    ...         there = path.exists()
    ...     there, os.listdir(path)
    (False, ['hello.txt'])
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size: int | None,
        largest: int | None = None,
        kept_open: int | None = None,
    ) -> None:
        name = os.fsdecode(path)
        self._target, self._size, self._largest = Target.of(name.rstrip("/") or name), size, largest
        self._kept_open = kept_open or resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4
        self._hidden = self._target.path.with_name(f".mlpipe-{secrets.token_hex(8)}.tmp")
        self._drafts: dict[str, Draft] = {}
        self._made_hidden = False
        self._lock: socket.socket | None = None

    def check(self) -> None:
        """Raise OutputError for what can be known to fail, changing nothing."""
        with failures(self._target.name):
            check_new_directory(self._target, self._size, self._largest)

    def create(self, *files: tuple[str, int | None]) -> list[Draft]:
        """Start new files; they may be written to until further ones are started.

        Parameters
        ----------
        *files : tuple of str and (int or None)
            Name within the directory, and bytes, for which room is made.
        """
        if len(self._drafts) + len(files) > self._kept_open:
            self._settle()
        return [self._create(name, size) for name, size in files]

    def _create(self, name: str, size: int | None) -> Draft:
        shown = f"{self._target.name}/{name}"
        with failures(shown):
            fd = open_unnamed(self._target.path.parent)
            draft = self._drafts[name] = Draft(open_named(self._hide() / name) if fd is None else fd, shown)
            draft.make_room(size)
        return draft

    def sync(self) -> None:
        """Bring what was written to disk."""
        for draft in self._drafts.values():
            draft.sync()

    def __enter__(self) -> Self:
        self.check()
        try:
            with failures(self._target.name):
                self._lock = hold(self._target.path, self._target.name)
                self.check()  # again: a run that held it may just have ended
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with failures(self._target.name):
                    self._appear()
        finally:
            self._discard()

    def _hide(self) -> Path:
        """The hidden directory, made when first needed."""
        if not self._made_hidden:
            self._hidden.mkdir()
            self._made_hidden = True
        return self._hidden

    def _settle(self) -> None:
        """Bring all files to disk and into the hidden directory, and close them."""
        self.sync()
        for name, draft in self._drafts.items():
            if not (self._hide() / name).exists():
                link(draft.unnamed_path, self._hide() / name)
            draft.close()
        self._drafts.clear()

    def _appear(self) -> None:
        self._settle()
        sync_directory(self._hide())
        try:
            self._hidden.rename(self._target.path)  # fails for whatever is there, but for an empty directory
        except OSError as error:
            if not os.path.lexists(self._target.path):
                raise
            raise OutputError(f"{self._target.name}: appeared meanwhile and is kept; write to another one") from error
        self._made_hidden = False
        sync_directory(self._target.path.parent)

    def _discard(self) -> None:
        """Close everything and remove the hidden directory; harmless when repeated."""
        for draft in self._drafts.values():
            draft.close()
        self._drafts.clear()
        if self._made_hidden:
            shutil.rmtree(self._hidden, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
