"""A history of faults is read, played, told and drawn, and one that cannot be is refused with the reason."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from endpoint_failover.cycle import Tell
from endpoint_failover.errors import SettingsError
from endpoint_failover.model import Consequence
from endpoint_failover.settings import Rules, problems
from endpoint_failover.simulate import (
    SITES,
    TTL,
    WHAT,
    Fault,
    Played,
    Recording,
    apply,
    as_svg,
    as_text,
    default_settings,
    downtime,
    play,
    random_history,
    read_history,
    user_downtime,
    write_history,
)
from endpoint_failover.world import World

NAME = "vault.services.test"
DEATH = [Fault(20, "server", "infn", "dead"), Fault(60, "server", "infn", "ok")]


@pytest.fixture(scope="module")
def death() -> Played:
    """What came of the death of the site that holds the name."""
    return play(DEATH, default_settings(), 2, 100.0)


def recorded(serving: dict[str, list[tuple[float, bool]]], places: list[tuple[float, str, str]]) -> Played:
    return Played([], 300.0, Recording(serving=serving, places=places))


# --- settings and histories


@pytest.mark.parametrize("names", [1, 2])
def test_the_settings_that_are_played_with_fit_together(names: int) -> None:
    assert [problems(settings) for settings in default_settings(names).values()] == [[], [], []]


def test_the_rules_that_are_given_are_played_with() -> None:
    assert default_settings(rules=Rules(fall=5))["infn"].rules.fall == 5


def test_a_random_history_is_the_same_for_a_seed() -> None:
    assert random_history(random.Random(7), 120.0) == random_history(random.Random(7), 120.0)  # noqa: S311


def test_random_histories_hold_everything_that_there_is_in_the_course_of_time() -> None:
    found = {(fault.what, fault.to) for seed in range(400) for fault in random_history(random.Random(seed), 120.0)}  # noqa: S311

    assert {(what, to) for what, become in WHAT.items() for to in become} <= found | {("clock", "0")}


def test_random_histories_are_in_order_and_within_their_time() -> None:
    for seed in range(100):
        times = [fault.at for fault in random_history(random.Random(seed), 120.0)]  # noqa: S311
        assert times == sorted(times)
        assert 0 <= times[0] <= times[-1] <= 130.0


def test_a_history_that_was_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    path.write_text(write_history(DEATH))

    assert read_history(path) == DEATH


def test_a_history_is_put_in_order(tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    path.write_text(write_history(DEATH[::-1]))

    assert read_history(path) == DEATH


FAULT = {"at": 1, "what": "server", "who": "infn", "to": "dead"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[",
        "{}{}",
        json.dumps({"faults": []}),
        json.dumps(["server"]),
        json.dumps([{key: value for key, value in FAULT.items() if key != "at"}]),
        json.dumps([{**FAULT, "at": "soon"}]),
        json.dumps([{**FAULT, "at": None}]),
        json.dumps([{**FAULT, "at": -1}]),
        json.dumps([{**FAULT, "at": float("nan")}]),
        json.dumps([{**FAULT, "at": float("inf")}]),
        json.dumps(3),
    ],
)
def test_a_history_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "history.json"
    path.write_text(content)

    with pytest.raises(SettingsError, match=r"history\.json cannot be read .* must be a JSON list of objects with at"):
        read_history(path)


def test_a_history_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_history(tmp_path / "none.json")


@pytest.mark.parametrize(
    "change",
    [
        {"what": "volcano"},
        {"to": "grumpy"},
        {"who": "cesnet"},
        {"who": ""},
        {"what": "link", "who": "infn", "to": "cut"},
        {"what": "link", "who": "infn-infn", "to": "cut"},
        {"what": "dns", "who": "infn", "to": "down"},
        {"what": "dyndns", "who": "infn", "to": "down"},
        {"what": "hold", "to": "-5"},
        {"what": "hold", "to": "long"},
        {"what": "clock", "to": "nan"},
    ],
)
def test_a_fault_that_nobody_knows_is_refused_before_anything_is_played(change: dict[str, Any]) -> None:
    fault = Fault(**{**FAULT, **change})

    with pytest.raises(SettingsError, match=r"The history holds Fault.*, which nobody knows: `what` and `to` must be of"):
        play([fault], default_settings(), 1, 0.5)


@pytest.mark.parametrize("duration", [0.0, -1.0, float("nan"), float("inf")])
def test_without_time_nothing_is_played(duration: float) -> None:
    with pytest.raises(SettingsError, match="must be a number of seconds of more than 0"):
        play(DEATH, default_settings(), 1, duration)


# --- what happens to the world


class Nobody:
    """A Monitor that does not care."""

    def changed(self, world: World) -> None: ...
    def sent(self, world: World, observer: str, name: str, target: str) -> None: ...
    def answered(self, world: World, observer: str, name: str, consequence: Consequence) -> None: ...
    def moved(self, world: World, name: str, source: str, target: str) -> None: ...
    def told(self, world: World, observer: str, event: Tell) -> None: ...


@pytest.fixture
def world() -> World:
    made = World.make(default_settings(), random.Random(1), Nobody(), "infn")  # noqa: S311
    made.leader = "iisas"
    return made


@pytest.mark.parametrize("state", ["dead", "hung", "sealed", "slow"])
def test_a_server_that_does_not_work_serves_nobody(world: World, state: str) -> None:
    apply(world, Fault(0, "server", "infn", state))

    assert [world.serves(site) for site in SITES] == [True, False, True]


@pytest.mark.parametrize("state", ["ok", "laggy"])
def test_a_server_that_works_serves(world: World, state: str) -> None:
    apply(world, Fault(0, "server", "infn", state))

    assert world.serves("infn")


@pytest.mark.parametrize("how", ["cut", "one-way"])
def test_a_site_cut_from_its_leader_serves_nobody_and_still_answers(world: World, how: str) -> None:
    apply(world, Fault(0, "link", "iisas-infn", how))

    assert (world.serves("infn"), world.leader) == (False, "iisas")


def test_a_leader_that_stalls_stalls_everybody_and_leads_on(world: World) -> None:
    apply(world, Fault(0, "server", "iisas", "stalled"))
    world.run(1.0)

    assert [world.serves(site) for site in SITES] == [False, False, False]
    assert world.leader == "iisas"


def test_a_leader_that_dies_is_replaced_after_a_while(world: World) -> None:
    apply(world, Fault(0, "server", "iisas", "dead"))

    assert not world.leader
    world.run(4.0)
    assert world.leader in ("infn", "ifca")


def test_without_a_quorum_nobody_leads(world: World) -> None:
    apply(world, Fault(0, "server", "infn", "sealed"))
    apply(world, Fault(0, "site", "ifca", "dark"))
    world.run(10.0)

    assert (world.leader, world.serves("iisas")) == ("", False)


def test_a_dark_site_takes_its_dns_and_its_checker_with_it(world: World) -> None:
    apply(world, Fault(0, "site", "iisas", "dark"))

    assert (world.primary.up, world.dyndns, world.processes["iisas"].works) == (False, "down", False)


def test_a_hold_runs_out_by_the_clock_of_the_leader(world: World) -> None:
    apply(world, Fault(0, "hold", "infn", "40"))
    held = world.is_held("infn")
    apply(world, Fault(0, "clock", "iisas", "3600"))

    assert (held, world.is_held("infn")) == (True, False)


# --- what is told of it


def test_a_move_is_told_with_its_reason(death: Played) -> None:
    assert f"moved: {NAME} was moved from infn to ifca: infn is down: refused." in as_text(death)


def test_the_text_is_in_the_order_of_time(death: Played) -> None:
    times = [float(line.split()[0]) for line in as_text(death).split("\n\n")[0].splitlines()]

    assert times == sorted(times)


def test_the_text_ends_with_what_it_cost(death: Played) -> None:
    *_, first, second, last = as_text(death).splitlines()

    assert first == f"{NAME}: {downtime(death, NAME):.1f} s of 100 s at a site that did not serve"
    assert second.startswith(f"{NAME}: ")
    assert "for a user whose resolver keeps answers for 60 s" in second
    assert last == "updates sent: 1"


def test_the_name_is_away_from_a_dead_site_in_time(death: Played) -> None:
    assert 0 < downtime(death, NAME) <= Rules().worst_case


def test_the_same_seed_tells_the_same(death: Played) -> None:
    assert as_text(play(DEATH, default_settings(), 2, 100.0)) == as_text(death)


def test_faults_after_the_end_are_left_out() -> None:
    played = play(DEATH, default_settings(), 2, 30.0)

    assert played.history == DEATH[:1]
    assert "60.00 s" not in as_text(played)


@pytest.mark.parametrize(
    ("serving", "places", "seconds"),
    [
        ({"infn": [(0.0, True)]}, [(0.0, NAME, "infn")], 0.0),
        ({"infn": [(0.0, True), (100.0, False)]}, [(0.0, NAME, "infn")], 200.0),
        ({"infn": [(0.0, True), (100.0, False), (110.0, True)]}, [(0.0, NAME, "infn")], 10.0),
        (
            {"infn": [(0.0, True), (100.0, False)], "ifca": [(0.0, True)]},
            [(0.0, NAME, "infn"), (104.0, NAME, "ifca")],
            4.0,
        ),
        (
            {"infn": [(0.0, False)], "ifca": [(0.0, True)]},
            [(0.0, NAME, "ifca"), (0.0, "other.test", "infn")],
            0.0,
        ),
    ],
)
def test_downtime_is_the_time_at_a_site_that_does_not_serve(
    serving: dict[str, list[tuple[float, bool]]], places: list[tuple[float, str, str]], seconds: float
) -> None:
    assert downtime(recorded(serving, places), NAME) == pytest.approx(seconds)


@pytest.mark.parametrize(("asked", "seconds"), [(0.0, 20.0), (101.0 - TTL, 60.0), (105.0, 5.0), (40.0, 60.0)])
def test_a_user_waits_for_what_the_resolver_keeps(asked: float, seconds: float) -> None:
    """The site dies at 100 s, the name is elsewhere at 104 s; a resolver that asked at 101 s keeps the old site to 161 s."""
    serving = {"infn": [(0.0, True), (100.0, False)], "ifca": [(0.0, True)]}
    played = recorded(serving, [(0.0, NAME, "infn"), (104.0, NAME, "ifca")])

    assert user_downtime(played, NAME, asked % TTL) == pytest.approx(seconds, abs=1.0)


# --- the drawing


def shapes(svg: str, kind: str) -> list[dict[str, str]]:
    root = ElementTree.fromstring(svg)  # noqa: S314  # our own
    return [dict(each.attrib) for each in root.iter(f"{{http://www.w3.org/2000/svg}}{kind}")]


def test_the_drawing_has_a_band_for_each_state_of_a_site_and_a_mark_for_each_fault(death: Played) -> None:
    svg = as_svg(death)

    bands = [each for each in shapes(svg, "rect") if "x" in each]
    assert len(bands) == sum(len(line) for line in death.recording.serving.values())
    assert len(shapes(svg, "line")) == len(death.history)


def test_the_drawing_has_a_line_for_each_name() -> None:
    svg = as_svg(play(DEATH, default_settings(2), 2, 100.0))

    assert len({each["stroke"] for each in shapes(svg, "polyline")}) == 2


def test_the_drawing_shows_who_leads(death: Played) -> None:
    assert len(shapes(as_svg(death), "path")) == sum(bool(leader) for _, leader in death.recording.leaders)


def test_everything_is_within_the_drawing(death: Played) -> None:
    svg = as_svg(death)
    width = float(ElementTree.fromstring(svg).attrib["width"])  # noqa: S314

    for band in shapes(svg, "rect"):
        if "x" in band:
            assert float(band["x"]) + float(band["width"]) <= width


def test_the_line_is_where_the_name_is(death: Played) -> None:
    points = shapes(as_svg(death), "polyline")[0]["points"].split()

    assert len({point.split(",")[1] for point in points}) == 2  # at infn, then at ifca
