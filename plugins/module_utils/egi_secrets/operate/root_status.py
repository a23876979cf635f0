"""What show-status tells of root tokens from shares: an attempt under way, ours or a stranger's, and a token that is out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .root_record import newest
from .root_shares import DISCARD, PLAYBOOK, moment


def todo(records: Iterable[str], attempts: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    """Say what needs doing; pure.

    Args:
        records: what the nodes remember.
        attempts: what sys/generate-root/attempt answered on each.
        now: seconds since the epoch.
    """
    record = newest(records)
    started = {str(attempt.get("nonce")) for attempt in attempts if attempt.get("started")}
    told = []
    if record is not None and record.granted(now):
        told.append(
            f"{record.operator} has a root token until {moment(record.expires)} (accessor {record.accessor}). Its work "
            f"done, {record.operator} ends it with {DISCARD}."
        )
    elif record is not None and record.message:
        told.append(
            f"A root token for {record.operator} is made and not handed over; it never ends by itself. {record.operator} "
            f"runs {PLAYBOOK}, or {DISCARD}."
        )
    elif record is not None and record.collecting:
        told.append(
            f"An attempt at a root token for {record.operator} is under way since {moment(record.since)}. Go on with "
            f"{PLAYBOOK} -e operator={record.operator}, or give it up with {DISCARD}."
        )
    if strangers := started - ({record.nonce, *record.earlier} if record is not None else set()):
        told.append(
            f"An attempt at a root token is under way that no run of ours started ({', '.join(sorted(strangers))}), unless "
            "one was cut off as it began, or the node that leads had it when it led before: the server keeps it in memory. "
            f"It is worth nothing without a threshold of shares. Give it none; {DISCARD} cancels it."
        )
    return told
