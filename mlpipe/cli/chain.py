"""Links of a chain from the command line or a config: both are parsed by the same small Typer app per verb."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

from mlpipe.declare import Parameter, parameters, summary
from mlpipe.errors import UsageError
from mlpipe.verbs import Entry, find

SEPARATORS = ("then", "+")


def split_links(words: Sequence[str]) -> list[list[str]]:
    """Words between ``then`` or ``+``.

    Raises
    ------
    UsageError
        For a link without words.

    Examples
    --------
    >>> split_links(["read", "X.npy", "then", "head", "+", "nothing"])
    [['read', 'X.npy'], ['head'], ['nothing']]
    """
    links: list[list[str]] = [[]]
    for word in words:
        if word in SEPARATORS:
            links.append([])
        else:
            links[-1].append(word)
    for place, link in enumerate(links, 1):
        if not link:
            raise UsageError(f"link {place} of the chain is empty; 'then' stands between two links, './then' is a file")
    return links


def parse_links(links: Sequence[Sequence[str]]) -> list[Any]:
    """Verbs of the links, each parsed with its own options."""
    return [parse_link(name, words) for name, *words in links]


def parse_link(name: str, words: Sequence[str]) -> Any:
    """One verb, from the words after its name.

    Raises
    ------
    UsageError
        For an unknown verb.
    typer.TyperException
        For what Typer refuses.
    typer.Exit
        After ``--help``.
    """
    entry = find(name)
    command = command_of(entry)
    with command.make_context(f"mlpipe run … {name}", list(words), help_option_names=["-h", "--help"]) as context:
        return command.invoke(context)


def command_of(entry: Entry) -> Any:
    """Typer command that makes an instance of a verb."""
    verb = entry.load()
    declared = parameters(verb)

    def build(**values: Any) -> Any:
        return verb(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    build.__signature__ = inspect.Signature([_typer_parameter(one) for one in declared])  # type: ignore[attr-defined]
    build.__annotations__ = {one.name: _typer_parameter(one).annotation for one in declared}
    build.__doc__ = f"{summary(verb)}\n\n{_rest(verb)}"
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(entry.name)(build)
    return get_command(single)


def _rest(verb: type) -> str:
    """What a verb's docstring says after its first line."""
    return "\n".join(inspect.cleandoc(verb.__doc__ or "").splitlines()[1:]).strip()


def _typer_parameter(one: Parameter) -> inspect.Parameter:
    """A declared parameter as Typer wants it."""
    default = inspect.Parameter.empty if one.required else one.default
    kind: Any = one.type
    parse = one.parse
    if one.many and one.positional:
        kind, default = list[kind], inspect.Parameter.empty if one.required else list(one.default)
    elif one.many:
        kind, parse = tuple, parse or _comma_separated(one)
    if one.optional:
        kind = kind | None
    given: Any
    if one.positional:
        given = typer.Argument(help=one.help, metavar=one.metavar, parser=parse)
    else:
        names = [one.flag, *([one.short] if one.short else [])]
        given = typer.Option(*names, help=one.help, metavar=one.metavar, parser=parse)
    return inspect.Parameter(
        one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, given]
    )  # fmt: skip


def _comma_separated(one: Parameter) -> Callable[[str], Any]:
    """A parser of values with commas between them."""

    def parse(text: Any) -> Any:
        if isinstance(text, tuple):  # Typer parses defaults, too
            return text
        try:
            return tuple(one.type(part) for part in str(text).split(","))
        except ValueError:
            wanted = {"int": "whole numbers", "float": "numbers"}.get(one.type.__name__, one.type.__name__)
            raise UsageError(f"{one.flag} {text}: give {wanted} with commas between them") from None

    return parse


def words_of(name: str, table: Mapping[str, Any], where: str) -> list[str]:
    """A link of a config as the words of a command line.

    Parameters
    ----------
    name : str
        The verb.
    table : mapping
        Its keys, as in the config.
    where : str
        What messages call the link.

    Raises
    ------
    UsageError
        For a key that the verb does not have, or a switch that is not true or false.
    """
    known = {one.key: one for one in parameters(find(name).load())}
    flags: list[str] = []
    values: list[str] = []
    for key, value in table.items():
        if key not in known:
            raise UsageError(f"{where}: {name} has no key {key!r}{nearest(key, known)}")
        one = known[key]
        if one.positional:
            values += [_text(part) for part in value] if isinstance(value, list) else [_text(value)]
        elif one.type is bool:
            if not isinstance(value, bool):
                raise UsageError(f"{where}: {key} = {value!r}: give true or false")
            flags += [one.flag] if value else []
        else:
            text = ",".join(map(_text, value)) if isinstance(value, list) else _text(value)
            flags.append(f"{one.flag}={text}")
    return [*flags, "--", *values] if values else flags


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def nearest(word: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """The end of a message about an unknown word.

    Examples
    --------
    >>> nearest("memroy", ["memory", "threads"]), nearest("x", ["memory"])
    ('; did you mean memory?', '; known are memory')
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
