"""site.yml on bare hosts, killed at every task that changes something: the next runs converge."""

from __future__ import annotations

import pytest
from lab import Lab

CHANGING = [
    "Have a user for the server",
    "Copy the binary",
    "Write configuration, units and log rotation",
    "Write TLS files",
    "Open the cluster port",
    "Have the server started",
    "Initialise the cluster",
    "Keep a copy of the unseal bundle",
    "Submit the shares",
]


@pytest.mark.parametrize("late", [False, True], ids=["right before", "right after"])
@pytest.mark.parametrize("task", CHANGING)
def test_killed_and_run_again(lab: Lab, task: str, *, late: bool) -> None:
    lab.wipe(hosts=True)
    seen: list[int] = []

    def here(header: str, number: int) -> bool:
        if task in header and not seen:
            seen.append(number)
        return bool(seen) and number == seen[0] + late

    killed = lab.kill_at("deploy/vault.yml", here)
    assert killed.returncode < 0, killed.output[-3000:]
    begun = lab.bundle()["bundle_id"] if (lab.state / "unseal-bundle.json").exists() else None
    first = lab.run("deploy/vault.yml")
    assert first.returncode == 0, first.output[-3000:]
    lab.play("operate/unseal.yml", operator="bob")
    lab.play("operate/unseal.yml", operator="alice")
    assert begun in (None, lab.bundle()["bundle_id"])
    assert lab.play("deploy/vault.yml").recap("changed") == 0
