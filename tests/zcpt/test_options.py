"""Numbers as people write them."""

from __future__ import annotations

import pytest

import zcpt
from zcpt.options import format_count, format_exact, parse_number, pluralize


@pytest.mark.parametrize(
    ("text", "value"),
    [("600M", 600e6), ("3.3M", 3_300_000), ("600e6", 6e8), ("12", 12), ("1.5G", 1.5e9), ("70k", 70_000), ("0.5", 0.5)],
)
def test_numbers_with_units_are_read(text: str, value: float) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize("text", ["", "M", "many", "6M6", "1e3M"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"^'{text}' is not a number: write it like 600M, 3.3M"):
        parse_number(text)


@pytest.mark.parametrize(
    ("value", "text", "above"),
    [
        (6e8, "600M", "600M"),
        (123_456_789, "123.5M", "123.5M"),
        (1_234_432, "1.234M", "1.235M"),
        (0.12341, "0.1234", "0.1235"),
        (999_999, "1000k", "1000k"),
        (7, "7", "7"),
    ],
)
def test_numbers_are_written_with_four_digits(value: float, text: str, above: str) -> None:
    assert format_count(value) == text
    assert format_count(value, up=True) == above
    assert parse_number(format_count(value, up=True)) >= value


@pytest.mark.parametrize(
    ("value", "text"),
    [(6e8, "600M"), (289_961.0, "289961"), (0.1, "0.1"), (0.123456, "0.123456"), (1e21, "1000000000000G")],
)
def test_limits_are_repeated_exactly(value: float, text: str) -> None:
    assert format_exact(value) == text
    assert parse_number(text) == value


def test_one_thing_is_counted_in_the_singular() -> None:
    assert [pluralize(count, "cell") for count in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]
    assert [pluralize(count, "class", "classes") for count in (1, 2)] == ["1 class", "2 classes"]
    space = zcpt.get_space("nasbench201")
    assert space.describe_layers(1) == "1 cell in each of the three stages"
    assert space.describe_layers(5) == "5 cells in each of the three stages"
