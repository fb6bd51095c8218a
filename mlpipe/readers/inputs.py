"""What commands read that take any number of files: as one source, in the smallest dtype that is exact for all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack

from mlpipe.errors import InputError, UsageError
from mlpipe.link import Source
from mlpipe.opening import Opening, labels_path
from mlpipe.readers.files import shown_name
from mlpipe.readers.labels import PairedSource
from mlpipe.readers.paths import expand, split_labels
from mlpipe.readers.shards import open_common
from mlpipe.readers.stdin import StdinSource
from mlpipe.readers.strings import holds_text


def open_inputs(paths: Sequence[str], opening: Opening, *, labelled: bool = False, text: bool = False) -> Source:
    """Open files, directories, patterns, or ``-`` for stdin; only headers are read.

    Parameters
    ----------
    paths : sequence of str
        As the user gave them; none stands for stdin, unless that is a terminal.
    opening : Opening
        Told of the files.
    labelled : bool
        Whether rows carry along the labels that lie beside their files; else such files are left out.
    text : bool
        Whether files of strings are taken, too; not along with files of numbers.

    Raises
    ------
    UsageError
        If there is nothing to read.
    InputMissingError, InputError
        As for `mlpipe.readers.shards.open_common`, and if labels are missing.
    """
    if not paths and os.isatty(0):
        raise UsageError("nothing to read: name files, or redirect a .npy file to standard input")
    if not paths or list(paths) == ["-"]:
        if labelled:
            raise UsageError("--by labels: an array from standard input carries none; name a file of labels")
        stdin = opening.files.enter_context(StdinSource(text=text))
        opening.inputs.append(stdin.fingerprint)
        return stdin
    if "-" in paths:
        raise UsageError("-: standard input is one array; give no other files beside it")
    rows, _ = split_labels(expand(paths))
    with ExitStack() as files:
        source: Source = _opened(rows, opening, files) if text else open_common(rows, opening, files)
        if labelled:
            source = PairedSource(source, open_common([str(labels_path(path)) for path in rows], opening, files))
        opening.files.push(files.pop_all())
    return source


def _opened(paths: Sequence[str], opening: Opening, files: ExitStack) -> Source:
    """Files of numbers, or of strings; the first one says which."""
    try:
        return open_common(paths, opening, files, text=holds_text(paths[0]))
    except InputError:  # maybe since the others are of the other kind: then this says more
        kinds = [holds_text(path) for path in paths]
        if len(set(kinds)) > 1:
            words, numbers = (shown_name(paths[kinds.index(kind)]) for kind in (True, False))
            raise InputError(f"{words}: strings, but {numbers} holds numbers; count them one by one") from None
        raise
