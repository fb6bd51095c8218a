"""What the verb and the command ``neighbors`` open: the data, the parameters of the metric, and the stage for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlpipe.errors import InputError, UsageError
from mlpipe.link import Array, Source, Stage
from mlpipe.opening import Opening
from mlpipe.readers.inputs import open_inputs
from mlpipe.readers.npy import NpySource
from mlpipe.stages.metrics import Measure, find
from mlpipe.stages.nearest_rows import NearestRows
from mlpipe.stages.nearest_within import NearestWithin
from mlpipe.stages.neighbors import Neighbors
from mlpipe.stages.radius_rows import RadiusRows
from mlpipe.stages.shapes import check_rows
from mlpipe.stages.voting import Predicting, Voting, check_weighing

_NEEDED = {"seuclidean": ("V", "--variance"), "mahalanobis": ("VI", "--inverse-covariance")}


def chained(verb: Neighbors, opening: Opening) -> Stage:
    """The verb as a stage of a chain.

    Raises
    ------
    UsageError
        For what rows on their way cannot be asked for.
    """
    if not verb.data:
        raise UsageError("neighbors: name the rows to look among, such as: neighbors D.npy --k 10")
    if verb.radius is not None and not (verb.count_only or verb.max_neighbors):
        raise UsageError(
            f"neighbors --radius {verb.radius:g}: rows would differ in length; add --max-neighbors N or --count-only, "
            "or use the command mlpipe neighbors"
        )
    data = opened_data(verb.data, opening)
    return stage_of(verb, data, opened_measure(verb, check_rows([data]), opening, complete=True), opening)


def opened_data(paths: Sequence[str], opening: Opening) -> Source:
    """Files, directories or patterns as one source that can be read more than once."""
    if "-" in paths:
        raise UsageError("neighbors -: the data may be read more than once, which stdin cannot; name a file")
    return open_inputs(paths, opening)


def opened_measure(verb: Neighbors, features: int, opening: Opening, *, complete: bool) -> Measure:
    """The metric with its parameters, read only if the files hold as much as they should.

    Parameters
    ----------
    verb : Neighbors
        Names the files.
    features : int
        Of a row.
    opening : Opening
        Told of the files.
    complete : bool
        Whether all parameters have to be given, because rows cannot be asked for them.
    """
    paths = {"w": verb.weights, "V": verb.variance, "VI": verb.inverse_covariance}
    name = find(verb.metric).name
    needs, flag = _NEEDED.get(name, ("", ""))
    if complete and needs and paths[needs] is None:
        raise UsageError(f"neighbors --metric {name}: give {flag}; rows on their way cannot be asked for it")
    Measure(verb.metric, verb.p)  # tells of the metric before any file is opened
    values = {key: _parameter(key, path, features, opening) for key, path in paths.items() if path is not None}
    return Measure(verb.metric, verb.p, **values)


def _parameter(name: str, path: str, features: int, opening: Opening) -> Array:
    source = opening.files.enter_context(NpySource(path))
    opening.inputs.append(source.fingerprint)
    wanted = (features, features) if name == "VI" else (features,)
    if source.shape != wanted:
        raise InputError(f"{source.name} has shape {source.shape}; {name} of {features} features must have {wanted}")
    return source[:]


def stage_of(
    verb: Neighbors, data: Source, measure: Measure, opening: Opening, *, queries: Source | None = None
) -> Stage:
    """The stage that does what the verb says.

    Parameters
    ----------
    verb : Neighbors
        What to do.
    data : Source
        Among which neighbours are looked for.
    measure : Measure
        The metric.
    opening : Opening
        Told of further files.
    queries : Source, optional
        Where the rows come from, unchanged, if that is known: what the metric lacks is computed of both.
    """
    if verb.radius is not None:
        return within_of(verb, data, measure, queries)
    nearest = nearest_of(verb, data, measure, queries)
    return nearest if verb.labels is None else Predicting(nearest, voting_of(verb, data, opening))


def nearest_of(verb: Neighbors, data: Source, measure: Measure, queries: Source | None = None) -> NearestRows:
    """The stage that finds the k nearest."""
    return NearestRows(data, verb.count, give=verb.give, **_common(verb, measure, queries))


def within_of(
    verb: Neighbors, data: Source, measure: Measure, queries: Source | None = None
) -> RadiusRows | NearestWithin:
    """The stage that finds all within a radius, or counts them, or finds the nearest of them."""
    radius = float(verb.radius or 0)
    if verb.max_neighbors is None:
        return RadiusRows(data, radius, count_only=verb.count_only, **_common(verb, measure, queries))
    most = max(1, min(verb.max_neighbors, int(data.spec.rows or 0) - verb.self_))
    return NearestWithin(data, most, radius=radius, give=verb.give, **_common(verb, measure, queries))


def _common(verb: Neighbors, measure: Measure, queries: Source | None) -> dict[str, Any]:
    """What all these stages take."""
    return {
        "measure": measure, "dtype": verb.dtype, "largest": verb.largest, "own": verb.self_, "queries": queries,
    }  # fmt: skip


def voting_of(verb: Neighbors, data: Source, opening: Opening) -> Voting:
    """The stage that predicts from neighbours; of the labels only headers are read.

    Raises
    ------
    UsageError
        For what is no distance and cannot weigh, and for labels from stdin.
    """
    if verb.weighted:
        check_weighing(find(verb.metric).name, largest=verb.largest)
    labels = opened_values(str(verb.labels), "--labels", opening)
    return Voting(labels, data, verb.weighted, verb.task, verb.outlier_label)


def opened_values(path: str, flag: str, opening: Opening) -> Source:
    """A file, directory or pattern of values, one a row, that are read in step with something else."""
    if path == "-":
        raise UsageError(f"neighbors {flag} -: only queries can come from stdin; name a file")
    return open_inputs([path], opening)
