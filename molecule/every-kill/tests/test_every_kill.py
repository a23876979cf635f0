"""Operators' playbooks, killed at every task that changes something: the next runs converge, and nothing secret is left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kills import Place, Walk, Walker, chosen, report, table
from lab import Lab


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Record each walk, and make a test of each place."""
    lab = Lab()
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
