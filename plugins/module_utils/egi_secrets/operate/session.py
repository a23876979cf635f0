"""An operator's own login for one deed, on the node that leads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .. import arguments
from ..api import Api, Node, Secret
from ..cluster import active_node
from ..raft import ELECTION
from ..reconcile.acting import Credentials, acting
from ..reconcile.server import Server

# What an operator does by hand is a few requests.
_CONCURRENCY = 4

LOGIN: arguments.Spec = {
    "token": {"type": "str", "default": "", "no_log": True},
    "jwt": {"type": "str", "default": "", "no_log": True},
    "login_path": {"type": "str", "default": "jwt"},
    "login_role": {"type": "str", "default": "operator"},
}


def leader_of(apis: list[Api], patience: float = ELECTION) -> tuple[Node, int]:
    """Return the node that leads, and its clock in whole seconds since the epoch.

    Args:
        apis: the members' APIs.
        patience: seconds to wait for one to lead; an election may be going on.

    Raises:
        NoLeaderError: no node that answers is active.
    """
    api, health = active_node(apis, patience)
    return api.node, health.second


@contextmanager
def as_operator(params: Mapping[str, Any], node: Node) -> Iterator[Server]:
    """Log in at a node, and log out afterwards.

    Args:
        params: a module's, with `arguments.CONNECTION` and `LOGIN`.
        node: where.

    Yields:
        Its API, acting as the operator.

    Raises:
        ReconcileError: nobody is at the keyboard, or the login was refused.
    """
    credentials = Credentials(
        Secret(params["token"].strip()), Secret(params["jwt"].strip()), params["login_path"], params["login_role"], None, []
    )
    with Server(node, params["ca_file"], params["timeout"], _CONCURRENCY) as server, acting(server, credentials):
        yield server
