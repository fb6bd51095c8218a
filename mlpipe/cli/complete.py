"""Shell completion inside a chain: verbs, then their options and choices, then the next ``then``."""

from __future__ import annotations

import typing
from typing import Any

import typer
from typer.core import TyperCommand

from mlpipe.cli.chain import SEPARATORS, command_of
from mlpipe.declare import parameters
from mlpipe.errors import MlpipeError
from mlpipe.registry import find, table
from mlpipe.verbs import Entry

Candidates = list[tuple[str, str]]
"""Words, each with a line of help."""


class ChainCommand(TyperCommand):
    """A command that leaves the options of a link to the link."""

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Options of the verb that is being written; before the first, those of the command."""
        place, words = _last_link(ctx)
        if place == 1 and not words:
            return super().shell_complete(ctx, incomplete)
        if not words:
            return []
        entry = _entry(words[0])
        if entry is None:
            return []
        command = command_of(entry)
        with command.make_context(entry.name, words[1:], resilient_parsing=True) as context:
            return command.shell_complete(context, incomplete)


def complete_link(ctx: typer.Context, incomplete: str) -> Candidates:
    """What may come next, where it is no option."""
    place, words = _last_link(ctx)
    if not words:
        wanted = ("source",) if place == 1 else ("stage", "sink")
        found = [(entry.name, entry.summary) for entry in table().values() if entry.kind in wanted]
    elif (entry := _entry(words[0])) is not None:
        found = _within(entry, words[1:])
    else:
        found = []
    return [(word, line) for word, line in found if word.startswith(incomplete)]


def _within(entry: Entry, words: list[str]) -> Candidates:
    """What may follow the words of a link; nothing stands for the names of files."""
    declared = parameters(entry.load())
    before = next((word for word in reversed(words) if word != "="), "")  # bash takes --norm=l1 apart
    option = next((one for one in declared if before in (one.flag, one.short) and one.type is not bool), None)
    if option is not None:
        choices = typing.get_args(option.type) if typing.get_origin(option.type) is typing.Literal else ()
        return [(str(choice), option.help) for choice in choices]
    with command_of(entry).make_context(entry.name, list(words), resilient_parsing=True) as context:
        missing = any(one.positional and not context.params.get(one.name) for one in declared)
    return [] if missing or entry.kind == "sink" else [(SEPARATORS[0], "the next link")]


def _last_link(ctx: typer.Context) -> tuple[int, list[str]]:
    """Number and words of the link that is being written."""
    words: list[str] = list(ctx.params.get("links") or [])
    breaks = [place for place, word in enumerate(words) if word in SEPARATORS]
    return len(breaks) + 1, words[breaks[-1] + 1 :] if breaks else words


def _entry(name: str) -> Entry | None:
    """The verb of a name, if there is one."""
    try:
        return find(name)
    except MlpipeError:
        return None
