"""Every verb there is: one line each, so that listing them imports nothing.

A verb is a frozen dataclass (see `mlpipe.declare`) with an `open` method that makes it a source, a stage or a
sink. Other packages have theirs named through an entry-point group (see `mlpipe.registry`).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["source", "stage", "sink"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One verb of the table.

    Parameters
    ----------
    name : str
        As on the command line.
    kind : str
        Source, stage or sink.
    flow : str
        How much of its input it has to see: streaming, buffering, fitting or reducing.
    target : str
        ``module:class``.
    summary : str
        One line; the first of the class's docstring.
    """

    name: str
    kind: Kind
    flow: str
    target: str
    summary: str

    def load(self) -> Any:
        """Import the class."""
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)


def _own(name: str, kind: Kind, flow: str, place: str, line: str) -> Entry:
    return Entry(name, kind, flow, f"mlpipe.{place}", line)


OWN = (
    _own("read", "source", "streaming", "readers.read:Read", "Rows of .npy files, one after the other."),
    _own("read-raw", "source", "streaming", "readers.raw:ReadRaw", "Rows of a raw binary file."),
    _own(
        "generate",
        "source",
        "streaming",
        "readers.generate:Generate",
        "Made-up rows: normal, uniform, integers or zipf.",
    ),
    _own("head", "stage", "streaming", "stages.head:Head", "The first rows."),
    _own("skip", "stage", "streaming", "stages.skip:Skip", "All but the first rows."),
    _own("tail", "stage", "buffering", "stages.tail:Tail", "The last rows."),
    _own("sample", "stage", "buffering", "stages.sample:Sample", "Some rows, chosen at random, in their order."),
    _own(
        "shuffle",
        "stage",
        "fitting",
        "stages.shuffle:Shuffle",
        "Rows in random order, the same for the same seed and epoch.",
    ),
    _own("repeat", "stage", "buffering", "stages.repeat:Repeat", "All rows several times, one after the other."),
    _own("batch", "stage", "streaming", "stages.batch:Batch", "Rows in batches of one size."),
    _own(
        "apply",
        "stage",
        "streaming",
        "stages.apply:Apply",
        "An expression of each value, such as 'log1p(abs(x)) / 3', or of columns, such as 'x[0] - x[-1]'.",
    ),
    _own(
        "apply-python",
        "stage",
        "streaming",
        "stages.apply_python:ApplyPython",
        "A function from a Python file of your own, compiled.",
    ),
    _own(
        "standardize",
        "stage",
        "fitting",
        "stages.standardize:Standardize",
        "Every column with mean 0 and standard deviation 1.",
    ),
    _own(
        "minmax",
        "stage",
        "fitting",
        "stages.minmax:MinMax",
        "Every column stretched to one range, by its smallest and largest value.",
    ),
    _own(
        "robust-scale",
        "stage",
        "fitting",
        "stages.robust_scale:RobustScale",
        "Every column less its median, divided by its interquartile range: outliers do not count.",
    ),
    _own(
        "one-hot",
        "stage",
        "streaming",
        "stages.one_hot:OneHot",
        "A column for each class: 1 in that of the row, 0 elsewhere.",
    ),
    _own(
        "bucketize",
        "stage",
        "streaming",
        "stages.bucketize:Bucketize",
        "In which interval between edges each value lies: 0 below the first edge, as numpy.digitize counts.",
    ),
    _own(
        "hash-features",
        "stage",
        "streaming",
        "stages.hash_features:HashFeatures",
        "Categories, hashed into a fixed number of columns.",
    ),
    _own(
        "project",
        "stage",
        "streaming",
        "stages.project:Project",
        "Rows times a matrix: one that is given, or a random one.",
    ),
    _own(
        "pairwise",
        "stage",
        "buffering",
        "stages.pairwise_verb:PairwiseVerb",
        "Distances of every row to all rows of a file.",
    ),
    _own(
        "neighbors",
        "stage",
        "buffering",
        "stages.neighbors:Neighbors",
        "The nearest rows of a set, for every row.",
    ),
    _own("noise", "stage", "streaming", "stages.noise:Noise", "Normal noise, added to every value."),
    _own(
        "dropout",
        "stage",
        "streaming",
        "stages.dropout:Dropout",
        "Values set to zero at random, the others scaled up so that the mean stays.",
    ),
    _own(
        "scale-jitter",
        "stage",
        "streaming",
        "stages.scale_jitter:ScaleJitter",
        "Every row times a random number near 1, normal with mean 1.",
    ),
    _own(
        "mixup",
        "stage",
        "buffering",
        "stages.mixup:MixUp",
        "Rows mixed with others: w times the row, plus 1 - w times its partner.",
    ),
    _own("clip", "stage", "streaming", "stages.clip:Clip", "Values kept between two bounds."),
    _own("cast", "stage", "streaming", "stages.cast:Cast", "Values in another dtype."),
    _own("fill-nan", "stage", "streaming", "stages.fill_nan:FillNan", "A value in the place of NaN."),
    _own("log1p", "stage", "streaming", "stages.log1p:Log1p", "Natural logarithms of 1 + x."),
    _own("abs", "stage", "streaming", "stages.abs:Abs", "Absolute values."),
    _own("sqrt", "stage", "streaming", "stages.sqrt:Sqrt", "Square roots."),
    _own("power", "stage", "streaming", "stages.power:Power", "Values raised to a power."),
    _own("binarize", "stage", "streaming", "stages.binarize:Binarize", "1 for what is above a threshold, else 0."),
    _own("normalize", "stage", "streaming", "stages.normalize:Normalize", "Every row divided by its norm."),
    _own("select", "stage", "streaming", "stages.select:Select", "Only some columns, in the order given."),
    _own("dedup", "stage", "buffering", "stages.dedup:Dedup", "Each row once: the first of those that are equal."),
    _own(
        "dedup-near",
        "stage",
        "buffering",
        "stages.dedup_near:DedupNear",
        "Rows that do not lie within a radius of an earlier row that is kept.",
    ),
    _own(
        "check",
        "stage",
        "streaming",
        "stages.check:Check",
        "End the run with exit code 4 at the first value that is not as it should be.",
    ),
    _own(
        "count-features",
        "stage",
        "reducing",
        "stages.count_features:CountFeatures",
        "How often each value occurs.",
    ),
    _own(
        "stats",
        "stage",
        "reducing",
        "stages.stats:Stats",
        "Statistics of each column and of all values; the rows are handed on as they are.",
    ),
    _own(
        "tee",
        "stage",
        "streaming",
        "stages.tee:Tee",
        "Also write the rows to a .npy file, and hand them on as they are.",
    ),
    _own(
        "write",
        "sink",
        "streaming",
        "writers.write:Write",
        "A .npy file, or - for stdout, or DIR/ for a directory of them.",
    ),
    _own("split", "sink", "streaming", "writers.split:Split", "Every row into one of several .npy files, at random."),
    _own("nothing", "sink", "streaming", "writers.nothing:Nothing", "No output: rows are only counted and measured."),
)
