"""One screen that tells how the service stands and what needs doing, from what each node says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .members import Member, member_problems

TLS_DAYS = 30  # a certificate that ends sooner needs doing
DISK_PERCENT = 10.0  # less room than this on a filesystem of the server needs doing
_DAY = 86_400.0
_HOUR = 3_600.0


class RootToken(Protocol):
    """What the unseal bundle knows of the first root token."""

    @property
    def operator(self) -> str:
        """Who can decrypt it."""

    @property
    def revoked_at(self) -> str | None:
        """When it was revoked, None while it is valid."""


@dataclass(frozen=True)
class Status:
    """How the service stands.

    Attributes:
        rows: one for each node, in the columns of `HEADINGS`.
        members: a sentence about the cluster as a whole.
        todo: what needs doing, and by which runbook; empty when all is well.
        notes: what an operator should know and need not act on at once.
    """

    rows: list[list[str]]
    members: str
    todo: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def screen(self) -> str:
        """Lay it out for a person."""
        table = [list(HEADINGS), *self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
        lines += ["", self.members, ""]
        lines += [f"To do: {what}" for what in self.todo] or ["Nothing needs doing."]
        lines += [f"Note: {what}" for what in self.notes]
        return "\n".join(lines)


HEADINGS = ("NODE", "SITE", "STATE", "VERSION", "UP", "APPLIED", "TLS", "DISK FREE", "RESTART")


def status_of(
    hosts: Sequence[Mapping[str, Any]], root_token: RootToken | None, bundle_problems: Sequence[str] = ()
) -> Status:
    """Put together what the nodes say.

    Args:
        hosts: of each node `node_id`, `site` and `state`, which is what the module vault_node_state returned, or None
            where the host was not reached.
        root_token: the first root token as the unseal bundle has it, or None where no copy of a bundle was found.
        bundle_problems: what is wrong with the nodes' copies of the bundle.

    Returns:
        The service's status.
    """
    expected = [str(host["node_id"]) for host in hosts]
    members = [Member.from_node_state(str(host["node_id"]), host["state"]) for host in hosts if host["state"]]
    todo = [*member_problems(members, expected), *bundle_problems]
    for host in hosts:
        if host["state"]:
            todo += _todo_of(str(host["node_id"]), host["state"])
    return Status(
        rows=[_row(str(host["node_id"]), str(host["site"]), host["state"]) for host in hosts],
        members=_members(members),
        todo=todo,
        notes=_notes(root_token),
    )


def _members(members: Sequence[Member]) -> str:
    active = [member for member in members if member.active and member.autopilot]
    if not active or not active[0].autopilot:
        return "No node that was reached leads the cluster."
    autopilot = active[0].autopilot
    health = "healthy" if autopilot.healthy else "not healthy"
    return (
        f"{active[0].name} leads {len(autopilot.nodes)} servers; autopilot calls them {health}, "
        f"and the cluster survives the loss of {autopilot.failure_tolerance}."
    )


def _row(name: str, site: str, state: Mapping[str, Any] | None) -> list[str]:
    if not state:
        return [name, site, "unreachable", *["-"] * (len(HEADINGS) - 3)]
    member = Member.from_node_state(name, state)
    process, server = state["process"] or {}, state["server"] or {}
    served = state["tls"]["served"] or state["tls"]["file"]
    room = [fs["free_percent"] for fs in state["filesystems"].values() if fs]
    return [
        name,
        site,
        _state_word(member, running=bool(state["running"])),
        str(state["versions"]["running"] or "-"),
        _duration(state["time"] - process["started"]) if process else "-",
        str(server.get("applied_index") or "-"),
        f"{_days_left(served, state['time']):.0f} d" if served else "-",
        f"{min(room):.0f} %" if room else "-",
        "pending" if state["restart_pending"] else "-",
    ]


def _state_word(member: Member, *, running: bool) -> str:
    if not running:
        return "stopped"
    if not member.answers:
        return "no answer"
    if not member.initialized:
        return "not joined"
    if member.sealed:
        return "sealed"
    return "active" if member.active else "standby"


def _todo_of(name: str, state: Mapping[str, Any]) -> list[str]:
    todo = []
    if not state["running"]:
        todo.append(f"The server on {name} is stopped. Start it (systemctl start on the host), then unseal it.")
    if state["restart_pending"]:
        todo.append(
            f"Restart pending on {name}: {'; '.join(state['restart_pending'])}. See docs/runbooks/restart-pending.md."
        )
    if state["reload_pending"]:
        todo.append(f"Reload pending on {name}: {'; '.join(state['reload_pending'])}. Run playbooks/site.yml.")
    if state["tls"]["error"]:
        todo.append(
            f"Clients do not trust what {name} serves: {state['tls']['error']}. Mend its certificate and run site.yml."
        )
    served = state["tls"]["served"] or state["tls"]["file"]
    if served and _days_left(served, state["time"]) < TLS_DAYS:
        todo.append(f"The certificate of {name} ends on {served['not_after']}. Get a new one and run playbooks/site.yml.")
    for path, room in state["filesystems"].items():
        if room and room["free_percent"] < DISK_PERCENT:
            todo.append(
                f"Only {room['free_percent']} % is free where {path} lies on {name}. A full audit disk stops the server."
            )
    return todo


def _notes(root_token: RootToken | None) -> list[str]:
    if root_token is None:
        return ["No node that answered has an unseal bundle. See docs/key-ceremony.md."]
    if root_token.revoked_at is None:
        return [
            f"The first root token is still valid; {root_token.operator} can decrypt it. Once operators can log in, revoke "
            "it with playbooks/operate/revoke-root.yml."
        ]
    return []


def _days_left(certificate: Mapping[str, Any], now: float) -> float:
    return (float(certificate["not_after_seconds"]) - now) / _DAY


def _duration(seconds: float) -> str:
    if seconds >= _DAY:
        return f"{seconds / _DAY:.0f} d"
    if seconds >= _HOUR:
        return f"{seconds / _HOUR:.0f} h"
    return f"{seconds / 60:.0f} min"
