"""The stage of the story: DNS, a user and the updates under watch from the first fault to the last."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab import PROJECT, Lab
from rounds import HEADER, Stage, keep, row

STAGE = pytest.StashKey[Stage]()


@pytest.fixture(scope="session")
def stage(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The lab, well and under watch. What each fault cost is in artefacts/failover.json at the end."""
    one = Stage(lab)
    request.config.stash[STAGE] = one
    with one.watched():
        one.ready()
        yield one
    keep(one.rounds, PROJECT / "artefacts/failover.json")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what each fault cost."""
    one = config.stash.get(STAGE, None)
    if one is not None:
        terminalreporter.section("what each fault cost")
        terminalreporter.line(HEADER)
        for each in one.rounds:
            terminalreporter.line(row(each))
