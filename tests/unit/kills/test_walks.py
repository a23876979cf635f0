"""The verdict on a kill: what the operators' next runs must come to, on a lab that is made up. The harness can fail."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kills
import pytest
from killing import Point
from kills import Place, Remedy, Step, Verdict, Walk, Walker, none_in_the_middle, report, sample, table
from lab import Run
from secrets_left import Secret

DONE = Run(0, "n1 : ok=9 changed=0 unreachable=0 failed=0")
CHANGED = Run(0, "n1 : ok=9 changed=2 unreachable=0 failed=0")
FAILED = Run(2, "fatal: [n1]: FAILED! => \n    msg: it is stuck\nn1 : ok=1 changed=0 unreachable=0 failed=1")
TELLS = (
    'echo \'told: {"event": "task", "name": "T"}\'; echo \'told: {"event": "changed", "name": "T", "host": "n1"}\'; sleep 30'
)


TELLS_NO_CHANGE = TELLS.replace("changed", "ok").replace("sleep", 'echo \'told: {"event": "task", "name": "U"}\'; sleep')


LEAKS = kills.Walker._leaks


class MadeUp:
    """A lab whose runs end as they are told to."""

    tells = TELLS
    nodes = ("n1", "n2")

    def __init__(self, *runs: Run) -> None:
        self.runs = iter(runs)
        self.asked: list[str] = []
        self.state = Path("/nowhere")

    def start(self, *_: str, **__: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(["sh", "-c", self.tells], stdout=subprocess.PIPE, text=True, start_new_session=True)

    def run(self, playbook: str, *_: str, **__: Any) -> Run:
        self.asked.append(playbook)
        return next(self.runs)


@pytest.fixture(autouse=True)
def nobody_signs_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """No Check-in, no artefacts but the test's, and secrets lie where the test says."""
    lying: list[str] = []
    monkeypatch.setattr(kills.Walker, "_keyboard", lambda *_: {})
    monkeypatch.setattr(kills.Walker, "_leaks", lambda *_: list(lying))
    monkeypatch.setattr(kills, "known", lambda *_: [])
    monkeypatch.setattr(kills, "ARTEFACTS", tmp_path)
    yield lying


def killed(*runs: Run, steps: int = 1, step: int = 0, **walk: Any) -> tuple[Verdict, MadeUp]:
    lab = MadeUp(*runs)
    made = Walk("made-up", tuple(Step(f"{number}.yml") for number in range(steps)), lambda _: (), **walk)
    return Walker(lab, made).kill(Place(step, Point("T", 0, "after"))), lab  # type: ignore[arg-type]


def test_one_operator_runs_again_and_then_nothing_is_left_to_do() -> None:
    verdict, lab = killed(CHANGED, DONE)
    assert (verdict.runs, verdict.changed, verdict.problems) == (1, 1, [])
    assert lab.asked == ["0.yml", "0.yml"]


def test_operators_in_turn_go_on_from_the_run_that_was_killed() -> None:
    verdict, lab = killed(CHANGED, CHANGED, CHANGED, DONE, steps=3, step=1)
    assert (verdict.runs, verdict.problems) == (2, [])
    assert lab.asked == ["0.yml", "1.yml", "2.yml", "2.yml"]


def test_a_run_that_fails_is_no_good_end_although_the_next_one_converges() -> None:
    verdict, _ = killed(FAILED, CHANGED, CHANGED, DONE)
    assert verdict.runs == 2
    assert "it is stuck" in verdict.problems[0]


def test_a_walk_that_always_changes_something_never_converges() -> None:
    verdict, _ = killed(*[CHANGED] * 4)
    assert verdict.runs == 0
    assert "not converged after 2 runs" in verdict.problems[0]


def test_what_people_must_mend_is_told_apart() -> None:
    mended: list[object] = []
    verdict, lab = killed(FAILED, CHANGED, CHANGED, DONE, steps=2, remedies=(Remedy("T", "it is stuck", mended.append),))
    assert len(mended) == 1
    assert verdict.remedy == "it is stuck"
    assert verdict.problems == []
    assert lab.asked == ["0.yml", "0.yml", "1.yml", "1.yml"], "who mended it runs the same again, and then the next operator"


def test_what_another_task_may_leave_behind_is_not_to_be_mended() -> None:
    mended: list[object] = []
    verdict, _ = killed(FAILED, CHANGED, CHANGED, DONE, remedies=(Remedy("Initialise", "it is stuck", mended.append),))
    assert (mended, verdict.remedy) == ([], "")
    assert "it is stuck" in verdict.problems[0]


def test_secrets_that_a_run_replaces_are_looked_for_all_the_same(
    monkeypatch: pytest.MonkeyPatch, nobody_signs_in: list[str]
) -> None:
    shares = iter(["old", "old", "new", "newer"])
    asked: list[list[str]] = []
    monkeypatch.setattr(kills, "known", lambda *_: [Secret("share 0", next(shares))])

    def nothing_left(_: object, secrets: list[Secret], *__: object) -> list[str]:
        asked.append([each.value for each in secrets])
        return []

    monkeypatch.setattr(kills, "left", nothing_left)
    monkeypatch.setattr(kills.Walker, "_leaks", LEAKS)
    killed(CHANGED, DONE)
    assert asked == [["old"], ["old", "new"]]
    assert nobody_signs_in == []


def test_what_fails_after_people_mended_it_is_a_problem() -> None:
    verdict, _ = killed(FAILED, FAILED, DONE, remedies=(Remedy("T", "it is stuck", lambda _: None),))
    assert "it is stuck" in verdict.problems[0]


def test_a_secret_that_was_left_is_a_problem(nobody_signs_in: list[str]) -> None:
    nobody_signs_in.append("n1:/tmp/x holds share 0")
    verdict, _ = killed(CHANGED, DONE)
    assert verdict.problems == ["n1:/tmp/x holds share 0, right after the kill", "n1:/tmp/x holds share 0"]


def test_a_cluster_that_is_not_whole_is_a_problem() -> None:
    verdict, _ = killed(CHANGED, DONE, check=lambda *_: ["not whole"])
    assert verdict.problems == ["not whole"]


def test_a_walk_is_judged_by_what_its_reset_asked_for() -> None:
    lab: Any = MadeUp(CHANGED, DONE)
    walk = Walk("made-up", (Step("0.yml"),), lambda _: ("-e", "x=1"), lambda _, given: [f"given {given}"])
    assert Walker(lab, walk).kill(Place(0, Point("T", 0, "after"))).problems == ["given ('-e', 'x=1')"]


@pytest.mark.parametrize(
    ("levels", "problems"),
    [
        ({"n1": "debug", "n2": "debug"}, []),
        (
            {"n1": "info", "n2": "info"},
            ['n1 has log_level    = "info", not debug', 'n2 has log_level    = "info", not debug'],
        ),
        ({"n1": "debug", "n2": "info"}, ['n2 has log_level    = "info", not debug']),
    ],
)
def test_an_upgrade_brings_the_level_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, levels: dict[str, str], problems: list[str]
) -> None:
    lab: Any = SimpleNamespace(
        nodes=tuple(levels), ssh=lambda node, command: f'log_level    = "{levels[node]}"\n' if "grep" in command else ""
    )
    monkeypatch.setattr(kills, "serves", lambda *_: [])
    assert kills.upgraded(lab, ("-e", '{"vault_server_log_level": "debug"}')) == problems


def test_a_kill_after_a_task_that_changed_nothing_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MadeUp, "tells", TELLS_NO_CHANGE)
    verdict, _ = killed(CHANGED, DONE)
    assert verdict.changed == 0
    assert "the task changed nothing" in " ".join(verdict.problems)


def test_unless_nothing_was_left_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MadeUp, "tells", TELLS_NO_CHANGE)
    verdict, _ = killed(DONE, DONE)
    assert (verdict.changed, verdict.problems) == (0, [])


@pytest.mark.parametrize(
    ("late", "expected"),
    [
        ({}, False),
        ({"a": True, "b": True}, True),
        ({"a": True, "b": False}, False),
        ({"of an older recording": True}, False),
    ],
)
def test_a_walk_whose_kills_in_the_middle_were_all_late_is_found(late: dict[str, bool], expected: bool) -> None:
    places = [Place(0, Point(name, 0, kind)) for name in "ab" for kind in ("start", "middle")]
    for place in places:
        if place.point.kind == "start":
            report("w", Verdict(str(place)))
    for name, each in late.items():
        report("w", Verdict(str(Place(0, Point(name, 0, "middle"))), late=each))
    assert none_in_the_middle("w", places) is expected


@pytest.mark.parametrize("count", [1, 3, 6])
def test_a_sample_is_the_same_for_a_seed_and_spreads_over_tasks(count: int) -> None:
    places = [Place(0, Point(name, 0, kind)) for name in "abc" for kind in ("start", "middle", "after")]
    once = sample(places, count, seed=7)
    assert once == sample(places, count, seed=7)
    assert len(once) == count
    assert max(sum(each.point.name == name for each in once) for name in "abc") == -(-count // 3)
    assert once == [each for each in places if each in once]
    assert len({str(sample(places, 1, seed)) for seed in range(20)}) > 3


def test_a_report_has_the_last_verdict_on_each_place() -> None:
    report("w", Verdict("run 1: a, start", problems=["bad"]))
    report("w", Verdict("run 1: b, start", runs=1, seconds=2.5))
    report("w", Verdict("run 1: a, start", runs=2, remedy="mend it"))
    lines = table("w").splitlines()
    assert len(lines) == 3
    assert lines[1].split()[-4:] == ["?", "1", "2.5", "well"]
    assert lines[2].endswith("well, after people mended it: mend it")
