"""What TLS listeners serve, and what needs doing about certificates and their CA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .todo import INDEX, ROTATE, Todo

TLS_DAYS = 30  # a certificate that ends sooner needs doing
CA_DAYS = 120  # and so does a CA: another one takes three steps, with time for users between them
_DAY = 86_400.0


def tls_todo(name: str, state: Mapping[str, Any]) -> list[Todo]:
    """Say what is amiss with what a node serves.

    Args:
        name: its Raft node id.
        state: what the module vault_node_state returned of it.
    """
    todo = _listeners_todo(name, state["tls"]["listeners"]) if state["running"] else []
    # What is on disk counts as well where nothing is served: it will be.
    first = soonest(served_by(state)) or state["tls"]["file"]
    if first and days_left(first, state["time"]) < TLS_DAYS:
        ends = first["not_after"]
        todo.append(
            Todo(
                f"The certificate of {name} ends on {ends}. Get a new one and run operate/rotate-tls.yml, or site.yml "
                "where it has ended.",
                ROTATE,
            )
        )
    # A CA whose successor vouches as well may end: whoever trusts both is served.
    vouching = [each for each in state["tls"]["trust"] if each["sha256"] in state["tls"]["authorities"]]
    last = max(vouching, key=lambda each: float(each["not_after_seconds"]), default=None)
    if last and days_left(last, state["time"]) < CA_DAYS:
        todo.append(
            Todo(
                f"The CA {last['subject']}, which {name} leads to, ends on {last['not_after']}. Have certificates of "
                "another, in three steps.",
                ROTATE,
            )
        )
    return todo


def _listeners_todo(name: str, listeners: Sequence[Mapping[str, Any]]) -> list[Todo]:
    """Say on which ports a running server does not answer, or is not trusted; what is the same on several ports, once."""
    ports: dict[tuple[bool, str], list[str]] = {}
    for listener in listeners:
        for asked, why in listener["errors"].items():
            ports.setdefault((bool(asked), why), []).append(str(listener["port"]))
    page, todo = "docs/runbooks/stand-up.md", []
    for (answered, why), those in ports.items():
        where = f"on port{'s' if those[1:] else ''} {', '.join(those)}"
        if answered:
            what = f"Clients do not trust what {name} serves {where}: {why}. Mend its certificate and run site.yml."
            todo.append(Todo(what, page))
        else:
            todo.append(
                Todo(f"The server on {name} runs, and no listener answers {where}: {why}. Look at its journal.", INDEX)
            )
    return todo


def served_by(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the certificates that a node's listeners serve.

    Of one that is on disk the file tells when the first of its certificates ends, an intermediate perhaps.
    """
    file = state["tls"]["file"]
    served = [each["certificate"] for each in state["tls"]["listeners"] if each["certificate"]]
    return [file if file and file["sha256"] == each["sha256"] else each for each in served]


def soonest(certificates: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the certificate that ends first."""
    return min(certificates, key=lambda each: float(each["not_after_seconds"]), default=None)


def idle_authorities(hosts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Tell of CAs that nodes trust and that no listener leads to; nothing of nodes of which no listener answers."""
    tls = [host["state"]["tls"] for host in hosts if host["state"] and served_by(host["state"])]
    trusted = {each["sha256"]: each["subject"] for one in tls for each in one["trust"]}
    idle = sorted(name for sha, name in trusted.items() if not any(sha in one["authorities"] for one in tls))
    return [f"The nodes trust {name}, and no listener leads to it: a CA is being replaced, see {ROTATE}." for name in idle]


def days_left(certificate: Mapping[str, Any], now: float) -> float:
    """Return how many days a certificate has left.

    Args:
        certificate: with `not_after_seconds`, since the epoch.
        now: s since the epoch.
    """
    return (float(certificate["not_after_seconds"]) - now) / _DAY
