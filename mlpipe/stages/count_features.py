"""``count-features``: how often each value occurs.

Its declaration is that of the command, too, whose help must cost nothing: NumPy is not imported here.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlpipe.declare import option
from mlpipe.errors import UsageError
from mlpipe.opening import Opening
from mlpipe.stages.dtypes import DType

if TYPE_CHECKING:
    from mlpipe.counting.table import Arrangement
    from mlpipe.link import Source
    from mlpipe.stages.counting import Counting, Deliver
    from mlpipe.stages.where import Where

CARRIED = "labels"
"""What --by calls the labels that rows carry along."""

RULES = ("auto", "fd", "doane", "scott", "rice", "sturges", "sqrt")
"""How `numpy.histogram` finds a number of bins; but for stone, which takes hundreds of passes."""

_CONTRADICTIONS = (
    (("--rows", "--pairs", "--column", "--each-column"), "each says what is counted"),
    (("--bins", "--edges"), "each says where bins end"),
    (("--bins", "--rows"), "bins are of single values"),
    (("--bins", "--pairs"), "bins are of single values"),
    (("--bins", "--by"), "bins are not counted by label"),
    (("--edges", "--rows"), "bins are of single values"),
    (("--edges", "--pairs"), "bins are of single values"),
    (("--edges", "--by"), "bins are not counted by label"),
    (("--approx", "--bins"), "counts of bins are exact, and take no room"),
    (("--approx", "--edges"), "counts of bins are exact, and take no room"),
    (("--approx", "--weights"), "sketches count, they do not add up"),
    (("--approx", "--rows"), "sketches take single values"),
    (("--approx", "--pairs"), "sketches take single values"),
    (("--approx", "--by"), "sketches take single values"),
    (("--approx", "--cumulative"), "only the most frequent values are known"),
)


def parse_pairs(text: str) -> tuple[int, ...]:
    """Two columns.

    Examples
    --------
    >>> parse_pairs("3,-1")
    (3, -1)
    """
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().lstrip("-").isdecimal() and part.isascii() for part in parts):
        raise UsageError(f"--pairs {text}: give two columns, such as 0,3")
    return tuple(int(part[:20]) for part in parts)


def parse_bins(text: str) -> int | str:
    """A number of bins, or the name of a rule.

    Examples
    --------
    >>> parse_bins("20"), parse_bins("auto")
    (20, 'auto')
    """
    if text in RULES:
        return text
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"--bins {text}: give a number of bins, or one of {', '.join(RULES)}")
    return int(text[:20])


@dataclass(frozen=True)
class CountFeatures:
    """How often each value occurs.

    A table comes out: a row for each value with its count, the most frequent first. All NaN are one value, and -0
    equals 0. Values of all columns count together, unless --column or --each-column ask for tables of single columns
    (with a first column that says which), --pairs for two columns together, or --rows for rows as a whole; --by counts
    for each label apart. What does not fit into memory goes through temporary files.

    Example: mlpipe run read examples/data/digits.npy then count-features --top 5 then write top.npy
    """

    flow = "reducing"

    column: tuple[int, ...] = option((), help="Only this column; several times for several.", metavar="N", repeat=True)
    each_column: bool = option(False, help="A table for each column, in one pass.")
    rows: bool = option(False, help="Rows as a whole.")
    pairs: tuple[int, ...] | None = option(None, help="Two columns together.", metavar="I,J", parse=parse_pairs)
    by: str | None = option(
        None, help="For each label apart: one a row in this file, or labels for those rows come with.", metavar="Y.npy"
    )
    weights: str | None = option(None, help="Add up these, one a row, instead of counting.", metavar="W.npy")
    where: str | None = option(
        None, help="Only rows for which this is true, such as 'x[3] > 0'; x alone is each value.", metavar="EXPRESSION"
    )
    cast: DType | None = option(  # noqa: RUF009 - it makes a field
        None, help="Cast first; fractions are cut off, what does not fit ends the run."
    )
    sort: Literal["count", "value", "none"] | None = option(
        None, help="Order: by count, the largest first, which is the default; or by value, as bins are."
    )
    top: int | None = option(None, help="Only the N most frequent.", metavar="N")
    min_count: int | None = option(None, help="Only those that occur so often at least.", metavar="N")
    normalize: bool = option(False, help="Also the share of all.")
    cumulative: bool = option(False, help="Also the running total.")
    bins: int | str | None = option(
        None, help=f"Count in bins of one width: how many, or {', '.join(RULES)}.", metavar="N|RULE", parse=parse_bins
    )
    edges: tuple[float, ...] | None = option(None, help="Count between these edges.", metavar="A,B,…")
    approx: bool = option(False, help="Estimate by sketches of fixed size, and say how good they are.")
    temp_dir: str | None = option(None, help="Where temporary files go; beside the output.", metavar="DIR")

    def __post_init__(self) -> None:
        given = self.given()
        for flags, reason in _CONTRADICTIONS:
            for one, other in itertools.combinations([flag for flag in flags if flag in given], 2):
                raise UsageError(f"count-features {one} and {other}: {reason}; give one of them")
        for flag, number in (("--top", self.top), ("--min-count", self.min_count)):
            if number is not None and not 1 <= number < 2**63:
                raise UsageError(f"count-features {flag} {number}: give 1 or more")
        if self.pairs is not None and len(self.pairs) != 2:
            raise UsageError(f"count-features --pairs: {len(self.pairs)} columns; give two, such as 0,3")
        self._check_bins()
        if self.where is not None:
            self.condition()

    def _check_bins(self) -> None:
        if isinstance(self.bins, str) and self.bins not in RULES:
            raise UsageError(f"count-features --bins {self.bins}: give a number of bins, or one of {', '.join(RULES)}")
        if isinstance(self.bins, int) and not 1 <= self.bins < 2**31:
            raise UsageError(f"count-features --bins {self.bins}: give 1 to {2**31 - 1}")
        edges = self.edges
        if edges is None:
            return
        if len(edges) < 2:
            raise UsageError(f"count-features --edges: {len(edges)} given; bins need two or more")
        if any(map(math.isnan, edges)):
            raise UsageError("count-features --edges: nan is among them; give numbers in ascending order")
        for low, high in itertools.pairwise(edges):
            if low > high:
                raise UsageError(f"count-features --edges {low:g},{high:g}: give them in ascending order")

    def given(self) -> list[str]:
        """Flags that say something."""
        found = {
            "--column": self.column != (), "--each-column": self.each_column, "--rows": self.rows,
            "--pairs": self.pairs is not None, "--by": self.by is not None, "--weights": self.weights is not None,
            "--where": self.where is not None, "--cast": self.cast is not None, "--bins": self.bins is not None,
            "--edges": self.edges is not None, "--approx": self.approx, "--cumulative": self.cumulative,
        }  # fmt: skip
        return [flag for flag, there in found.items() if there]

    def arrangement(self) -> Arrangement:
        """Which rows of the table are wanted, in which order."""
        from mlpipe.counting.table import Arrangement

        binned = self.bins is not None or self.edges is not None
        sort = self.sort or ("value" if binned else "count")
        return Arrangement(sort, self.top, self.min_count, self.normalize, self.cumulative)

    def condition(self) -> Where | None:
        """What --where says."""
        if self.where is None:
            return None
        from mlpipe.stages.where import Where

        return Where.of(self.where, "count-features --where")

    def open(self, opening: Opening) -> Counting:
        """Open the files of labels and weights; only headers are read."""
        return self.stage(opening)

    def stage(self, opening: Opening, deliver: Deliver | None = None) -> Counting:
        """The stage, which gives its table to somebody, or hands it on as rows."""
        from mlpipe.stages.binning import Binning
        from mlpipe.stages.counting import Counting
        from mlpipe.stages.estimating import Estimating

        binned = self.bins is not None or self.edges is not None
        kind: type[Counting] = Binning if binned else Estimating if self.approx else Counting
        by = None if self.by in (None, CARRIED) else _file(str(self.by), "--by", opening)
        weights = None if self.weights is None else _file(self.weights, "--weights", opening)
        return kind(self, by, weights, self.temp_dir or opening.temporary, deliver)


def _file(path: str, flag: str, opening: Opening) -> Source:
    if path == "-":
        raise UsageError(f"count-features {flag} -: only rows can come from stdin; name a file")
    from mlpipe.readers.npy import NpySource
    from mlpipe.readers.strings import holds_text
    from mlpipe.readers.text_rows import TextRows

    source = TextRows(path) if flag == "--by" and holds_text(path) else NpySource(path)
    opening.files.enter_context(source)
    opening.inputs.append(source.fingerprint)
    return source
