"""``stats``: statistics of the rows that pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from mlpipe.declare import option
from mlpipe.errors import InputError, MemoryCeilingError, UsageError
from mlpipe.link import Blocks, Flow, Held, Room, Run, Spec
from mlpipe.opening import Opening
from mlpipe.stages.streaming import Streaming
from mlpipe.statistics.files import Outputs
from mlpipe.statistics.results import statistics_of

if TYPE_CHECKING:
    from mlpipe.stages.describing import Arrangement, Wanted
    from mlpipe.stages.describing_parts import Describing
    from mlpipe.statistics.results import Statistics

SUFFIXES = (".json", ".npz", ".csv")

KERNEL_BYTES = 36 << 20
"""What compiling takes, besides what every plan counts for the first kernels (measured: up to 32 MiB)."""

COUNTING_BYTES = 92 << 20
"""What compiling takes for counting distinct values (measured: up to 80 MiB)."""


def parse_quantiles(text: str) -> tuple[float, ...]:
    """Fractions with commas between them.

    Examples
    --------
    >>> parse_quantiles("0.25, 0.5")
    (0.25, 0.5)
    """
    try:
        return tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise UsageError(f"--quantiles {text}: give numbers from 0 to 1, such as 0.01,0.5,0.99") from None


@dataclass(frozen=True)
class Stats:
    """Statistics of each column and of all values; the rows are handed on as they are.

    A chain hands on rows of one dtype, which a table with names is not: so stats leaves the rows alone, as tee does,
    and the statistics go to files of their own, which appear when the whole run has succeeded. They are about all rows
    that reach this place, even those that what follows does not take. `mlpipe stats` prints them instead.

    Number of values, missing, infinite and zeros; minimum, maximum and in which row they come first and last; sum,
    mean, variance, standard deviation, skewness and kurtosis. A file of suffix .npz is one that --from of standardize
    and minmax takes, and that of robust-scale if 0.25, 0.5 and 0.75 are among the quantiles.

    Example: mlpipe run read examples/data/digits.npy then stats -o digits.json then head --rows 10 then write head.npy
    """

    flow = "reducing"

    output: str | None = option(
        None, metavar="FILE", help="Where they go: a file of suffix .json, .npz or .csv.", short="-o"
    )
    quantiles: tuple[float, ...] = option(
        (), metavar="Q,…", parse=parse_quantiles, help="Also quantiles, such as 0.01,0.5,0.99; exact, by more passes."
    )
    approx: bool = option(False, help="Estimate quantiles and distinct values, in one pass.")
    unique: bool = option(False, help="Also the number of distinct values, NaN not among them.")
    covariance: str | None = option(
        None, metavar="F.npy", help="Also the covariance of each two columns, where both are finite."
    )
    correlation: str | None = option(None, metavar="F.npy", help="Also the correlation of each two columns.")
    ddof: int = option(1, metavar="N", help="Variances and covariances are divided by the count less N.")
    temp_dir: str | None = option(None, metavar="DIR", help="Where temporary files go, if there are any.")

    def __post_init__(self) -> None:
        for fraction in self.quantiles:
            if not 0 <= fraction <= 1:
                raise UsageError(f"stats --quantiles {fraction}: give numbers from 0 to 1, such as 0.01,0.5,0.99")
        if self.ddof < 0:
            raise UsageError(f"stats --ddof {self.ddof}: give 0 or more")
        if self.output is not None and Path(self.output).suffix not in SUFFIXES:
            raise UsageError(f"stats --output {self.output}: give a name that ends in {', '.join(SUFFIXES)}")
        for flag, path in self._matrices():
            if Path(path).suffix != ".npy":
                raise UsageError(f"stats {flag} {path}: give a name that ends in .npy")
        if self.approx and not (self.quantiles or self.unique):
            raise UsageError("stats --approx: nothing to estimate; give --quantiles or --unique")

    def _matrices(self) -> list[tuple[str, str]]:
        """Matrices to write: flags and paths."""
        paths = (("--covariance", self.covariance), ("--correlation", self.correlation))
        return [(flag, path) for flag, path in paths if path is not None]

    def open(self, opening: Opening) -> Streaming:
        """Nothing is created before the run."""
        if self.output is None and not self._matrices():
            raise UsageError("stats: the statistics go nowhere; give --output FILE, or use mlpipe stats")
        return self.stage(opening)

    def stage(self, opening: Opening, *, histograms: bool = False) -> DescribingStage:
        """The stage, for a command that looks at the result itself."""
        if self.output is not None:
            opening.writes(self.output, "stats --output")
        for flag, path in self._matrices():
            opening.writes(path, f"stats {flag}")
        outputs = Outputs(self.output, self.covariance, self.correlation, opening)
        verb = replace(self, temp_dir=self.temp_dir or opening.temporary)
        stage = DescribingStage(verb, outputs, histograms, Work())
        opening.files.push(stage.leave)
        return stage


@dataclass(slots=True)
class Work:
    """What lasts across the passes over the rows.

    Parameters
    ----------
    how : Arrangement or None
        How it will be done; settled when the first pass begins.
    describing : Describing or None
        What is under way; None before the first pass.
    result : Statistics or None
        After the last pass.
    """

    how: Arrangement | None = None
    describing: Describing | None = None
    result: Statistics | None = None

    @property
    def left(self) -> int:
        """Passes still to make, as far as that is known."""
        passes = self.how.passes if self.how else 1
        return passes - (self.describing.done if self.describing else 0)


@dataclass(frozen=True)
class DescribingStage(Streaming):
    """Statistics of one run. All passes but the last are made ahead; rows come out in the last one.

    Parameters
    ----------
    verb : Stats
        What is wanted.
    outputs : Outputs
        Files that are written.
    histograms : bool
        Whether to count for a plot, too.
    work : Work
        How far it is.
    """

    verb: Stats
    outputs: Outputs
    histograms: bool
    work: Work

    instead = "add --approx, or read a file"
    """What to do where rows can be read only once."""

    @property
    def name(self) -> str:
        """Its verb."""
        return "stats"

    @property
    def flow(self) -> Flow:
        """Has to see all rows, of which it keeps little."""
        return "fitting" if self.work.left > 1 else "reducing"

    def plan(self, spec: Spec) -> Spec:
        """The same rows.

        Raises
        ------
        InputError
            For values that are no numbers.
        UsageError
            When rows never end.
        OutputError
            For a file that cannot be written.
        """
        if spec.dtype.kind not in "biuf":
            raise InputError(f"stats takes bool, integers and floats, not {spec.dtype.name}")
        if spec.endless:
            raise UsageError("stats: the rows never end, so there is no end to their statistics; put head before it")
        if self.work.describing is None:
            self.outputs.check()
        return spec

    def hold(self, spec: Spec, room: Room) -> Held:
        """What the parts hold; the passes over the source that come before the run."""
        from mlpipe.stages.describing import arrange

        kernels = KERNEL_BYTES + (COUNTING_BYTES if self.wanted.unique and not self.wanted.approx else 0)
        if self.work.describing is not None and self.work.left == 1:
            kernels = 0  # the passes before have loaded them, and the plan counts them as part of the process now
        if self.work.describing is None:
            less = replace(room, nbytes=room.nbytes - kernels)
            try:
                self.work.how = arrange(self.wanted, spec, less, self.verb.temp_dir or ".")
            except MemoryCeilingError as error:
                raise MemoryCeilingError(str(error), needs=error.needs + kernels) from None
        how = self._how
        facts = dict(how.facts)
        if self.work.left > 1:
            facts["passes_over_source"] = self.work.left - 1
        if self.outputs.paths:
            facts["writes"] = ", ".join(self.outputs.paths)
        return Held(room.block_rows, spec.dtype, {**how.nbytes, "kernels": kernels}, facts, spec)

    @property
    def _how(self) -> Arrangement:
        if self.work.how is None:
            raise RuntimeError("stats was not planned")
        return self.work.how

    @property
    def wanted(self) -> Wanted:
        """What to find out."""
        from mlpipe.stages.describing import Wanted

        verb = self.verb
        matrices = verb.covariance is not None or verb.correlation is not None
        return Wanted(verb.quantiles, verb.approx, verb.unique, matrices, self.histograms)

    def fit(self, blocks: Blocks, held: Held, run: Run) -> DescribingStage:
        """Make one of the passes that come before the last."""
        describing = self._begun(held.layout, run)
        for block in blocks:
            describing.add(block.data, run.workers)
            run.lane.count(rows=len(block.data), nbytes=block.data.nbytes)
            block.release()
        describing.end_pass(run.workers)
        return replace(self)  # another one, as the engine expects it of who learned something

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Hand on what was looked at; at the end, look at what nobody asked for."""
        if self.work.result is not None:  # this is a pass for a stage that comes later, and not the first
            return blocks
        spec = held.layout
        describing = self._begun(spec, run)
        added = _added(blocks, describing, run)

        def rest() -> None:
            for block in added:
                block.release()
            describing.end_pass(run.workers)
            self.work.result = statistics_of(describing.found, spec, self.verb.quantiles, self.verb.ddof)

        run.at_end(rest)
        return added

    def _begun(self, spec: Spec, run: Run) -> Describing:
        """What is under way; begun before the first pass, with its kernels compiled."""
        if self.work.describing is None:
            from mlpipe.stages.describing_parts import Describing

            with run.lane.state("compile"):
                Describing.compile(self.wanted, self._how, run.workers)
            self.work.describing = Describing(self.wanted, self._how, spec.rows)
        return self.work.describing

    def leave(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """The run is over: write what was found, if all went well."""
        if self.work.describing is not None:
            self.work.describing.close()
        if kind is None and self.work.result is not None:
            self.outputs.write(self.work.result)


def _added(blocks: Blocks, describing: Describing, run: Run) -> Blocks:
    place = 0
    for block in blocks:
        describing.add(block.data, run.workers)
        block.start = place
        place += len(block.data)
        run.lane.count(rows=len(block.data), nbytes=block.data.nbytes)
        yield block
