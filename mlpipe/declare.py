"""How a verb is declared: one frozen dataclass that is at once its options, its TOML keys and its Python arguments.

A field made with `argument` is positional on the command line, one made with `option` a flag of the same name
with dashes. Nothing is imported here but the standard library, so that listing verbs costs nothing.
"""

from __future__ import annotations

import dataclasses
import difflib
import operator
import os
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass
from typing import Any

from mlpipe.errors import UsageError

_MARK = "mlpipe"

MOST = 2**64
"""Whole numbers stay below it, on either side of 0: a seed may have 64 bits, and nothing needs more."""


@dataclass(frozen=True, slots=True)
class _Given:
    """What a field says besides its name, type and default."""

    help: str
    positional: bool
    metavar: str | None
    parse: Callable[[str], Any] | None
    short: str | None
    repeat: bool = False


def argument(default: Any = MISSING, *, help: str, metavar: str | None = None) -> Any:  # noqa: A002
    """Declare a positional field; one of type ``tuple[str, ...]`` takes all that follow.

    Parameters
    ----------
    default : object
        Required when there is none.
    help : str
        One line.
    metavar : str, optional
        What the help calls the value.
    """
    return dataclasses.field(default=default, metadata={_MARK: _Given(help, True, metavar, None, None)})


def option(
    default: Any = MISSING,
    *,
    help: str,  # noqa: A002
    metavar: str | None = None,
    parse: Callable[[str], Any] | None = None,
    short: str | None = None,
    repeat: bool = False,
) -> Any:
    """Declare a field that is a flag; ``bool`` fields are switches, off by default.

    Parameters
    ----------
    default : object
        Required when there is none.
    help : str
        One line.
    metavar : str, optional
        What the help calls the value.
    parse : callable, optional
        Makes a value of the text on the command line or in a config; raises UsageError for what it is not.
    short : str, optional
        A one-letter form such as ``-m``.
    repeat : bool
        Of a field of many values: whether the flag may be given several times, with one or more values each.
    """
    return dataclasses.field(default=default, metadata={_MARK: _Given(help, False, metavar, parse, short, repeat)})


@dataclass(frozen=True, slots=True)
class Parameter:
    """One field of a verb, as the command line, configs and help need it.

    Parameters
    ----------
    name : str
        Of the field.
    type : object
        Of one value: ``int``, ``float``, ``str``, ``bool``, or a ``Literal``.
    many : bool
        Whether it takes any number of values.
    optional : bool
        Whether None is a value.
    default : object
        ``dataclasses.MISSING`` when required.
    help, positional, metavar, parse, short, repeat
        As declared.
    """

    name: str
    type: Any
    many: bool
    optional: bool
    default: Any
    help: str
    positional: bool
    metavar: str | None
    parse: Callable[[str], Any] | None
    short: str | None
    repeat: bool

    @property
    def flag(self) -> str:
        """The flag on the command line."""
        return "--" + self.name.rstrip("_").replace("_", "-")

    @property
    def key(self) -> str:
        """The key in a config."""
        return self.flag.removeprefix("--")

    @property
    def required(self) -> bool:
        """Whether it has to be given."""
        return self.default is MISSING


def parameters(verb: type) -> list[Parameter]:
    """Return the declared fields of a verb's dataclass, in order.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Head:
    ...     rows: int = option(help="How many.")
    >>> [(p.flag, p.type, p.required) for p in parameters(Head)]
    [('--rows', <class 'int'>, True)]
    """
    hints = typing.get_type_hints(verb)
    return [
        _parameter(field, hints[field.name], field.metadata[_MARK])
        for field in dataclasses.fields(verb)
        if _MARK in field.metadata
    ]


def _parameter(field: dataclasses.Field[Any], hint: Any, given: _Given) -> Parameter:
    optional, many = False, False
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        rest = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
        optional, hint = len(rest) < len(typing.get_args(hint)), rest[0]  # what else there is comes from a parser
    if typing.get_origin(hint) is tuple:
        many, hint = True, typing.get_args(hint)[0]
    return Parameter(
        field.name, hint, many, optional, field.default, given.help, given.positional, given.metavar, given.parse,
        given.short, given.repeat,
    )  # fmt: skip


def summary(verb: type) -> str:
    """First line of a verb's docstring."""
    return (verb.__doc__ or "").strip().splitlines()[0]


def given_values(verb: Any) -> dict[str, Any]:
    """Values of a verb that are not its defaults, by field name, in the order of the fields.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Head:
    ...     rows: int = option(10, help="How many.")
    >>> given_values(Head()), given_values(Head(3))
    ({}, {'rows': 3})
    """
    found = {one.name: (getattr(verb, one.name), one.default) for one in parameters(type(verb))}
    # By `repr`, for -0.0 is equal to 0.0.
    return {name: value for name, (value, default) in found.items() if repr(value) != repr(default)}


def value_of(one: Parameter, value: Any) -> Any:
    """What a field holds for a value from Python or from a config.

    Text is parsed where the field has a parser; arrays become tuples, and one value stands for an array of one.

    Raises
    ------
    UsageError
        For a value of another type.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Head:
    ...     rows: int = option(10, help="How many.")
    >>> [rows] = parameters(Head)
    >>> value_of(rows, 3)
    3
    >>> value_of(rows, "x")
    Traceback (most recent call last):
    mlpipe.errors.UsageError: rows = 'x': give a whole number
    """
    if value is None and one.optional:
        return None
    if one.parse is not None and isinstance(value, str):
        return one.parse(value)
    if not one.many:
        return _single(one, value)
    if hasattr(value, "tolist"):  # an array
        value = value.tolist()
    return tuple(_single(one, part) for part in (value if isinstance(value, list | tuple) else [value]))


def _single(one: Parameter, value: Any) -> Any:
    """One value of the parameter's type."""
    if getattr(value, "ndim", None) == 0:  # a NumPy scalar
        value = value.item()
    choices = typing.get_args(one.type) if typing.get_origin(one.type) is typing.Literal else ()
    if choices:
        if isinstance(value, str | int) and value in choices:
            return value
        raise UsageError(f"{one.key} = {shown(value)}{nearest(str(value)[:99], list(map(str, choices)))}")
    convert, wanted = _KINDS.get(one.type, (_tuples, ""))
    try:
        return convert(value)
    except (TypeError, ValueError, OverflowError):
        large = one.type is int and isinstance(value, int) and abs(value) >= MOST
        remedy = "too large; give a whole number of at most 64 bits" if large else f"give {wanted}"
        raise UsageError(f"{one.key} = {shown(value)}: {remedy}") from None


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not -MOST < (number := operator.index(value)) < MOST:
        raise TypeError
    return number


def _number(value: Any) -> float:
    if isinstance(value, bool | str):
        raise TypeError
    return float(value)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _text(value: Any) -> str:
    text = os.fspath(value)
    if not isinstance(text, str):
        raise TypeError
    return text


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


_KINDS: dict[Any, tuple[Callable[[Any], Any], str]] = {
    int: (_whole, "a whole number"),
    float: (_number, "a number"),
    bool: (_switch, "true or false"),
    str: (_text, "text"),
}


def shown(value: Any) -> str:
    """A value as messages show it, however long it is.

    Examples
    --------
    >>> shown("x"), shown(1 << 99999)
    ("'x'", 'a number of 100000 bits')
    """
    if isinstance(value, int) and abs(value) >= MOST:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word.

    Examples
    --------
    >>> nearest("memroy", ["memory", "threads"]), nearest("x", ["memory", "threads"])
    ('; did you mean memory?', '; known are memory, threads')
    """
    words = list(known)
    near = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(words)}" if words else "; it has none"
