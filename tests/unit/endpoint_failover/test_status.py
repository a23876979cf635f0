from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from endpoint_failover import metrics, status
from endpoint_failover.cycle import Memory, Raised
from endpoint_failover.lock import Lock
from endpoint_failover.model import Answer, Hold, Lease, Phase, Place, Score, View, Watched
from endpoint_failover.settings import Settings
from endpoint_failover.state import FILE, State
from endpoint_failover.status import CRITICAL, OK, UNKNOWN, WARNING

from tests.unit.endpoint_failover.sites import NAME, SECOND, SITES, name_of, settings_of

EPOCH = 1795457000.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path, name_of(tmp_path), name_of(tmp_path, SECOND, port=443))


def well(**changes: Any) -> Memory:
    """Return the memory of a checker that sees both names at infn, where all is well."""
    now = time.monotonic()
    made = Memory(
        scores={name: {site: Score(oks=9, serving=True, since=now - 7200) for site in SITES} for name in (NAME, SECOND)},
        places={name: Place("infn", ("infn",)) for name in (NAME, SECOND)},
        views={site: Watched(View(), 7, now - 1, now - 1, now - 1) for site in ("infn", "ifca")},
        leases={NAME: Watched(Lease("ifca", Phase.DONE, "ifca", "infn", "ifca is down", at=EPOCH), 3, now, now, now)},
        last={NAME: "", SECOND: ""},
        checked_at=now - 1,
        cluster_offset=EPOCH - now,
    )
    return replace(made, **changes)


def answers(first: str = "127.0.0.12", second: str = "") -> dict[str, tuple[Answer, ...]]:
    other = Answer("ns2", (second,), ttl=60) if second else Answer("ns2", error="no answer in time")
    return {name: (Answer("ns1", (first,), ttl=60), other) for name in (NAME, SECOND)}


def report(settings: Settings, memory: Memory, said: dict[str, tuple[Answer, ...]] | None = None) -> dict[str, Any]:
    State(settings.state_dir).save(memory, answers() if said is None else said)
    return status.report(settings)


def nagios(settings: Settings, memory: Memory) -> tuple[int, str]:
    return status.nagios(report(settings, memory))


def scored(memory: Memory, name: str, site: str, score: Score) -> Memory:
    return replace(memory, scores={**memory.scores, name: {**memory.scores[name], site: score}})


DOWN = Score(fails=3, serving=False, why="connection refused")


# --- for scripts


def test_the_report_is_json_and_tells_everything(settings: Settings) -> None:
    memory = well(holds={"ifca": Hold(EPOCH + 3600, "alice", "a new disk"), "iisas": Hold(EPOCH - 1, "bob")})
    found = json.loads(json.dumps(report(settings, memory), allow_nan=False))

    assert (found["observer"], found["running"], found["identity"]) == ("iisas", False, True)
    assert 0.9 < found["age"] < 10
    assert found["cluster_time"] == pytest.approx(EPOCH, abs=10)
    assert found["sites"]["infn"]["names"][NAME] == {"serving": True, "why": "", "for": pytest.approx(7200, abs=10)}
    assert found["sites"]["ifca"]["hold"] == {"until": EPOCH + 3600, "by": "alice", "why": "a new disk"}
    assert found["sites"]["iisas"]["hold"] is None  # it has run out
    assert (found["names"][NAME]["at"], found["names"][NAME]["ttl"]) == ("infn", 60)
    assert found["names"][NAME]["servers"]["ns2"] == {"at": "", "error": "no answer in time", "ttl": 0}
    assert found["names"][NAME]["last_change"]["target"] == "infn"
    assert found["observers"]["infn"] == {"fresh": True, "read": 1}


def test_it_tells_an_alarm_that_has_lasted_from_one_that_is_new(settings: Settings) -> None:
    now = time.monotonic()
    alarms = {"old": Raised("Disk is full.", now - 60, seen=3, told_at=now), "new": Raised("ns2 is mute.", now)}
    assert report(settings, well(alarms=alarms))["alarms"] == [
        {"key": "old", "text": "Disk is full.", "for": pytest.approx(60, abs=10), "told": True},
        {"key": "new", "text": "ns2 is mute.", "for": pytest.approx(0, abs=10), "told": False},
    ]


def test_before_the_first_check_it_is_json_too(settings: Settings) -> None:
    found = json.loads(json.dumps(status.report(settings), allow_nan=False))
    assert (found["age"], found["names"][NAME]["at"], found["sites"]["infn"]["names"][NAME]["serving"]) == (None, None, None)


def test_it_tells_whether_a_run_is_under_way(settings: Settings) -> None:
    with Lock(settings.state_dir) as lock:
        lock.take()
        assert status.report(settings)["running"] is True


def test_a_memory_of_settings_that_changed_is_shown_as_far_as_it_goes(settings: Settings, tmp_path: Path) -> None:
    report(settings, well())
    other = name_of(tmp_path, "other.test")
    found = status.report(replace(settings, names=(*settings.names, other)))
    assert found["names"]["other.test"]["at"] is None
    assert "other.test:8200" in status.table(found)


# --- for a person


def test_the_table_says_where_names_are_and_who_serves(settings: Settings) -> None:
    memory = well(holds={"ifca": Hold(EPOCH + 3600, "alice", "a new disk")}, alarms={"x": Raised("Disk is full.", 0.0)})
    lines = status.table(report(settings, scored(memory, NAME, "ifca", DOWN))).splitlines()

    assert lines[0].startswith("The checker at iisas checked 1 s ago, and no run is under way.")
    (row,) = (line for line in lines if line.startswith("ifca") and NAME in line)
    assert "NO" in row and "connection refused" in row
    assert "until 2026-11-23 19:03:20 UTC by alice (a new disk)" in row
    (row,) = (line for line in lines if line.startswith(f"{NAME}:8200"))
    assert "ns1: infn; ns2: no answer in time" in row and "infn, ifca" in row
    assert "2026-11-23 18:03:20 UTC to infn by ifca: ifca is down" in row
    assert lines[-2].startswith("To be seen to") and "Disk is full." in lines[-1]


def test_the_table_says_when_nothing_needs_doing(settings: Settings) -> None:
    assert status.table(report(settings, well())).endswith("\nNothing needs doing.\n")


def test_the_table_of_a_checker_that_never_ran(settings: Settings) -> None:
    text = status.table(status.report(settings))
    assert "has made no check yet, and no run is under way" in text
    assert "not known yet" in text and "not asked yet" in text


def test_a_memory_that_cannot_be_read_is_told(settings: Settings) -> None:
    (settings.state_dir / FILE).write_text("no JSON")
    found = status.report(settings)
    assert "cannot be read" in status.table(found)
    assert "cannot be read" in status.nagios(found)[1]


@pytest.mark.parametrize("at", [float("inf"), -1.0, 1.8e12 * 1000, 0.0])
def test_times_of_any_size_are_shown(settings: Settings, at: float) -> None:
    lease = Lease("ifca", Phase.FAILED, "ifca", "infn", "x", at=at)
    memory = well(leases={NAME: Watched(lease, 3, 0.0, 0.0, 0.0)}, holds={"ifca": Hold(max(at, EPOCH * 2))})
    assert "could not be moved to infn" in status.table(report(settings, memory))


# --- for Nagios


def test_all_is_well(settings: Settings) -> None:
    code, line = nagios(settings, well())
    assert (code, line) == (OK, f"OK: {NAME} at infn, {SECOND} at infn | names_serving=2;;;0;2 alarms=0")


def test_a_name_at_a_site_that_does_not_serve_is_critical(settings: Settings) -> None:
    code, line = nagios(settings, scored(well(), SECOND, "infn", DOWN))
    assert (code, line.split(" | ")) == (CRITICAL, [f"CRITICAL: {SECOND} is at infn", "names_serving=1;;;0;2 alarms=0"])


@pytest.mark.parametrize("place", [Place(None, ()), Place("no record", ("no record",)), Place("10.9.9.9", ("10.9.9.9",))])
def test_a_name_that_is_nowhere_is_critical(settings: Settings, place: Place) -> None:
    assert nagios(settings, well(places={NAME: place, SECOND: Place("infn", ("infn",))}))[0] == CRITICAL


def test_names_that_are_in_two_places_are_critical_and_both_are_named(settings: Settings) -> None:
    memory = well(places={NAME: Place("infn", ("infn", "ifca")), SECOND: Place("infn", ("infn",))})
    code, line = status.nagios(report(settings, memory, answers(second="127.0.0.13")))
    assert (code, line.split(" | ")[0]) == (CRITICAL, f"CRITICAL: {NAME} is at ifca and infn")


@pytest.mark.parametrize(
    "memory",
    [
        scored(well(), NAME, "ifca", DOWN),
        well(holds={"ifca": Hold(0.0, "alice")}),
        well(identity=True),
        well(alarms={"x": Raised("The checker at ifca is silent.", 0.0)}),
    ],
)
def test_less_than_all_is_a_warning(settings: Settings, memory: Memory) -> None:
    now = time.monotonic()
    code, line = nagios(settings, replace(memory, checked_at=now))
    assert (code, line.startswith("WARNING: ")) == (WARNING, True)


def test_a_checker_that_is_silent_knows_nothing(settings: Settings) -> None:
    assert nagios(settings, well(checked_at=time.monotonic() - 91))[0] == UNKNOWN
    assert nagios(settings, well(checked_at=time.monotonic() - 85))[0] == OK
    assert nagios(settings, Memory())[1].startswith("UNKNOWN: no check yet | ")


def test_one_line_and_one_bar_whatever_an_alarm_says(settings: Settings) -> None:
    _, line = nagios(settings, well(alarms={"x": Raised("a|b\nc\x1b[2J", 0.0)}))
    assert line.count("|") == 1
    assert line.isprintable()


# --- for Prometheus


def test_metrics_are_whole_and_everybody_may_read_them(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "textfiles" / "failover.prom"
    file.parent.mkdir()
    memory = scored(well(holds={"ifca": Hold()}, alarms={"x": Raised("x", 0.0)}), NAME, "ifca", DOWN)
    metrics.write(file, settings, memory, answers())

    values = dict(line.rsplit(" ", 1) for line in file.read_text().splitlines() if not line.startswith("#"))
    prefix = "endpoint_failover_"
    assert values[f'{prefix}site_serving{{name="{NAME}",site="ifca"}}'] == "0"
    assert values[f'{prefix}site_serving{{name="{NAME}",site="infn"}}'] == "1"
    assert values[f'{prefix}name_at{{name="{SECOND}",site="infn"}}'] == "1"
    assert values[f'{prefix}dns_server_answers{{name="{NAME}",server="ns2"}}'] == "0"
    assert (values[f'{prefix}site_held{{site="ifca"}}'], values[f"{prefix}alarms"]) == ("1", "1")
    assert abs(float(values[f"{prefix}last_check_timestamp_seconds"]) - time.time()) < 60
    assert (file.stat().st_mode & 0o777, [each.name for each in file.parent.iterdir()]) == (0o644, [file.name])


def test_each_metric_is_explained_once_before_its_values(settings: Settings) -> None:
    lines = "".join(metrics.lines(settings, Memory(), {})).splitlines()
    explained = [line.split()[2] for line in lines if line.startswith("# HELP")]
    used = list(dict.fromkeys(line.split("{")[0].split()[0] for line in lines if not line.startswith("#")))
    assert explained == used
