"""The rules of a cut: which packets are dropped, and that the tests themselves are not shut out by mistake."""

from __future__ import annotations

from typing import get_args

import pytest
from faults import SITES, Direction, of_sites, ruleset

CONTROLLER = "192.0.2.1"
PEERS = ("192.0.2.11", "192.0.2.12")


@pytest.mark.parametrize("direction", get_args(Direction))
def test_a_cut_from_everyone_exempts_this_machine(direction: Direction) -> None:
    rules = ruleset("fault_1", direction, None, CONTROLLER)
    assert rules.count(" drop") == rules.count(f"!= {CONTROLLER} drop") == (2 if direction == "both" else 1)


def test_a_cut_from_some_names_nobody_else() -> None:
    rules = ruleset("fault_1", "both", PEERS, CONTROLLER)
    assert "ip saddr { 192.0.2.11, 192.0.2.12 } drop" in rules
    assert "ip daddr { 192.0.2.11, 192.0.2.12 } drop" in rules
    assert CONTROLLER not in rules.replace(" ", "").split(";")


def test_a_one_way_cut_leaves_the_other_way_alone() -> None:
    assert "egress" not in ruleset("fault_1", "in", PEERS, CONTROLLER)
    assert "ingress" not in ruleset("fault_1", "out", PEERS, CONTROLLER)


def test_each_host_is_at_one_site() -> None:
    assert len(of_sites()) == sum(len(hosts) for hosts in SITES.values())
