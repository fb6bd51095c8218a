"""Functions from a user's own Python file, which is run to get at them."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import traceback
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpipe.declare import nearest
from mlpipe.errors import UsageError
from mlpipe.opening import Opening
from mlpipe.readers.files import Fingerprint, open_regular, shown_name

if TYPE_CHECKING:
    from mlpipe.kernels.compiled import Kind


@dataclass(frozen=True, slots=True)
class UserFunction:
    """A function of a user's file.

    Parameters
    ----------
    path : str
        The file, as messages show it.
    name : str
        Of the function.
    call : callable
        The function.
    """

    path: str
    name: str
    call: Callable[..., Any]

    @property
    def shown(self) -> str:
        """What messages call it."""
        return f"{self.path}:{self.name}"

    def kind(self) -> Kind:
        """What it is called for, from the annotation of its first parameter, or the decorator that compiled it.

        Raises
        ------
        UsageError
            If neither says it.
        """
        from mlpipe.kernels.compiled import declared_kind, is_compiled

        found = (declared_kind(self.call) if is_compiled(self.call) else None) or _annotated_kind(self.call)
        if found is None:
            raise UsageError(
                f"{self.shown}: called for what? annotate its first parameter, as in (x: float) or (row: np.ndarray), "
                "or give --kind scalar, row or batch"
            )
        return found

    def fills(self) -> bool:
        """Whether it takes a second argument, into which it puts the result.

        Raises
        ------
        UsageError
            If it takes none, or more than two.
        """
        try:
            declared = inspect.signature(getattr(self.call, "py_func", self.call)).parameters.values()
        except (TypeError, ValueError):  # made by vectorize, or of C
            return False
        places = [one for one in declared if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
        needed = [one for one in places if one.default is one.empty]
        if len(needed) > 2 or not places:
            raise UsageError(f"{self.shown}: takes {len(needed)} arguments; give it one, or a second one to fill")
        return len(needed) == 2

    def returns_number(self) -> bool:
        """Whether its annotation says that it returns one number."""
        return _kind_of(_annotations(self.call).get("return")) == "scalar"


def split_target(target: str) -> tuple[str, str]:
    """File and function of ``FILE.py:function``.

    Examples
    --------
    >>> split_target("clean.py:scale")
    ('clean.py', 'scale')
    """
    path, colon, name = target.rpartition(":")
    if not colon or not path or not name.isidentifier():
        raise UsageError(
            f"apply-python {shown_name(target)}: give a file and one of its functions, as FILE.py:function"
        )
    return path, name


def load_function(target: str, opening: Opening) -> UserFunction:
    """Run a Python file, unless that was done and it is the same still, and return one of its functions.

    Parameters
    ----------
    target : str
        ``FILE.py:function``.
    opening : Opening
        Of the chain: no output may replace the file.

    Raises
    ------
    InputMissingError
        If the file cannot be read.
    UsageError
        If it is no Python, raises an exception, or has no such function.
    """
    from mlpipe.kernels.compiled import is_compiled

    path, name = split_target(target)
    fd, fingerprint = open_regular(path)
    with os.fdopen(fd, "rb") as file:
        source = file.read()
    opening.inputs.append(fingerprint)
    shown = shown_name(path)
    place = Path(path).resolve()
    if place not in _LOADED or _LOADED[place][0] != fingerprint:
        _LOADED[place] = fingerprint, _run(place, source, shown)
    module = _LOADED[place][1]
    functions = [key for key, value in vars(module).items() if inspect.isfunction(value) or is_compiled(value)]
    found = getattr(module, name, None)
    if found is None:
        raise UsageError(f"{shown}: has no function {name!r}{nearest(name, functions)}")
    if not callable(found) or inspect.isclass(found):
        raise UsageError(f"{shown}: {name} is no function but {type(found).__name__}")
    return UserFunction(shown, name, found)


_LOADED: dict[Path, tuple[Fingerprint, types.ModuleType]] = {}
"""Files that were run: a chain is opened for every epoch, and what was compiled goes with the function."""


def _run(place: Path, source: bytes, shown: str) -> types.ModuleType:
    """The module that a file makes; it may import others beside it. Nothing is left behind there, as bytecode."""
    module = types.ModuleType(f"mlpipe_user_{place.stem}")
    module.__file__ = str(place)
    sys.modules[module.__name__] = module  # dataclasses look there
    try:
        code = compile(source, str(place), "exec", dont_inherit=True)  # this file has annotations as text
        with _beside(place.parent), contextlib.redirect_stdout(sys.stderr):  # stdout may be where rows go
            exec(code, vars(module))  # noqa: S102 - what the verb is for
    except SyntaxError as error:
        raise UsageError(f"{shown}:{error.lineno or 1}: is no Python: {error.msg}") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a user's file does
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(place)]
        line = f":{lines[-1]}" if lines else ""
        raise UsageError(f"{shown}{line}: cannot be imported: {described(error)}") from None
    return module


@contextlib.contextmanager
def _beside(directory: Path) -> Iterator[None]:
    """Let the files of a directory be imported."""
    sys.path.insert(0, str(directory))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(directory))


def described(error: BaseException) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _annotations(function: Any) -> dict[str, Any]:
    plain = getattr(function, "py_func", function)
    try:
        return inspect.get_annotations(plain, eval_str=True)
    except Exception:  # noqa: BLE001 - a name that is imported for type checkers alone, for example
        return {}


def _annotated_kind(function: Any) -> Kind | None:
    """What the annotation of the first parameter says."""
    try:
        first = next(iter(inspect.signature(getattr(function, "py_func", function)).parameters), "")
    except (TypeError, ValueError):
        return None
    return _kind_of(_annotations(function).get(first))


def _kind_of(annotation: Any) -> Kind | None:
    """A number means scalar, an array of two dimensions batch, any other array row."""
    from mlpipe.kernels.compiled import declared_kind

    if annotation is None:
        return None
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is np.ndarray:
        sizes = typing.get_args(arguments[0])
        return "batch" if len(sizes) > 1 and Ellipsis not in sizes else "row"
    if isinstance(annotation, type):
        if issubclass(annotation, np.ndarray):
            return "row"
        if issubclass(annotation, int | float | np.generic):
            return "scalar"
    return declared_kind(annotation)
