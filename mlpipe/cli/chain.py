"""Links of a chain on the command line: each is parsed by a small Typer app made from its verb's declaration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from mlpipe.declare import Parameter, nearest, parameters, summary
from mlpipe.errors import UsageError, at_link
from mlpipe.registry import find, make
from mlpipe.verbs import Entry

SEPARATORS = ("then", "+")
HELP = ("-h", "--help")


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
            raise UsageError(
                f"link {place} is empty: 'then' stands between two links; a file of that name is written ./then"
            )
    return links


def parse_links(links: Sequence[Sequence[str]], flags: Sequence[str] = ()) -> list[Any]:
    """Verbs of the links, each parsed with its own options; one that is asked for help gives it first.

    Parameters
    ----------
    links : sequence of sequence of str
        From `split_links`.
    flags : sequence of str
        Those of the run, which somebody may have put behind the links.
    """
    numbered = list(enumerate(links, 1))
    for place, words in numbered:
        if any(word in HELP for word in words[: words.index("--") if "--" in words else None]):
            parse_link(place, words, flags)
    return [parse_link(place, words, flags) for place, words in numbered]


def parse_link(place: int, words: Sequence[str], flags: Sequence[str] = ()) -> Any:
    """One verb, from its words.

    Raises
    ------
    UsageError
        For whatever is wrong; the message names the link.
    typer.Exit
        After ``--help``.
    """
    name, *rest = words
    try:
        entry = find(name)
    except UsageError as error:
        is_file = place == 1 and Path(name).exists()
        advice = f"{name!r} is a file; begin with: read {name}" if is_file else error
        raise UsageError(f"link {place}: {advice}") from None
    where = f"link {place} ({name})"
    try:
        command = command_of(entry)
        with (
            at_link(where, name),
            command.make_context(f"mlpipe run … {name}", rest, help_option_names=list(HELP)) as context,
        ):
            return context.command.invoke(context)
    except typer.TyperException as error:
        raise UsageError(f"{where}: {_reason(error, entry, flags)}") from None


def _reason(error: typer.TyperException, entry: Entry, flags: Sequence[str]) -> str:
    """What Typer says of a link's words, and what to do."""
    option = getattr(error, "option_name", None)
    if type(error).__name__ != "NoSuchOption" or option is None:
        return f"{error.format_message()} (see 'mlpipe run {entry.name} --help')"
    if option in flags:
        return f"{option} belongs to the run; give it before the first link"
    return f"no option {option}{nearest(option, [one.flag for one in parameters(entry.load()) if not one.positional])}"


def command_of(entry: Entry) -> Any:
    """Typer command that makes an instance of a verb."""
    verb = entry.load()
    declared = [typer_parameter(one) for one in parameters(verb)]

    def build(**values: Any) -> Any:
        return make(entry.name, **joined(verb, values))

    build.__signature__ = inspect.Signature(declared)  # type: ignore[attr-defined]
    build.__annotations__ = {one.name: one.annotation for one in declared}
    build.__doc__ = f"{summary(verb)}\n\n{_rest(verb)}"
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(entry.name)(build)
    return get_command(single)


def _rest(verb: type) -> str:
    """What a verb's docstring says after its first line, up to the sections for Python."""
    text = "\n".join(inspect.cleandoc(verb.__doc__ or "").splitlines()[1:])
    text, _, example = text.partition("\nParameters\n---")[0].partition("\nExample:")
    # After \b a line is not folded, so that it can be copied.
    return f"{text.strip()}\n\n\b\nExample: {' '.join(example.split())}" if example else text.strip()


def joined(verb: type, values: dict[str, Any]) -> dict[str, Any]:
    """What Typer made of a verb's options; flags that were given several times have all their values."""
    repeated = [one.name for one in parameters(verb) if one.repeat]
    return {**values, **{name: tuple(chain.from_iterable(values[name] or ())) for name in repeated}}


def typer_parameter(one: Parameter) -> inspect.Parameter:
    """A declared parameter as Typer wants it."""
    default = inspect.Parameter.empty if one.required else one.default
    kind: Any = one.type
    parse, metavar = one.parse and _of_text(one.parse), one.metavar
    if one.many and one.positional:
        metavar = metavar and metavar.rstrip("…")  # Typer adds its own
        kind, default = list[kind], inspect.Parameter.empty if one.required else list(one.default or ())
    elif one.many:
        kind, parse, metavar = tuple, parse or _of_text(_comma_separated(one)), metavar or "A,B,…"
        if one.repeat:
            kind, default = list[str], []
    if parse is None and one.type in (int, float):
        parse, metavar = _of_text(_typed(one)), metavar or "N"
    if one.optional:
        kind = kind | None
    given: Any
    if one.positional:
        given = typer.Argument(help=one.help, metavar=metavar, parser=parse)
    else:
        names = [one.flag, *([one.short] if one.short else [])]
        given = typer.Option(*names, help=one.help, metavar=metavar, parser=parse, show_default=_default(one))
    return inspect.Parameter(
        one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, given]
    )  # fmt: skip


def _default(one: Parameter) -> bool | str:
    """How the help shows a default: as it would be typed."""
    if one.type is bool or one.required or one.default in (None, ()):
        return False
    return ",".join(map(str, one.default)) if isinstance(one.default, tuple) else True


def _of_text(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    """The same parser, but for defaults, which Typer parses, too."""
    return lambda value: parse(value) if isinstance(value, str) else value


def _typed(one: Parameter) -> Callable[[str], Any]:
    """A parser of one number."""
    name = one.flag if not one.positional else one.metavar or one.key

    def parse(text: str) -> Any:
        try:
            return one.type(text)
        except ValueError:
            raise UsageError(f"{name} {text}: give {'a whole number' if one.type is int else 'a number'}") from None

    return parse


def _comma_separated(one: Parameter) -> Callable[[str], Any]:
    """A parser of values with commas between them."""

    def parse(text: str) -> Any:
        try:
            return tuple(one.type(part.strip()) for part in text.split(",")) if text else ()
        except ValueError:
            wanted = {int: "whole numbers", float: "numbers"}.get(one.type, "values")
            raise UsageError(f"{one.flag} {text}: give {wanted} with commas between them") from None

    return parse
