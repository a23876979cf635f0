"""Whether every member has the new keys of a rekey on its disk, so that nothing needs the old ones but old snapshots."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from .api import Api, in_parallel
from .bundle import Bundle
from .errors import SecretsError

# The others have what the leader has within moments; who takes longer is looked at again by every later run.
PATIENCE = 5.0
_POLL = 0.2
SEALED = -1  # instead of the index that a node has applied


def proven(bundle: Bundle, applied: dict[str, int], members: list[str]) -> Bundle:
    """Strike off the nodes that have the new keys, and let go of the old keys when none is left; pure.

    Args:
        bundle: the cluster's.
        applied: node → Raft index up to which it has applied entries, of nodes that are unsealed and told it.
        members: names of all members; a node that is none any more need not be waited for.
    """
    previous = bundle.previous
    if previous is None:
        return bundle
    left = tuple(
        name for name in previous.unproven if name in members and not previous.index <= applied.get(name, previous.index - 1)
    )
    if left == previous.unproven:
        return bundle
    return replace(bundle, serial=bundle.serial + 1, previous=replace(previous, unproven=left) if left else None)


def look(
    bundle: Bundle,
    apis: list[Api],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Bundle, list[str], list[str]]:
    """Ask the nodes, and return the bundle as it is now, sentences, and warnings.

    A node that may want the old keys and is open is given a moment to catch up.

    Args:
        bundle: the cluster's.
        apis: all members of the inventory. No login is needed.
        clock: s, monotonic.
        sleep: waits, s.
    """
    if bundle.previous is None:
        return bundle, [], []
    members = [api.node.name for api in apis]
    deadline = clock() + PATIENCE
    while True:
        applied = {}
        for api, index in zip(apis, in_parallel(apis, _applied), strict=True):
            if not isinstance(index, SecretsError):
                applied[api.node.name] = index
        now = proven(bundle, applied, members)
        left = now.previous.unproven if now.previous else ()
        if all(applied.get(name, SEALED) == SEALED for name in left) or clock() > deadline:
            break
        sleep(_POLL)
    if now.previous is None:
        return (
            now,
            ["Every member has the new keys on its disk: the old ones open nothing any more but older snapshots."],
            [],
        )
    return now, [], todo(now)


def todo(bundle: Bundle) -> list[str]:
    """Return what a rekey left to do, a sentence each; pure."""
    if bundle.pending is not None:
        return [
            f"A rekey is under way since {bundle.pending.started}: go on with playbooks/operate/rekey.yml, or see "
            "docs/runbooks/rekey.md for how to give it up."
        ]
    if bundle.previous is not None:
        return [
            f"{', '.join(bundle.previous.unproven)} may still want the keys from before the rekey at the next start: the "
            "bundle keeps them. Open it (playbooks/operate/unseal.yml), and run that again when it has caught up."
        ]
    return []


def _applied(api: Api) -> int:
    """Return the index that an open node has applied, SEALED for one that is not."""
    return SEALED if api.seal_status().sealed else api.raft_index()
