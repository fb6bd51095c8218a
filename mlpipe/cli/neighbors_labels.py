"""``mlpipe neighbors --labels``: what neighbours say of the queries, and how good that is."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import typer

from mlpipe.cli.text import aligned
from mlpipe.errors import UsageError
from mlpipe.report.scores import confusion_table, score_rows
from mlpipe.stages.neighbors_opening import nearest_of, opened_values, voting_of
from mlpipe.stages.predicted import Predicted
from mlpipe.stages.truth import Judging, Scores
from mlpipe.writers.nothing import NothingSink

if TYPE_CHECKING:
    from mlpipe.cli.neighbors_job import Job
    from mlpipe.link import Sink, Spec, Stage
    from mlpipe.stages.voting import Voting

MOST_SHOWN = 20
"""Classes whose number is shown."""


def labels(job: Job) -> None:
    """Predict, and write what is predicted or say what it is like."""
    nearest, voting = nearest_of(job.verb, job.data, job.measure, job.both), voting_of(job.verb, job.data, job.opening)
    stages: list[Stage] = [nearest, voting]
    scores, predicted = Scores(), Predicted(voting.kind)
    if job.truth is not None:
        stages.append(Judging(opened_values(job.truth, "--truth", job.opening), voting.kind, scores))
    spec = voting.plan(nearest.plan(job.queries.spec))
    facts: dict[str, Any] = {
        "queries": spec.rows,
        "data": nearest.data_rows,
        "k": nearest.k,
        "metric": nearest.measure.definition.name,
        "task": voting.kind,
        "weighted": voting.weighted,
        "shape": [spec.rows, *spec.row_shape],
        "dtype": spec.dtype.name,
    }
    sink: Sink = NothingSink()
    if job.output is None:
        stages.append(predicted)
    else:
        sink = _sink(job, job.output, voting)

    def found(_rows: int) -> dict[str, Any]:
        made = {"predicted": predicted.facts} if job.output is None else {}
        return {**facts, **made, **({} if job.truth is None else {"truth": scores.facts})}

    record = job.run(stages, sink, found, _array(job.output))
    if record is not None:
        _say(job, found(0), spec)


def _array(output: str | None) -> str | None:
    """The output, if it is one array."""
    return output if output is not None and output.lower().endswith(".npy") else None


def _sink(job: Job, path: str, voting: Voting) -> Sink:
    """Where predictions go, as the name says."""
    from mlpipe.writers.npy import NpySink
    from mlpipe.writers.numbered import NumberedSink

    names = ("query", "label" if voting.kind == "classify" else "value")
    if path == "-":
        if job.flags.as_json:
            raise UsageError("-o - and --json: the first writes CSV to stdout, the second JSON; give one of them")
        return NumberedSink(path, names, job.opening)
    ending = path[path.rfind(".") :].lower()
    if ending not in (".npy", ".csv"):
        raise UsageError(f"-o {path}: predictions are one array; give a name that ends in .npy or .csv, or - for CSV")
    job.opening.ends(path, "--output")
    if ending == ".csv":
        return NumberedSink(path, names, job.opening)
    return NpySink(path, force=job.flags.force, inputs=job.opening.inputs)


def _say(job: Job, facts: dict[str, Any], spec: Spec) -> None:
    """Say what was found, and where it is."""
    if job.flags.as_json:
        typer.echo(json.dumps(facts if job.output is None else {**facts, "output": job.output}))
        return
    truth = facts.get("truth")
    if job.output is None:
        typer.echo(aligned([*_lines(facts, spec), *(score_rows(truth) if truth else [])]))
        if truth and truth.get("confusion"):
            _show_confusion(truth)
        return
    if job.output != "-":
        what = "classes" if facts["task"] == "classify" else "means"
        shape = " x ".join(map(str, facts["shape"]))
        job.session.note(f"wrote {job.output}: {shape} {facts['dtype']} {what} of {facts['k']} neighbours")
    if truth:
        job.session.note(", ".join(f"{name} {value}" for name, value in score_rows(truth)))


def _show_confusion(truth: dict[str, Any]) -> None:
    typer.echo()
    if sys.stdout.isatty():
        from mlpipe.report.console import ReportConsole

        ReportConsole(file=sys.stdout).print(confusion_table(truth, terminal=True))
    else:
        typer.echo(confusion_table(truth, terminal=False), nl=False)


def _lines(facts: dict[str, Any], spec: Spec) -> list[tuple[str, str]]:
    """The summary of predictions as lines."""
    weighted = ", weighted by 1 / distance" if facts["weighted"] else ""
    rows = [
        ("metric", facts["metric"]),
        ("queries", f"{facts['queries']:,}"),
        ("data", f"{facts['data']:,}"),
        ("neighbours", f"{facts['k']}{weighted}"),
        ("task", f"{facts['task']}, {facts['dtype']}"),
    ]
    found = facts["predicted"]
    if facts["task"] == "classify":
        rows.extend(_classes(found))
        return rows
    for name in ("minimum", "mean", "maximum"):
        values = found[name]
        shown = (
            "-"
            if values is None
            else "  ".join("-" if value is None else f"{value:.9g}" for value in values[:MOST_SHOWN])
        )
        rows.append((name, shown + "  …" * (values is not None and len(values) > MOST_SHOWN)))
    if found["missing"]:
        rows.append(("not predicted", f"{found['missing']:,}"))
    return rows


def _classes(found: dict[str, Any]) -> list[tuple[str, str]]:
    """How often each class was predicted."""
    if found["classes"] is None:
        return [("predicted", found["why"])]
    pairs = list(zip(found["classes"], found["counts"], strict=True))
    rows = [("predicted", f"{len(pairs):,} classes")]
    rows += [(f"  {label}", f"{count:,}") for label, count in pairs[:MOST_SHOWN]]
    return rows + ([("  …", "")] if len(pairs) > MOST_SHOWN else [])
