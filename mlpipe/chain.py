"""Chains of verbs: built by name, opened, run, or iterated over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from mlpipe.declare import parameters
from mlpipe.engine.budget import plan as make_plan
from mlpipe.engine.local import iterate, run
from mlpipe.errors import UsageError
from mlpipe.link import Sink, Source, Stage
from mlpipe.measure.host import processors
from mlpipe.measure.memory import default_ceiling
from mlpipe.opening import Opening
from mlpipe.pipeline import Pipeline
from mlpipe.stages.rowwise import fuse
from mlpipe.verbs import find, name_of, table


@dataclass(frozen=True)
class Chain:
    """Verbs, one after the other; a new chain for every verb that is added.

    Every verb is a method: its positional arguments come first, then those of the table ``mlpipe verbs``, so
    ``mlpipe run read X.npy then head --rows 3`` is ``mlpipe.read("X.npy").head(rows=3)``. Iterating yields arrays
    (with labels: pairs of arrays), one for every block or, after ``batch``, batch; a verb that ends a chain, such
    as ``write``, runs it.

    Parameters
    ----------
    verbs : tuple
        Instances of the verbs' classes.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/X.npy", np.arange(10).reshape(5, 2))
    ...     for batch in read(f"{folder}/X.npy").head(rows=3).batch(2):
    ...         print(batch.tolist())
    [[0, 1], [2, 3]]
    [[4, 5]]
    """

    verbs: tuple[Any, ...]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """A method for every verb; dashes are written as underscores."""
        entry = table().get(name.replace("_", "-").removesuffix("-"))
        if entry is None or entry.kind == "source":
            raise AttributeError(f"a chain has no verb {name!r}; see 'mlpipe verbs'")

        def add(*values: Any, **options: Any) -> Any:
            chain = Chain((*self.verbs, make(entry.name, *values, **options)))
            if entry.kind == "sink":
                chain.run()
                return None
            return chain

        return add

    def __iter__(self) -> Iterator[Any]:
        with self.opened() as pipeline:
            for block in iterate(make_plan(pipeline, default_ceiling(), processors())):
                yield block.data if block.labels is None else (block.data, block.labels)

    def run(self, *, memory: int | None = None, threads: int | None = None, force: bool = False) -> None:
        """Carry the chain out; its last verb says where rows go.

        Parameters
        ----------
        memory : int, optional
            Ceiling on the memory of the whole process, in bytes.
        threads : int, optional
            Threads that compute; as many as there are processors for this process when not given.
        force : bool
            Whether outputs may replace what is there.
        """
        with self.opened(force=force) as pipeline:
            run(make_plan(pipeline, memory or default_ceiling(), threads or processors()))

    @contextmanager
    def opened(self, *, force: bool = False) -> Iterator[Pipeline]:
        """The chain with everything open, as something that can be planned; without a sink it gets one that counts."""
        check_order(self.verbs)
        with ExitStack() as files:
            yield assemble(self.verbs, Opening(files, force))


def make(name: str, *values: Any, **options: Any) -> Any:
    """Return an instance of a verb from Python arguments.

    Raises
    ------
    UsageError
        For a verb or an option that does not exist, with the nearest name.
    """
    kind = find(name).load()
    declared = parameters(kind)
    positional = [one for one in declared if one.positional] or declared
    many = positional[0].name if positional and positional[0].many and len(positional) == 1 else None
    if many and values:
        options[many] = tuple(_one(value) for value in _flat(values))
        values = ()
    names = [one.name for one in positional] + [one.name for one in declared if not one.positional]
    given = {**dict(zip(names, values, strict=False)), **options}
    unknown = [key for key in given if key not in names]
    if unknown or len(values) > len(names):
        raise UsageError(f"{name} has no {unknown[0] if unknown else 'so many arguments'}; it takes {', '.join(names)}")
    missing = [one.name for one in declared if one.required and one.name not in given]
    if missing:
        raise UsageError(f"{name} needs {missing[0]}")
    return kind(**given)


def _flat(values: Sequence[Any]) -> Sequence[Any]:
    """The values of one list, if that is what was given."""
    return values[0] if len(values) == 1 and isinstance(values[0], list | tuple) else values


def _one(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def read(*paths: str | os.PathLike[str], **options: Any) -> Chain:
    """Start a chain with the rows of ``.npy`` files; see ``mlpipe run read --help``."""
    return Chain((make("read", *paths, **options),))


def check_order(verbs: Sequence[Any]) -> None:
    """Raise UsageError unless a source comes first, and a sink last if at all."""
    kinds = [table()[name_of(verb)].kind for verb in verbs]
    for place, (verb, kind) in enumerate(zip(verbs, kinds, strict=True)):
        name = name_of(verb)
        if (place == 0) != (kind == "source"):
            wanted = "a chain begins with a source, such as read" if place == 0 else "only the first link is a source"
            raise UsageError(f"{name} cannot be link {place + 1}: {wanted}")
        if kind == "sink" and place < len(verbs) - 1:
            raise UsageError(
                f"{name} cannot be link {place + 1}: it ends a chain, but {name_of(verbs[place + 1])} follows"
            )


def assemble(verbs: Sequence[Any], opening: Opening) -> Pipeline:
    """Open verbs in a valid order.

    Stages that can show what they do as a source, right after one that can seek, become that source.
    """
    source: Source = verbs[0].open(opening)
    rest = list(verbs[1:])
    while rest and hasattr(rest[0], "view") and source.seekable:
        source = rest.pop(0).view(source)
    sink: Sink | None = None
    if rest and table()[name_of(rest[-1])].kind == "sink":
        sink = rest.pop().open(opening)
    stages: list[Stage] = [verb.open(opening) for verb in rest]
    return Pipeline(source, fuse(stages), sink or make("nothing").open(opening))
