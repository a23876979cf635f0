"""What the bench makes of its rounds: moments that are spread evenly, and plots."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bench.failover import spread
from bench.plot import strips

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("count", [1, 2, 5, 12, 30, 31])
def test_moments_are_spread_evenly_in_whatever_order(count: int) -> None:
    moments = sorted(spread(number, count, 60) for number in range(count))
    assert moments == pytest.approx([60 * (each + 0.5) / count for each in range(count)])


def test_moments_do_not_go_with_the_kinds_of_failure() -> None:
    first_kind = [spread(number, 30, 60) for number in range(0, 30, 5)]
    assert min(first_kind) < 10
    assert max(first_kind) > 50


def test_a_plot_has_a_dot_for_each_value_and_says_median_and_worst() -> None:
    drawn = ElementTree.fromstring(strips("T < U", {"ours": [2.0, 3.0, 9.0], "plain": [40.0], "nothing": []}, "s"))  # noqa: S314  # our own
    assert len(list(drawn.iter(f"{SVG}circle"))) == 4
    said = [text.text for text in drawn.iter(f"{SVG}text")]
    assert "ours: median 3.0 s, worst 9.0 s (3 times)" in said
    assert not any("nothing" in str(each) for each in said)


def test_dots_stay_within_the_plot() -> None:
    drawn = ElementTree.fromstring(strips("T", {"ours": [0.0, 0.01, 5000.0]}, "s"))  # noqa: S314  # our own
    across = float(drawn.attrib["viewBox"].split()[2])
    assert all(0 <= float(dot.attrib["cx"]) <= across for dot in drawn.iter(f"{SVG}circle"))
