"""How a node stands in its cluster, asked on the node itself: whether it is settled, and its copy of the unseal bundle."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import node_state
from .members import Member, is_settled

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Seen:
    """What waiting for a node came to: `server` as vault_node_state has it, whether it settled, seconds waited."""

    server: Mapping[str, Any]
    settled: bool
    waited: float


def wait_until_settled(
    socket: Path,
    expected: Sequence[str],
    timeout: float,
    look: Callable[[Path], Mapping[str, Any]] = node_state.server_of,
) -> Seen:
    """Ask the server on this host until there is nothing left to wait for.

    Args:
        socket: its Unix socket.
        expected: Raft node ids that the inventory names.
        timeout: seconds to wait at most.
        look: how the server is asked.

    Returns:
        The last answer, settled or not.
    """
    start = time.monotonic()
    while True:
        server = look(socket)
        settled = is_settled(Member.from_node_state("", {"server": server}), expected)
        waited = time.monotonic() - start
        if settled or waited >= timeout:
            return Seen(server, settled, waited)
        time.sleep(_POLL_SECONDS)


def bundle_copy(path: Path) -> dict[str, Any] | None:
    """Read a node's copy of the unseal bundle.

    Args:
        path: where it is kept.

    Returns:
        Its `content`, and `uid`, `gid` and `mode` as a drift of them matters too; None where there is none.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        with path.open(errors="replace") as handle:
            status = os.fstat(handle.fileno())
            return {
                "content": handle.read(),
                "uid": status.st_uid,
                "gid": status.st_gid,
                "mode": f"{status.st_mode & 0o7777:04o}",
            }
    except FileNotFoundError:
        return None


def root_attempt(socket: Path, path: str, record: str) -> dict[str, Any]:
    """Tell of an attempt at a root token: what our runs remember of one, and what is under way, whosever it is.

    Args:
        socket: the server's Unix socket.
        path: of the endpoint, below /v1/; empty: it is not asked.
        record: file of what is remembered; empty: it is not read.

    Returns:
        `record`, text; `attempt`, the server's answer, None where there is none; `now`, the node's time in whole seconds
        since the epoch: what the server tells of tokens is compared with this, and not with a controller's clock.
    """
    try:
        text = Path(record).read_text(errors="replace") if record else ""
    except OSError:
        text = ""
    try:
        attempt = json.loads((node_state.ask(socket, path) if path else None) or "null")
    except ValueError:
        attempt = None
    return {"record": text, "attempt": attempt, "now": float(int(time.time()))}
