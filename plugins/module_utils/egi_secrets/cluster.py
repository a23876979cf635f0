"""What every step needs to know first: which nodes answer, and what they say they are."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from .api import Api, Health, SealStatus, in_parallel
from .errors import NoLeaderError, SecretsError, UnreachableError
from .raft import ELECTION

_PAUSE = 0.2


@dataclass(frozen=True)
class NodeState:
    """What one node said.

    Args:
        name: inventory name.
        role: active, standby, sealed, uninitialised, or unreachable.
        status: its seal status, None when unreachable.
        problem: why it is unreachable, a sentence; otherwise empty.
    """

    name: str
    role: str
    status: SealStatus | None
    problem: str = ""

    @property
    def initialized(self) -> bool:
        """Whether it says that it is initialised; a node that has not joined says no."""
        return self.status is not None and self.status.initialized

    @property
    def sealed(self) -> bool:
        """Whether it is initialised and needs shares."""
        return self.status is not None and self.status.initialized and self.status.sealed

    @property
    def cluster_id(self) -> str:
        """The cluster's id; only an unsealed node tells it."""
        return self.status.cluster_id if self.status else ""

    def brief(self) -> dict[str, object]:
        """Return what a diff shows."""
        return {"role": self.role, "progress": self.status.progress if self.status else None}

    def result(self) -> dict[str, object]:
        """Return the state as a module returns it."""
        return {
            "name": self.name,
            "role": self.role,
            "problem": self.problem,
            **(asdict(self.status) if self.status else {"initialized": None, "sealed": None}),
        }


def observe_node(api: Api) -> NodeState:
    """Return the state of one node; a node that does not answer is a state, not an error."""
    name = api.node.name
    try:
        role = api.health().role
    except SecretsError as error:
        return NodeState(name, "unreachable", None, str(error))
    try:
        return NodeState(name, role, api.seal_status())
    except UnreachableError:
        # Its join waits for a key that never comes (see unseal.py): sys/health answers, everything else hangs.
        return NodeState(name, "unreachable", None, wedged_sentence(name))
    except SecretsError as error:
        return NodeState(name, "unreachable", None, str(error))


def observe_nodes(apis: list[Api]) -> list[NodeState]:
    """Return the state of every node, asked at the same time."""
    return [_state(state) for state in in_parallel(apis, observe_node)]


def active_node(apis: list[Api], patience: float = ELECTION) -> tuple[Api, Health]:
    """Return the active node, where what is read is what was written, and its health.

    Args:
        apis: the members' APIs.
        patience: seconds to wait for one to lead; an election may be going on.

    Raises:
        NoLeaderError: no node that answers is active.
    """
    deadline = time.monotonic() + patience
    while True:
        for api, health in zip(apis, in_parallel(apis, lambda api: api.health()), strict=True):
            if not isinstance(health, SecretsError) and health.role == "active":
                return api, health
        if time.monotonic() >= deadline:
            break
        time.sleep(_PAUSE)
    raise NoLeaderError(
        "The cluster has no active node: unseal a majority of its members first (playbooks/operate/unseal.yml)."
    )


def applied(apis: list[Api], states: Sequence[NodeState]) -> dict[str, int]:
    """Return node → the Raft index up to which it has applied entries, by its own word; of nodes that are open and tell.

    The leader's autopilot hears of a follower's index every few seconds only (OpenBao 2.7), which under load is hundreds of
    entries. The leader is asked before the others, so that nobody who keeps up seems to be behind.
    """
    roles = {state.name: state.role for state in states}
    found: dict[str, int] = {}
    for role in ("active", "standby"):
        asked = [api for api in apis if roles.get(api.node.name) == role]
        for api, index in zip(asked, in_parallel(asked, lambda api: api.raft_index()), strict=True):
            if not isinstance(index, SecretsError):
                found[api.node.name] = index
    return found


def by_name(states: list[NodeState]) -> Mapping[str, NodeState]:
    """Return the states by node name."""
    return {state.name: state for state in states}


def wedged_sentence(name: str) -> str:
    """Return what to do about a server that answers sys/health and nothing else."""
    return (
        f"{name} answers sys/health but hangs on all else: while it was joining it was given a share that is not of "
        "this cluster, by somebody or from another bundle, and waits for good. Restart its server (systemctl restart "
        "on that host; a member that has not joined holds no data) and run this again."
    )


def _state(result: NodeState | SecretsError) -> NodeState:
    if isinstance(result, SecretsError):  # observe_node returns those as states
        raise result
    return result
