"""Chains as TOML: a table ``[run]`` of flags, and one ``[[link]]`` for each verb."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlpipe.cli.chain import nearest, parse_link, words_of
from mlpipe.declare import given_values, parameters
from mlpipe.errors import InputMissingError, UsageError
from mlpipe.readers.files import shown_name
from mlpipe.verbs import name_of

RUN_KEYS = ("memory", "threads", "progress", "prefetch", "force")
"""Flags of `mlpipe run` that a config may hold."""


def load(path: Path) -> tuple[dict[str, Any], list[Any]]:
    """Flags and verbs of a config.

    Raises
    ------
    InputMissingError
        If it cannot be read.
    UsageError
        If it is no TOML, or holds what no verb has.
    """
    name = shown_name(path)
    try:
        text = path.read_bytes().decode()
        content = tomllib.loads(text)
    except OSError as error:
        raise InputMissingError(f"{name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name}: {error}") from None
    _check_keys(name, content, ("run", "link"))
    flags, links = content.get("run", {}), content.get("link", [])
    if not isinstance(flags, dict) or not isinstance(links, list) or not links:
        raise UsageError(f"{name}: a config has a table [run] and one [[link]] for each verb, from a source on")
    _check_keys(f"{name}: [run]", flags, RUN_KEYS)
    return flags, [_verb(link, f"{name}: link {place}") for place, link in enumerate(links, 1)]


def _check_keys(where: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            raise UsageError(f"{where}: no key {key!r}{nearest(key, known)}")


def _verb(link: Any, where: str) -> Any:
    if not isinstance(link, dict) or not isinstance(link.get("verb"), str):
        raise UsageError(f'{where}: needs a key verb, such as verb = "head"')
    rest = {key: value for key, value in link.items() if key != "verb"}
    return parse_link(link["verb"], words_of(link["verb"], rest, where))


def dump(verbs: Sequence[Any], flags: Mapping[str, Any]) -> str:
    """The config of a chain; `load` gives the same verbs back.

    Examples
    --------
    >>> from mlpipe.stages.head import Head
    >>> print(dump([Head(3)], {"threads": 2}))
    [run]
    threads = 2
    <BLANKLINE>
    [[link]]
    verb = "head"
    rows = 3
    <BLANKLINE>
    """
    import tomli_w

    tables = [tomli_w.dumps({"run": dict(flags)})] if flags else []
    tables += ["[[link]]\n" + tomli_w.dumps({"verb": name_of(verb), **_keys(verb)}) for verb in verbs]
    return "\n".join(tables)


def _keys(verb: Any) -> dict[str, Any]:
    keys = {one.name: one.key for one in parameters(type(verb))}
    return {
        keys[name]: list(value) if isinstance(value, tuple) else value
        for name, value in given_values(verb).items()
        if value is not None
    }
