from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpipe.errors import UsageError
from mlpipe.measure.sizes import format_count, format_duration, format_size, parse_size, size_argument


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("1", 1),
        ("100000", 100_000),
        ("100000B", 100_000),
        ("100000 b", 100_000),
        ("512MiB", 512 * 2**20),
        ("512mib", 512 * 2**20),
        ("512 MiB", 512 * 2**20),
        (" 512M ", 512 * 2**20),
        ("512m", 512 * 2**20),
        ("1.5G", 3 * 2**29),
        ("1.5GiB", 3 * 2**29),
        ("1.5GB", 1_500_000_000),
        ("0.5k", 512),
        ("1KB", 1000),
        ("2T", 2**41),
        ("7E", 7 * 2**60),
        ("0.1GiB", 107374182),
        ("007", 7),
    ],
)
def test_sizes_people_write(text, nbytes):
    assert parse_size(text) == nbytes


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "MiB", "big", "1.5", "1,5G", "-1", "-1G", "+1G", "1e9", "0x10", "nan", "inf", "1 2", "1GiBs", "1Gi/",
        "1ZiB", "1..5G", ".5G", "5.G", "1_000", "١G", "１G", "50%", "9" * 5000, "1\n2", "K",
    ],
)  # fmt: skip
def test_nonsense_is_refused_in_one_line_that_names_it(text):
    with pytest.raises(UsageError) as error:
        parse_size(text, "--cache")
    message = str(error.value)
    assert message.startswith(f"--cache {text!r} ")
    assert "\n" not in message
    assert "512MiB" in message


@pytest.mark.parametrize("text", ["0", "0MiB", "0.0000001k", "8E", "9223372036854775808", "99999P"])
def test_sizes_out_of_range_are_refused(text):
    with pytest.raises(UsageError, match="out of range"):
        parse_size(text)


@given(st.integers(1, 2**63 - 2**20))
def test_what_a_message_says_to_type_is_enough_and_not_a_mebibyte_more(nbytes):
    assert nbytes <= parse_size(size_argument(nbytes)) < nbytes + 2**20


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (10239, "10.0 KiB"),
        (1023.4 * 1024, "1023 KiB"),
        (2**20 - 1, "1.00 MiB"),
        (1.6e9, "1.49 GiB"),
        (2**70, "1024 EiB"),
        (-2048, "-2.00 KiB"),
    ],
)
def test_format_size(nbytes, text):
    assert format_size(nbytes) == text


@given(st.integers(0, 2**62))
def test_format_size_is_true_to_three_digits(nbytes):
    number, unit = format_size(nbytes).split()
    scale = 1024 ** ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].index(unit)
    assert float(number) * scale == pytest.approx(nbytes, rel=5.1e-3)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (1e-9, "1.00 ns"),
        (0.9996e-3, "1.00 ms"),
        (0.0123, "12.3 ms"),
        (0.35, "350 ms"),
        (0.9996, "1.00 s"),
        (1.24, "1.24 s"),
        (59.94, "59.9 s"),
        (59.96, "1:00 min"),
        (3599.4, "59:59 min"),
        (3599.6, "1:00 h"),
        (86399, "1 d 0 h"),
        (1e9, "11574 d 2 h"),
    ],
)
def test_format_duration(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (1, "1"),
        (0.25, "0.25"),
        (99.96, "100"),
        (99_999, "99,999"),
        (99_999.6, "100 k"),
        (999_999, "1.00 M"),
        (1e18, "1.00 E"),
    ],
)
def test_format_count(count, text):
    assert format_count(count) == text
