from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible.module_utils.egi_secrets import cluster as members
from ansible.module_utils.egi_secrets.api import Api
from ansible.module_utils.egi_secrets.errors import NoLeaderError
from ansible.module_utils.egi_secrets.operate import session


class Member:
    """The API of a member that becomes active when its health is asked for the n-th time."""

    def __init__(self, name: str, leads_from: int) -> None:
        self.node = SimpleNamespace(name=name)
        self.asked = 0
        self._leads_from = leads_from

    def health(self) -> Any:
        self.asked += 1
        return SimpleNamespace(role="active" if self.asked >= self._leads_from else "standby", second=self.asked)


def cluster(*members: Member) -> list[Api]:
    return cast("list[Api]", list(members))


def test_an_election_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "_PAUSE", 0.0)

    node, second = session.leader_of(cluster(Member("a", leads_from=99), Member("b", leads_from=3)))

    assert (node.name, second) == ("b", 3)


def test_who_has_no_patience_is_told_at_once() -> None:
    member = Member("a", leads_from=2)

    with pytest.raises(NoLeaderError, match="no active node"):
        session.leader_of(cluster(member), patience=0.0)

    assert member.asked == 1
