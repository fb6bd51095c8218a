"""Chains of verbs: built by name, opened, run, iterated over, kept as configs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from mlpipe import config
from mlpipe.declare import given_values, nearest, parameters
from mlpipe.engine.budget import Plan
from mlpipe.engine.budget import plan as make_plan
from mlpipe.engine.fit import fitted
from mlpipe.engine.local import iterate, run
from mlpipe.errors import UsageError, at_link
from mlpipe.link import Sink, Source, Stage
from mlpipe.measure.host import processors
from mlpipe.measure.memory import anonymous_bytes, default_ceiling
from mlpipe.measure.sizes import parse_size
from mlpipe.opening import Opening
from mlpipe.pipeline import Pipeline, link_name
from mlpipe.registry import entry_of, make, name_of, table
from mlpipe.stages.batch import Batch
from mlpipe.stages.repeat import Repeat
from mlpipe.stages.rowwise import RowWise
from mlpipe.verbs import Entry
from mlpipe.writers.nothing import NothingSink


@dataclass(frozen=True, repr=False)
class Chain:
    """Verbs, one after the other; a new chain for every verb that is added.

    Every verb is a method: its positional arguments come first, then its options, so
    ``mlpipe run read X.npy then head --rows 3`` is ``mlpipe.read("X.npy").head(rows=3)``. Iterating yields arrays
    (with labels: pairs of arrays), one for every block or, after ``batch``, batch; it can be repeated, and be stopped
    at any time. A verb that ends a chain, such as ``write``, runs it, and takes the arguments of `run`, too.

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
    >>> read("X.npy").head(rows=3)
    mlpipe.read('X.npy').head(rows=3)
    """

    verbs: tuple[Any, ...]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Chain:
        """Take a chain from a config; what it says under ``[run]`` is for the command line alone."""
        return cls(config.load(path).verbs)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the chain as a config, for `load` and ``mlpipe run --config``."""
        file, content = config.config_file(path, self.verbs, force=force)
        with file:
            file.pwrite(content, 0)

    def __repr__(self) -> str:
        """As one would write it."""
        return "mlpipe" + "".join(f".{_call(verb)}" for verb in self.verbs)

    def __dir__(self) -> list[str]:
        """Name the verbs, too."""
        return [*super().__dir__(), *(_method(entry) for entry in table().values() if entry.kind != "source")]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """A method for every verb; dashes are written as underscores."""
        methods = {} if name.startswith("__") else {_method(one): one for one in table().values()}
        entry = methods.get(name)
        if entry is None:
            raise AttributeError(f"a chain has no verb {name!r}{nearest(name, methods)}")
        if entry.kind == "source":
            raise AttributeError(f"{name} is a source, with which a chain begins: mlpipe.{name}(…)")

        def add(*values: Any, **options: Any) -> Any:
            how = _taken(entry, options) if entry.kind == "sink" else {}
            chain = Chain((*self.verbs, make(entry.name, *values, **options)))
            return chain.run(**how) if entry.kind == "sink" else chain

        add.__name__, add.__doc__ = name, entry.load().__doc__
        return add

    def __iter__(self) -> Iterator[Any]:
        return self.batches()

    def batches(self, *, memory: int | str | None = None, threads: int | None = None) -> Iterator[Any]:
        """Iterate, with the arguments of `run`."""
        if self.verbs and entry_of(self.verbs[-1]).kind == "sink":
            raise UsageError(f"{self!r} ends with a sink; run it, or iterate over the chain before its last verb")
        return self._batches(memory, threads)

    def _batches(self, memory: int | str | None, threads: int | None) -> Iterator[Any]:
        with self.opened() as pipeline:
            for block in iterate(_planned(pipeline, memory, threads)):
                yield block.data if block.labels is None else (block.data, block.labels)

    def run(self, *, memory: int | str | None = None, threads: int | None = None, force: bool = False) -> None:
        """Carry the chain out; its last verb says where rows go.

        Parameters
        ----------
        memory : int or str, optional
            Ceiling on the memory of the whole process, in bytes, or as in ``"512MiB"``.
        threads : int, optional
            Threads that compute; as many as there are processors for this process when not given.
        force : bool
            Whether outputs may replace what is there.
        """
        with self.opened(force=force) as pipeline:
            run(_planned(pipeline, memory, threads))

    @contextmanager
    def opened(self, *, force: bool = False) -> Iterator[Pipeline]:
        """The chain with everything open, as something that can be planned; without a sink, rows go to the caller."""
        check_order(self.verbs)
        with ExitStack() as files:
            yield assemble(self.verbs, Opening(files, force))


def read(*paths: str | os.PathLike[str], **options: Any) -> Chain:
    """Start a chain with the rows of ``.npy`` files; see ``mlpipe run read --help``."""
    return Chain((make("read", *paths, **options),))


def read_raw(path: str | os.PathLike[str], **options: Any) -> Chain:
    """Start a chain with the rows of a raw binary file; see ``mlpipe run read-raw --help``."""
    return Chain((make("read-raw", path, **options),))


def generate(**options: Any) -> Chain:
    """Start a chain with made-up rows; see ``mlpipe run generate --help``.

    Examples
    --------
    >>> for batch in generate(rows=3, columns=2, kind="integers", distinct=10, dtype="int8"):
    ...     print(batch.shape, batch.dtype)
    (3, 2) int8
    """
    return Chain((make("generate", **options),))


def _method(entry: Entry) -> str:
    return entry.name.replace("-", "_")


def _taken(entry: Entry, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `Chain.run` among those of a sink, which no longer has them."""
    own = {one.name for one in parameters(entry.load())}
    return {name: options.pop(name) for name in ("memory", "threads", "force") if name in options and name not in own}


def _call(verb: Any) -> str:
    """A verb as the call of a method."""
    given = given_values(verb)
    parts: list[str] = []
    declared = parameters(type(verb))
    for one in declared:
        if not one.positional or one.name not in given or (parts and one.many):
            continue
        value = given.pop(one.name)
        parts += [repr(part) for part in value] if one.many else [repr(value)]
    parts += [f"{name}={value!r}" for name, value in given.items()]
    return f"{_method(entry_of(verb))}({', '.join(parts)})"


def _planned(pipeline: Pipeline, memory: int | str | None, threads: int | None) -> Plan:
    """The plan to carry out, once the stages that fit have learned from all rows."""
    if threads is not None and threads < 1:
        raise UsageError(f"threads = {threads}: give 1 or more")
    # A program that holds gigabytes of its own must not need to say so: what it has counts on top.
    ceiling = default_ceiling() + (anonymous_bytes() or 0) if memory is None else parse_size(str(memory))
    return fitted(pipeline, make_plan(pipeline, ceiling, threads or processors()))


def check_order(verbs: Sequence[Any]) -> None:
    """Raise UsageError unless a source comes first, and a sink last if at all."""
    if not verbs:
        raise UsageError("a chain begins with a source, such as read")
    entries = [entry_of(verb) for verb in verbs]
    for place, entry in enumerate(entries, 1):
        link = link_name([place], entry.name)
        if place == 1 and entry.kind != "source":
            raise UsageError(f"{link}: a {entry.kind} cannot come first; begin with a source, such as read")
        if place > 1 and entry.kind == "source":
            raise UsageError(f"{link}: a source can only come first; read takes several files")
        if entry.kind == "sink" and place < len(verbs):
            raise UsageError(f"{link}: a sink ends a chain, but {entries[place].name} follows")


def assemble(verbs: Sequence[Any], opening: Opening) -> Pipeline:
    """Open verbs in a valid order.

    Stages that can show what they do as a source, right after one that can seek, become that source; `view` returns
    None where it takes a stage after all. Those that keep all rows, which `reorders` says, also do so after transforms
    of each row by itself.
    """
    rest = list(enumerate(verbs, 1))
    source: Source = _open(*rest.pop(0), opening)
    within = [(name_of(verbs[0]), source.spec)]
    while rest and (seen := _viewed(*rest[0], source)) is not None:
        source = seen
        within.append((name_of(rest.pop(0)[1]), source.spec))
    sink: Sink = _Caller()
    ending = "caller"
    if rest and entry_of(verbs[-1]).kind == "sink":
        ending = name_of(verbs[-1])
        sink = _open(*rest.pop(), opening)
    stages: list[Stage] = []
    numbers: list[int] = []
    for number, verb in rest:
        with at_link(_link(number, verb), name_of(verb)):
            seen = _reordered(verb, source, stages, numbers)
        if seen is not None:
            source = seen
            within.append((name_of(verb), source.spec))
            continue
        again = isinstance(verb, Repeat) and stages
        stages.append(verb.after(stages[-1]) if again else _open(number, verb, opening))
        numbers.append(number)
    return Pipeline(source, stages, sink, within, ending, [*((number,) for number in numbers), (len(verbs),)])


def _link(number: int, verb: Any) -> str:
    """What messages call a link."""
    return link_name([number], name_of(verb))


def _open(number: int, verb: Any, opening: Opening) -> Any:
    """Open a link of a chain."""
    with at_link(_link(number, verb), name_of(verb)):
        return verb.open(opening)


def _viewed(number: int, verb: Any, source: Source) -> Source | None:
    """A verb right after a source as a source itself, if it can be one."""
    if not (hasattr(verb, "view") and source.seekable):
        return None
    with at_link(_link(number, verb), name_of(verb)):
        seen: Source | None = verb.view(source)
        return seen


def _reordered(verb: Any, source: Source, stages: list[Stage], numbers: Sequence[int]) -> Source | None:
    """A verb as a source before the stages that it comes after, if these make the same of rows in their new order."""
    if not (getattr(verb, "reorders", False) and source.seekable):
        return None
    behind: list[Stage] = []
    spec = source.spec
    for number, stage in zip(numbers, stages, strict=True):
        if isinstance(stage, RowWise) and stage.flow == "streaming":
            behind.append(stage)
        elif isinstance(verb, Repeat) and isinstance(stage, Batch) and spec.rows:
            behind.append(stage.each_epoch(spec.rows))
        else:
            return None
        with at_link(link_name([number], stage.name), stage.name):
            spec = stage.plan(spec)
    seen: Source | None = verb.view(source)
    if seen is not None:
        stages[:] = behind
    return seen


class _Caller(NothingSink):
    """Stands for who iterates over a chain, and takes whole rows in order."""

    sequential = True
    stored = True
