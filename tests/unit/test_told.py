"""What roles/vault_cluster tells people at the end of a run, rendered by Ansible itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROLE = Path(__file__).resolve().parents[2] / "roles/vault_cluster"
KEY = {"before": {"term": 1, "install_time": "2026-11-23T10:00:00Z", "encryptions": 4711}, "after": {"term": 2}}


def told(text: object, *, check_mode: bool = False, **variables: Any) -> Any:
    """Render a text with the role's own variables."""
    own = DataLoader().load_from_file(str(ROLE / "vars/main.yml"), trusted_as_template=True)
    return Templar(DataLoader(), variables={**own, "ansible_check_mode": check_mode, **variables}).template(text)


def last_words(file: str) -> object:
    """Return what the last task of a file shows, before it is rendered."""
    tasks = DataLoader().load_from_file(str(ROLE / "tasks" / file), trusted_as_template=True)
    return tasks[-1]["ansible.builtin.debug"]["msg"]


def rotation(*, check_mode: bool = False, interval: object = None) -> list[str]:
    rotated = {**KEY, "automatic": {"enabled": True, "max_operations": 3865470566, "interval": interval}}
    shown: list[str] = told(last_words("rotate-encryption-key.yml"), check_mode=check_mode, vault_cluster_rotated=rotated)
    return shown


def discarded(*, cancelled: bool, check_mode: bool) -> list[str]:
    text = last_words("discard_root.yml")
    seen = {
        "vault_cluster_root_token": {"messages": [], "record": "{}"},
        "__vault_cluster_cancelled": {"changed": cancelled},
    }
    shown: list[str] = told(text, check_mode=check_mode, **seen)
    return shown


def test_a_key_that_was_rotated() -> None:
    assert "4711 times; from now on it is key 2. What is stored" in rotation()[0]


def test_a_key_that_check_mode_does_not_rotate() -> None:
    assert "Encryption key 1 of" in rotation(check_mode=True)[0]
    assert "4711 times; it would become key 2. What is stored" in rotation(check_mode=True)[0]


@pytest.mark.parametrize(("interval", "expected"), [("2160h0m0s", " or 2160h0m0s."), (0, "."), (None, "."), ("", ".")])
def test_when_the_server_rotates_it_by_itself(interval: object, expected: str) -> None:
    """An interval is a duration as Go writes it, and none is 0, or nothing."""
    assert rotation(interval=interval)[1] == f"By itself the server rotates it after 3865470566 operations{expected}"


@pytest.mark.parametrize(
    ("cancelled", "check_mode", "expected"),
    [
        (True, False, ["The attempt that was under way is cancelled."]),
        (True, True, ["The attempt that was under way would be cancelled."]),
        (False, True, []),
    ],
)
def test_what_discarding_did_or_would_do(cancelled: bool, check_mode: bool, expected: list[str]) -> None:
    assert discarded(cancelled=cancelled, check_mode=check_mode) == expected


def test_what_discarding_leaves_to_the_next_run_is_told() -> None:
    assert "the next playbooks/operate/generate-root.yml revokes it" in discarded(cancelled=False, check_mode=False)[0]
