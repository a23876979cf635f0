"""The upgrade, killed where chance says, while users work. After test_upgrade.py, which leaves a configured service.

What chance says is the same each time; the story `every-kill` goes through all places.
"""

from __future__ import annotations

import random

import pytest
from kills import UPGRADE, Walker, report
from lab import Lab

pytestmark = pytest.mark.long
CHANGES = sorted(random.Random(5).sample(range(2, 13), 2))  # noqa: S311  # nothing secret


@pytest.mark.parametrize("changes", CHANGES)
def test_killed_and_run_again(lab: Lab, changes: int) -> None:
    verdict = Walker(lab, UPGRADE).kill_after(changes)
    report(UPGRADE.name, verdict)
    assert verdict.problems == []
    assert verdict.runs == 1
