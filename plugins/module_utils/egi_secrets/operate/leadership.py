"""Handing leadership over: the node that leads steps down, and another one is seen to lead."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

from ..api import Api, in_parallel
from ..errors import LeadershipError, RefusedError, SecretsError, UnreachableError
from ..raft import ELECTION
from ..reconcile.server import Server

# A node that has stepped down is as good a candidate as the others, and may win again.
ATTEMPTS = 5
_PAUSE = 0.1


@dataclass(frozen=True)
class Handover:
    """What came of it.

    Attributes:
        leader: the node that leads now.
        attempts: how often the node was asked to step down; 0: it did not lead.
        seconds: from the first request until another node was seen to lead.
    """

    leader: str
    attempts: int
    seconds: float


def hand_over(server: Server, apis: list[Api], leaver: str) -> Handover:
    """Have a node give leadership to another.

    Args:
        server: the leaver's API, acting as an operator.
        apis: all members' APIs.
        leaver: name of the node that is not to lead.

    Raises:
        LeadershipError: nobody else took over.
    """
    began = time.monotonic()
    for attempt in range(ATTEMPTS + 1):
        leader = _await_leader(apis)
        if leader != leaver:
            return Handover(leader, attempt, round(time.monotonic() - began, 2))
        if attempt < ATTEMPTS:
            with suppress(UnreachableError):  # the connection may go with the leadership
                _step_down(server)
            _await_change(apis, leaver)
    raise LeadershipError(
        f"{leaver} was asked {ATTEMPTS} times to step down and leads again each time: see whether the others are healthy "
        "and have caught up (playbooks/operate/show-status.yml)."
    )


def _step_down(server: Server) -> None:
    try:
        server.request("POST", "sys/step-down", {})
    except RefusedError as error:
        raise LeadershipError(
            f"{server.node.name} would not step down: HTTP {error.status}, "
            f"{'; '.join(error.reasons) or 'without a reason'}. "
            "A node whose audit devices cannot be written refuses; see its disk and journal."
        ) from None


def _leaders(apis: list[Api]) -> list[str]:
    answers = in_parallel(apis, lambda api: api.health())
    return [
        api.node.name
        for api, health in zip(apis, answers, strict=True)
        if not isinstance(health, SecretsError) and health.role == "active"
    ]


def _await_leader(apis: list[Api]) -> str:
    deadline = time.monotonic() + ELECTION
    while time.monotonic() < deadline:
        found = _leaders(apis)
        if len(found) == 1:
            return found[0]
        time.sleep(_PAUSE)
    raise LeadershipError(
        f"No node, or more than one, called itself active for {ELECTION:g} s: look at the members with "
        "playbooks/operate/show-status.yml."
    )


def _await_change(apis: list[Api], leaver: str) -> None:
    """Wait for the leaver to have stepped down; that it wins the election again at once may look as if it had not."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline and _leaders(apis) == [leaver]:
        time.sleep(_PAUSE)
