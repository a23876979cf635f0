"""The status as one screen: a line a node, where the names are, and what needs doing. No line is wider than `WIDTH`."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Mapping
from typing import Any

from .status import NodeStatus, Status

WIDTH = 110
HEADINGS = ("NODE", "SITE", "STATE", "VERSION", "UP", "VOTER", "LAG", "CLOCK", "TLS", "DISK", "AUDIT", "RESTART")
_DAY, _HOUR, _MINUTE = 86_400.0, 3_600.0, 60.0


def screen(status: Status) -> str:
    """Lay a status out for a person."""
    table = [list(HEADINGS), *(_row(node) for node in status.nodes)]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    lines += ["", *_wrapped(status.cluster), *_facts(status), ""]
    lines += [line for todo in status.todo for line in _wrapped(f"To do: {todo}")] or ["Nothing needs doing."]
    lines += [line for note in status.notes for line in _wrapped(f"Note: {note}")]
    return "\n".join(lines)


def _facts(status: Status) -> Iterator[str]:
    for name, servers in status.names.items():
        places = set(servers.values())
        where = f"at {places.pop()}" if len(places) == 1 else "at different places"
        yield from _wrapped(f"{name} is {where} ({'; '.join(f'{server}: {at}' for server, at in servers.items())}).")
    for site, hold in status.holds.items():
        yield from _wrapped(f"{site} is held {_hold(hold)}.")
    if status.lock is not None:
        yield from _wrapped(status.lock or "Nobody is changing the service.")
    if status.snapshot:
        yield from _wrapped(
            f"The newest snapshot on this controller, {status.snapshot[0]}, is {duration(status.snapshot[1])} old."
        )


def _hold(hold: Mapping[str, Any]) -> str:
    until = int(hold.get("until") or 0)
    limit = f"until {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(until))}" if until else "until it is released"
    return f"{limit} by {hold.get('by') or 'somebody'} ({hold.get('why') or 'no reason given'})"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _row(node: NodeStatus) -> list[str]:
    return [
        node.node,
        node.site,
        node.state,
        node.version or "-",
        _or_dash(node.up, duration),
        "?" if node.voter is None else "yes" if node.voter else "NO",
        _or_dash(node.behind, str),
        "-" if node.clock is None else clock(*node.clock),
        _or_dash(node.tls_days, lambda days: f"{days:.0f} d"),
        _or_dash(node.disk_free, lambda percent: f"{percent:.0f} %"),
        _or_dash(node.audit_age, duration),
        "pending" if node.restart_pending else "-",
    ]


def _or_dash(value: Any, told: Any) -> str:  # noqa: ANN401 - a number, and how it is told
    return "-" if value is None else str(told(value))


def clock(offset: float, unsure: float) -> str:
    """Tell how far a clock is ahead: in ms as long as that says something, and nothing finer than what is known."""
    if abs(offset) <= unsure:
        return f"<{max(1, round(unsure * 1000))} ms"
    return f"{offset:+.1f} s" if abs(offset) >= 1 else f"{offset * 1000:+.0f} ms"


def duration(seconds: float) -> str:
    """Tell a duration in its largest unit."""
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
