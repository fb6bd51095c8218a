"""What ``mlpipe profile`` saw from outside, as text below the table of the run; and the user's functions by lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlpipe.measure.schema import FunctionFacts, ProfileFacts, RecordFacts, SpreadFacts
from mlpipe.measure.sizes import format_count, format_duration, format_size, visible

ABSENT = "-"


def profile_text(record: RecordFacts) -> str:
    """Say what was seen from outside; nothing for a record that no profile is in.

    Parameters
    ----------
    record : RecordFacts
        Checked.

    Returns
    -------
    str
        Lines, each ending in a newline.
    """
    profile = record["profile"]
    if profile is None:
        return ""
    told = record["not_measured"]
    lines = [f"{name:<8}{text}" for name, text in _process_lines(profile, told)]
    for function in profile["lines"] or []:
        lines += ["", *_function(function)]
    reason = told.get("profile.lines", "")
    if profile["lines"] is None and reason and not reason.endswith("with --lines"):
        lines.append(f"lines   not measured ({reason})")
    return "".join(f"{visible(line.expandtabs())}\n" for line in lines)


def _process_lines(profile: ProfileFacts, told: dict[str, str]) -> Iterator[tuple[str, str]]:
    runs, spread = profile["runs"], profile["spread"]
    good = sum(run["exit_code"] == 0 for run in runs)
    if "wall_s" in spread:
        parts = [f"wall {_range(spread['wall_s'], good)}"]
        if "cpu_s" in spread:
            parts.append(f"cpu {_range(spread['cpu_s'], good)}")
        yield "process", ", ".join(parts)
    if good > 1 and "anonymous_peak" in spread:
        sizes = spread["anonymous_peak"]
        low, high = format_size(sizes["min"]), format_size(sizes["max"])
        yield "", f"anonymous peak {format_size(sizes['median'])} ({low} to {high})"
    if len(runs) > 1:
        failed = f", {len(runs) - good} failed" if good < len(runs) else ""
        yield "runs", f"{len(runs)}{failed}; the other figures are those of the run of median time"
    samples = profile["samples"]
    if samples is not None:
        series = {
            "resident": samples["rss"], "anonymous": samples["anonymous"], "files": samples["file_backed"],
            "exact peak": samples["rss_peak"] or [],
        }  # fmt: skip
        known = {what: [value for value in values if value is not None] for what, values in series.items()}
        peaks = [f"{what} {format_size(max(values))}" for what, values in known.items() if values]
        children = f", {profile['children']} children" if profile["children"] else ""
        yield "sampled", f"{', '.join(peaks)} (every {format_duration(profile['interval_s'] or 0)}{children})"
    elif "profile.samples" in told and profile["sampler"]:
        yield "sampled", f"nothing ({told['profile.samples']})"


def _range(found: SpreadFacts, runs: int) -> str:
    """The median, and how it differs between runs."""
    if runs < 2:
        return format_duration(found["median"])
    low, high, mad = map(format_duration, (found["min"], found["max"], found["mad"]))
    return f"{format_duration(found['median'])} ({low} to {high}, MAD {mad})"


def _function(function: FunctionFacts) -> Iterator[str]:
    """The lines of a function as a table; the most expensive one is marked."""
    lines = function["lines"]
    total = sum(line["time_s"] or 0.0 for line in lines)
    with_memory = any(line["memory"] is not None for line in lines)
    yield f"{function['file']}:{function['function']}, {format_duration(total)} in all"
    of_memory = ("memory", "growth") if with_memory else ()
    rows: list[tuple[str, ...]] = [("line", "hits", "time", "%", *of_memory)]
    for line in lines:
        took = line["time_s"]
        cells: tuple[str, ...] = (
            str(line["number"]),
            ABSENT if line["hits"] is None else format_count(line["hits"]),
            ABSENT if took is None else format_duration(took),
            ABSENT if took is None or not total else f"{100 * took / total:.1f}",
        )
        rows.append((*cells, *((_size(line["memory"]), _size(line["increment"])) if with_memory else ())))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sources = ["", *(line["source"] for line in lines)]
    slowest = max((line["time_s"] or 0.0 for line in lines), default=0.0)
    marks = [" ", *("*" if slowest and line["time_s"] == slowest else " " for line in lines)]
    for cells, source, mark in zip(rows, sources, marks, strict=True):
        yield f"{_aligned(cells, widths)} {mark} {source}".rstrip()


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


def _size(size: int | None) -> str:
    if size is None:
        return ABSENT
    return format_size(size) if size >= 0 else f"-{format_size(-size)}"
