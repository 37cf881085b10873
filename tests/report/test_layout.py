"""How numbers, shapes and scripts are written on a page."""

from __future__ import annotations

import pytest

from maxaffine._report import layout


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (layout.number(-0.25), "−0.250"),
        (layout.number(-0.0001), "0.000"),
        (layout.number(float("inf")), "∞"),
        (layout.number(float("nan")), "–"),
        (layout.number(-1234567.4, 0), "−1,234,567"),
        (str(layout.digits_for([423.1, -296.0])), "0"),
        (str(layout.digits_for([5.11, 3.9], 1.2)), "2"),
        (str(layout.digits_for([-0.0190, 0.0189], 8.8e-5)), "6"),
        (str(layout.digits_for([0.0, float("inf")], float("nan"))), "0"),
        (layout.short(-0.000123), "−0.000123"),
        (layout.short(15320.0), "15,320"),
        (layout.rough(18102143), "18,000,000"),
        (layout.rough(87), "87"),
        (layout.residual(0.0), "0"),
        (layout.residual(1.25e-7), "1.2e−07"),
        (layout.percent(0.5), "50.0%"),
        (layout.percent(0.00002), "0.002%"),
        (layout.shape((3, 8, 8)), "3 × 8 × 8"),
        (layout.shape(()), "1"),
        (layout.grouped(1438), "1,438"),
        (layout.as_script(["</script>"]), '["\\u003c/script>"]'),
    ],
)
def test_values_are_written(written: str, expected: str) -> None:
    assert written == expected
