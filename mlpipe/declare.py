"""How a verb is declared: one frozen dataclass that is at once its options, its TOML keys and its Python arguments.

A field made with `argument` is positional on the command line, one made with `option` a flag of the same name
with dashes. Nothing is imported here but the standard library, so that listing verbs costs nothing.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from typing import Any

_MARK = "mlpipe"


@dataclass(frozen=True, slots=True)
class _Given:
    """What a field says besides its name, type and default."""

    help: str
    positional: bool
    metavar: str | None
    parse: Callable[[str], Any] | None
    short: str | None


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
    """
    return dataclasses.field(default=default, metadata={_MARK: _Given(help, False, metavar, parse, short)})


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
    help, positional, metavar, parse, short
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
        optional, hint = len(rest) < len(typing.get_args(hint)), rest[0] if len(rest) == 1 else str
    if typing.get_origin(hint) is tuple:
        many, hint = True, typing.get_args(hint)[0]
    return Parameter(
        field.name, hint, many, optional, field.default, given.help, given.positional, given.metavar, given.parse,
        given.short,
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
    found = {parameter.name: getattr(verb, parameter.name) for parameter in parameters(type(verb))}
    defaults = {parameter.name: parameter.default for parameter in parameters(type(verb))}
    return {name: value for name, value in found.items() if defaults[name] is MISSING or value != defaults[name]}
