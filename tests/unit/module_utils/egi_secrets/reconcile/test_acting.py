"""Logging out, also right after leadership has moved, when the node may not know yet who leads: the token must go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from ansible.module_utils.egi_secrets.api import Secret
from ansible.module_utils.egi_secrets.errors import ReconcileError, RefusedError, SecretsError, UnreachableError
from ansible.module_utils.egi_secrets.reconcile import acting
from ansible.module_utils.egi_secrets.reconcile.server import Server

NO_LEADER = RefusedError("n1", 500, ["local node not active but active cluster node not found"], "")
REDIRECT = RefusedError("n1", 307, [], "")  # it knows who leads, and has no connection there yet
ALICE = acting.Credentials(Secret(""), Secret("jwt"), "jwt", "operator", None, [])


@dataclass
class Node:
    """A node that lets alice in, and answers each logout with the next of some errors, None where it succeeds."""

    errors: list[SecretsError | None]
    revoked: list[str] = field(default_factory=list)

    def act_with(self, _token: Secret) -> None:
        """Whoever asks is asked no further."""

    def request(
        self, _method: str, path: str, _body: Mapping[str, Any] | None = None, *, token: Secret | None = None
    ) -> object:
        assert path == "auth/token/revoke-self"
        assert token
        if error := self.errors.pop(0):
            raise error
        self.revoked.append(token.reveal())
        return {}

    @property
    def server(self) -> Server:
        return cast("Server", self)


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting, "log_in", lambda *_arguments: (Secret("hers"), {}))
    monkeypatch.setattr(acting, "_PAUSE", 0.001)


@pytest.mark.parametrize("between", [NO_LEADER, REDIRECT, UnreachableError("n1", "it did not answer")])
def test_a_logout_is_tried_again_until_a_leader_is_known(between: SecretsError) -> None:
    node = Node([between, between, None])
    with acting.acting(node.server, ALICE):
        pass
    assert node.revoked == ["hers"]


def test_a_refused_logout_is_an_error_at_once() -> None:
    node = Node([RefusedError("n1", 403, ["permission denied"], "refused"), None])
    with pytest.raises(RefusedError, match="refused"), acting.acting(node.server, ALICE):
        pass
    assert node.revoked == []


def test_a_logout_that_never_gets_through_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting, "ELECTION", 0.05)
    node = Node([NO_LEADER] * 10_000)
    with pytest.raises(RefusedError), acting.acting(node.server, ALICE):
        pass


def test_a_login_is_tried_again_where_the_node_has_just_stepped_down(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[object] = [REDIRECT, REDIRECT, (Secret("hers"), {})]
    monkeypatch.setattr(acting, "log_in", lambda *_arguments: _given(answers.pop(0)))
    node = Node([None])
    with acting.acting(node.server, ALICE):
        pass
    assert (node.revoked, answers) == (["hers"], [])


def test_a_refused_login_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[object] = [RefusedError("n1", 400, ["token is expired"], ""), None]
    monkeypatch.setattr(acting, "log_in", lambda *_arguments: _given(answers.pop(0)))
    with pytest.raises(ReconcileError, match=r"token is expired.*OIDC_ACCESS_TOKEN"), acting.acting(Node([]).server, ALICE):
        pass
    assert len(answers) == 1


def _given(answer: object) -> object:
    if isinstance(answer, Exception):
        raise answer
    return answer


def test_what_went_wrong_first_is_what_counts() -> None:
    node = Node([NO_LEADER])
    with pytest.raises(ValueError, match="first"), acting.acting(node.server, ALICE):
        raise ValueError("first")
