from __future__ import annotations

import math

from ansible.module_utils.egi_secrets.api import Health
from ansible.module_utils.egi_secrets.clock import Offset, judge, narrow, observe
from ansible.module_utils.egi_secrets.preflight import clock_sentence, measure_clocks
from hypothesis import given
from hypothesis import strategies as st

offsets = st.floats(min_value=-5, max_value=5)
network = st.floats(min_value=0.0001, max_value=0.08)


def answer(offset: float, sent: float, there: float, back: float) -> Offset:
    """What is known after one query to a server whose clock is `offset` ahead of ours."""
    return observe(sent, sent + there + back, math.floor(sent + there + offset))


@given(offset=offsets, sent=st.floats(min_value=1000, max_value=1001), there=network, back=network)
def test_an_answer_bounds_the_offset(offset: float, sent: float, there: float, back: float) -> None:
    seen = answer(offset, sent, there, back)
    assert seen.low <= offset + 1e-6
    assert offset <= seen.high + 1e-6


@given(offset=offsets, moments=st.lists(st.floats(min_value=1000, max_value=1010), min_size=1, max_size=20))
def test_many_answers_bound_it_too_and_never_more_loosely(offset: float, moments: list[float]) -> None:
    known = None
    width = math.inf
    for sent in sorted(moments):
        known = narrow(known, answer(offset, sent, 0.01, 0.01))
        assert known.low <= offset + 1e-6
        assert offset <= known.high + 1e-6
        assert known.high - known.low <= width + 1e-9
        width = known.high - known.low


def test_a_clock_that_was_set_meanwhile_is_known_by_the_newer_answer() -> None:
    assert narrow(Offset(0, 1), Offset(5, 6)) == Offset(5, 6)


@given(true=st.lists(offsets, min_size=2, max_size=5), limit=st.floats(min_value=0.1, max_value=3), slack=network)
def test_a_decided_judgement_is_true(true: list[float], limit: float, slack: float) -> None:
    known = {f"n{i}": Offset(offset - slack, offset + slack) for i, offset in enumerate(true)}
    judgement = judge(known, limit)
    apart = max(true) - min(true)
    if judgement.verdict == "within":
        assert apart <= limit + 1e-9
    elif judgement.verdict == "beyond":
        assert apart > limit - 1e-9
    else:
        assert abs(apart - limit) <= 2 * slack + 1e-9


def test_one_node_is_never_apart_from_itself() -> None:
    assert judge({"n1": Offset(0, 100)}, 1.0).verdict == "within"


class Simulated:
    """Servers with clocks of their own, a network with delays, and a controller whose time passes only in these."""

    def __init__(self, offsets: dict[str, float], delay: float, start: float) -> None:
        self.time = start
        self.delay = delay
        self.apis = [SimulatedApi(self, name, offset) for name, offset in offsets.items()]

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class SimulatedApi:
    def __init__(self, world: Simulated, name: str, offset: float) -> None:
        self.world, self.node, self.offset = world, self, offset
        self.name = name

    def health(self) -> Health:
        self.world.time += self.world.delay
        second = math.floor(self.world.time + self.offset)
        self.world.time += self.world.delay
        return Health("active", second, "")


@given(
    spread=st.floats(min_value=0, max_value=4),
    start=st.floats(min_value=1000, max_value=1002),
    delay=st.floats(min_value=0.001, max_value=0.01),
)
def test_measuring_tells_apart_what_is_well_within_and_well_beyond(spread: float, start: float, delay: float) -> None:
    # In the simulation the queries of one round pass through one clock, so they run one after the other at worst.
    world = Simulated({"n1": 0.0, "n2": spread / 2, "n3": spread}, delay, start)
    judgement, known = measure_clocks(world.apis, 1.0, now=world.now, sleep=world.sleep)  # type: ignore[arg-type]
    assert set(known) == {"n1", "n2", "n3"}
    if spread < 0.7:
        assert clock_sentence(judgement, 1.0) == ""
    if spread > 1.3:
        assert "The clock of n3 is" in clock_sentence(judgement, 1.0)
        assert "vault_cluster_max_clock_offset is 1" in clock_sentence(judgement, 1.0)
