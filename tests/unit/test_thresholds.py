"""The grammar of thresholds, and what crosses one."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlpipe.errors import UsageError
from mlpipe.measure.metrics import PROCESS_METRICS, STAGE_METRICS, parse_metric
from mlpipe.measure.thresholds import EXAMPLE, parse_threshold

STAGE_NAMES = st.text(st.characters(exclude_characters="<>=", exclude_categories=["Z", "C"]), min_size=1, max_size=12)
NAMES = st.sampled_from(sorted(PROCESS_METRICS)) | st.builds(
    "stage.{}.{}".format, STAGE_NAMES, st.sampled_from(sorted(STAGE_METRICS))
)
OPERATORS = st.sampled_from([">", ">=", "<", "<="])
BLANKS = st.sampled_from(["", " ", "  "])
AMOUNTS = st.decimals(0, 10**9, places=3, allow_nan=False).map(str)
UNITS = {
    "seconds": {"ns": Fraction(1, 10**9), "us": Fraction(1, 10**6), "µs": Fraction(1, 10**6), "ms": Fraction(1, 1000),
                "s": Fraction(1), "min": Fraction(60), "h": Fraction(3600)},
    "bytes": {"B": Fraction(1), "KiB": Fraction(2**10), "MiB": Fraction(2**20), "GiB": Fraction(2**30),
              "kB": Fraction(1000), "MB": Fraction(10**6), "M": Fraction(2**20)},
    "count": {"": Fraction(1)},
    "per second": {"": Fraction(1)},
}  # fmt: skip


def never(operator: str, percent: float) -> bool:
    """Whether no figure changes so: it would have to be below 0."""
    return (percent < -100 and operator[0] == "<") or (percent, operator) == (-100, "<")


@given(NAMES, OPERATORS, st.sampled_from("+-"), AMOUNTS, BLANKS, st.data())
def test_what_is_written_by_the_grammar_is_read(
    name: str, operator: str, sign: str, amount: str, blank: str, data: st.DataObject
) -> None:
    metric = parse_metric(name)
    assert metric is not None
    units = UNITS[metric.kind]
    unit = data.draw(st.sampled_from(["%", *units]))
    if unit == "B":
        amount = amount.split(".")[0]
    assume(unit != "%" or not never(operator, float(sign + amount)))
    found = parse_threshold(blank.join(["", name, operator, sign, amount, unit, ""]))
    assert (found.metric, found.operator, found.relative) == (metric, operator, unit == "%")
    wanted = Fraction(amount) * (Fraction(1) if unit == "%" else units[unit])
    if metric.kind == "bytes" and unit != "%":
        wanted = Fraction(int(wanted))  # whole bytes
    if wanted > 0 or not Fraction(amount):
        assert found.change == pytest.approx(float(wanted) * (1 if sign == "+" else -1))
    assert parse_threshold(found.text) == found


@given(st.text(max_size=30) | st.builds("wall{}".format, st.text("<>=+-0123456789%smMiB. ", max_size=10)))
def test_anything_else_is_a_usage_error_in_one_line(text: str) -> None:
    try:
        found = parse_threshold(text)
    except UsageError as error:
        message = str(error)
    else:
        message = found.metric.name
        assert message in text
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--fail-on '': write METRIC OP CHANGE, such as 'wall>+10%' or 'stage.read.self>+0.5s'"),
        ("wall", "--fail-on 'wall': write METRIC OP CHANGE, such as 'wall>+10%' or 'stage.read.self>+0.5s'"),
        ("wall==+1s", "--fail-on 'wall==+1s': write METRIC OP CHANGE, such as 'wall>+10%' or 'stage.read.self>+0.5s'"),
        ("wall>", "--fail-on 'wall>': write METRIC OP CHANGE, such as 'wall>+10%' or 'stage.read.self>+0.5s'"),
        ("wall<-100%", "--fail-on 'wall<-100%': no figure falls by more than 100%; give a change it can fall below"),
        ("wall<=-101%", "--fail-on 'wall<=-101%': no figure falls by more than 100%; give a change it can fall below"),
        ("wal>+10%", "--fail-on 'wal>+10%': no figure 'wal'; did you mean wall?"),
        ("stage.read.slf>+1s", "--fail-on 'stage.read.slf>+1s': stages have no 'slf'; did you mean self?"),
        ("wall>10%", "--fail-on 'wall>10%': a change has a sign; write 'wall>+10%' for 10% more"),
        ("wall>+10MiB", "--fail-on 'wall>+10MiB': unit 'MiB'; this figure takes %, or ns, us, ms, s, min or h"),
        ("wall>+10", "--fail-on 'wall>+10': number without a unit; this figure takes %, or ns, us, ms, s, min or h"),
        ("anon_peak>+1s", "--fail-on 'anon_peak>+1s': unit 's'; this figure takes %, or B, KiB, MiB or GiB"),
        ("anon_peak>+1", "--fail-on 'anon_peak>+1': number without a unit; this figure takes %, or B, KiB, MiB or GiB"),
        ("wall>+1e3s", f"--fail-on 'wall>+1e3s': '+1e3s' is no change; {EXAMPLE}"),
    ],
)  # fmt: skip
def test_messages_say_what_is_meant(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_threshold(text)
    assert str(caught.value) == message


WHOLE = st.integers(0, 10**9)


@given(WHOLE, WHOLE, st.integers(-200, 200), OPERATORS)
def test_per_cent_are_of_the_old_figure(old: int, new: int, percent: int, operator: str) -> None:
    assume(not never(operator, percent))
    limit = Fraction(old) * percent / 100
    wanted = {">": new - old > limit, ">=": new - old >= limit, "<": new - old < limit, "<=": new - old <= limit}
    assert parse_threshold(f"major_faults{operator}{percent:+d}%").crossed(old, new) == wanted[operator]


@given(WHOLE, WHOLE, st.integers(-(10**6), 10**6), OPERATORS)
def test_amounts_are_of_the_difference(old: int, new: int, amount: int, operator: str) -> None:
    wanted = {">": new - old > amount, ">=": new - old >= amount, "<": new - old < amount, "<=": new - old <= amount}
    assert parse_threshold(f"major_faults{operator}{amount:+d}").crossed(old, new) == wanted[operator]
