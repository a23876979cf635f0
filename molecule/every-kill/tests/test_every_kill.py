"""Operators' playbooks, killed at every task that changes something: the next runs converge, and nothing secret is left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kills import Place, Walk, Walker, chosen, none_in_the_middle, report, table
from lab import Lab


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Record each walk, and make a test of each place."""
    lab = Lab()
    if "place" not in metafunc.fixturenames:
        metafunc.parametrize("walk", chosen(), ids=lambda walk: walk.name)
        return
    cases = [(walk, place, number) for walk in chosen() for number, place in enumerate(Walker(lab, walk).places())]
    names = [f"{walk.name}-{number:03} {place}" for walk, place, number in cases]
    metafunc.parametrize(("walk", "place"), [(walk, place) for walk, place, _ in cases], ids=names)


@pytest.fixture(scope="session", autouse=True)
def told(request: pytest.FixtureRequest) -> Iterator[None]:
    """Print what was seen, in the end."""
    yield
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        for walk in chosen():
            print(f"\n{table(walk.name)}")


def test_killed_and_run_again(lab: Lab, walk: Walk, place: Place) -> None:
    verdict = Walker(lab, walk).kill(place)
    report(walk.name, verdict)
    assert verdict.problems == []
    assert verdict.runs <= len(walk.steps)


def test_some_task_was_killed_in_its_middle(lab: Lab, walk: Walk) -> None:
    """After all kills: a machine that is faster than the recording would have none of them in time."""
    late = none_in_the_middle(walk.name, Walker(lab, walk).places())
    assert not late, f"All tasks were over before the kill: remove artefacts/kills-{walk.name}-recorded.json."
