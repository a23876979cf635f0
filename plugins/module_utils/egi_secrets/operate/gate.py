"""Asking the cluster how it stands, over and over, until the next node may take its turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from ..api import Api
from ..cluster import NodeState, applied, observe_nodes
from ..errors import ReconcileError, RefusedError, SecretsError, UnreachableError
from ..reconcile.server import Server
from . import session
from .rolling import Seen, Standing, gate_problems

AUTOPILOT = "sys/storage/raft/autopilot/state"
_PAUSE = 0.2

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Passed:
    """How the cluster stood in the end.

    Attributes:
        leader: name of the node that leads; empty where none does.
        problems: sentences, none of them when the next node may take its turn.
    """

    leader: str
    problems: Sequence[str]


def await_well(
    params: Mapping[str, Any], apis: list[Api], versions: Mapping[str, str], patience: float, *, tolerance: int = 1
) -> Passed:
    """Wait until nothing is amiss.

    Args:
        params: a module's, with `session.LOGIN`.
        apis: all members'.
        versions: node → version that it must run by now.
        patience: seconds to wait at most.
        tolerance: members that the cluster must be able to lose.

    Raises:
        ReconcileError: nobody is at the keyboard, or the login was refused.
    """
    deadline = time.monotonic() + patience
    with Leader(params) as leader:
        while True:
            states = observe_nodes(apis)
            seen = {each.name: Seen(each.role, each.status.version if each.status else "") for each in states}
            standing = leader.ask(apis, states, _standing)
            if standing is not None:
                standing = standing.with_indexes(applied(apis, states))
            problems = gate_problems(seen, standing, versions, tolerance=tolerance)
            if not problems or time.monotonic() > deadline:
                if problems and leader.refusal is not None:
                    raise leader.refusal
                return Passed(leader.name, problems)
            time.sleep(_PAUSE)


def _standing(server: Server) -> Standing:
    return Standing.from_autopilot(server.read(AUTOPILOT) or {})


class Leader:
    """The node that leads, logged in to for as long as it does."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.name = ""
        self.refusal: ReconcileError | None = None  # of the last login; a node that takes over refuses some
        self._params = params
        self._stack = ExitStack()
        self._server: Server | None = None

    def __enter__(self) -> Leader:
        return self

    def __exit__(self, *what: object) -> None:
        self._leave()

    def ask(self, apis: list[Api], states: Sequence[NodeState], question: Callable[[Server], Answer]) -> Answer | None:
        """Return what it answers; None where there is no leader, or it would not say.

        Args:
            apis: all members'.
            states: what they said of themselves just now.
            question: what is asked of it, acting as an operator.
        """
        active = [each.name for each in states if each.role == "active"]
        if len(active) != 1:
            return None
        if active[0] != self.name:
            self._leave()
            node = next(api.node for api in apis if api.node.name == active[0])
            try:
                self._server = self._stack.enter_context(session.as_operator(self._params, node))
            except ReconcileError as error:
                self.refusal = error
                return None
            except UnreachableError:
                return None
            self.refusal = None
            self.name = active[0]
        try:
            return question(self._server) if self._server else None
        except (RefusedError, UnreachableError):  # it leads no more, perhaps
            self._leave()
        except (KeyError, TypeError, ValueError):
            pass
        return None

    def _leave(self) -> None:
        self.name = ""
        self._server = None
        with suppress(SecretsError):  # the login of a node that is gone ends by itself
            self._stack.close()
        self._stack = ExitStack()
