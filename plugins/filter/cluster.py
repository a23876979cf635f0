"""Filters that shape what the hosts of the group vault say into what modules and people want of it."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ansible.module_utils

# Ansible packs our module_utils for modules, but puts them on no path for plugins that run in the controller itself.
_OURS = str(Path(__file__).resolve().parents[1] / "module_utils")
if _OURS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_OURS)

from ansible.module_utils.egi_secrets.members import Member, forgetful, forgotten, member_problems  # noqa: E402 - needs the path above
from ansible.module_utils.egi_secrets.operate.planned import checker_reports  # noqa: E402
from ansible.module_utils.egi_secrets.status import Elsewhere, Status, status_of  # noqa: E402
from ansible.module_utils.egi_secrets.status_screen import screen  # noqa: E402
from ansible.module_utils.egi_secrets.todo import CEREMONY, GENERATE_ROOT, REKEY, Todo  # noqa: E402

HostVars = Mapping[str, Any]

_SSH = "Failed to connect to the host via ssh: "  # what Ansible says before the reason


def api_nodes(hosts: Iterable[HostVars]) -> list[dict[str, str]]:
    """Return where the API of each host is, as modules want it.

    Args:
        hosts: variables of the hosts.

    Returns:
        `name`, `url` and `connect_address` of each.
    """
    return [
        {
            "name": host["vault_node_id"],
            "url": host["vault_api_address"],
            "connect_address": host["vault_connect_address"],
        }
        for host in hosts
    ]


def node_bundles(hosts: Iterable[HostVars]) -> list[dict[str, str]]:
    """Return each host's copy of the unseal bundle, which ask.yml has read.

    Args:
        hosts: variables of the hosts.

    Returns:
        `node` and `content` of each; the content is empty where the host has no copy.
    """
    copies = {host["vault_node_id"]: host.get("vault_cluster_member", {}).get("bundle") for host in hosts}
    return [{"node": node, "content": copy["content"] if copy else ""} for node, copy in copies.items()]


def problems_of_members(hosts: Iterable[HostVars], seen: str, expected: Sequence[str]) -> list[str]:
    """Say what keeps the hosts from being one cluster of the expected members. See members.member_problems.

    Args:
        hosts: variables of the hosts.
        seen: the variable in which each host has what vault_cluster_member returned.
        expected: Raft node ids that the inventory names.

    Returns:
        Sentences, none of them when all is well.
    """
    members = [Member.from_node_state(host["vault_node_id"], host.get(seen)) for host in hosts]
    return member_problems(members, expected)


def forgetful_members(hosts: Iterable[HostVars]) -> list[str]:
    """Return the Raft node ids of members whose disk is empty; see members.forgetful.

    Args:
        hosts: variables of the hosts, with what look.yml of vault_server kept.
    """
    states = {host["vault_node_id"]: host.get("vault_server_state") or {} for host in hosts}
    bare = [name for name, state in states.items() if state.get("remembers") is False]
    return forgetful([Member.from_node_state(name, state) for name, state in states.items()], bare)


def forgotten_members(hosts: Iterable[HostVars]) -> list[str]:
    """Return members of Raft that live and that are none of the hosts; see members.forgotten.

    Args:
        hosts: variables of all members of the inventory, with what look.yml of vault_server kept.
    """
    known = list(hosts)
    # One that was reached and runs no server is not the one that leads.
    members = [
        Member.from_node_state(host["vault_node_id"], host.get("vault_server_state"))
        for host in known
        if (host.get("vault_server_state") or {}).get("running", True)
    ]
    return forgotten(members, {host["vault_node_id"]: host["vault_api_address"] for host in known})


def newest_snapshot(directory: str) -> tuple[str, float] | None:
    """Return the newest snapshot in a directory of the controller, and its age in s; None without one.

    What is hidden was not proven, or is not whole: a run is at it, or was killed.
    """
    from ansible.module_utils.egi_secrets.operate.snapshot import SUFFIX  # noqa: PLC0415 - as below

    try:
        found = [file for file in Path(directory).iterdir() if file.suffix == SUFFIX and not file.name.startswith(".")]
        ages = {file.name: time.time() - file.stat().st_mtime for file in found if file.is_file()}
    except OSError:
        return None
    return min(ages.items(), key=lambda each: each[1], default=None)


def active_host(hosts: Iterable[HostVars]) -> str:
    """Return the inventory name of the host that leads, as ask.yml saw it; empty where none that was reached does."""
    for host in hosts:
        if Member.from_node_state(host["vault_node_id"], host.get("vault_cluster_member")).active:
            return str(host["inventory_hostname"])
    return ""


def root_records(hosts: Iterable[HostVars]) -> list[str]:
    """Return what each host remembers of generate-root, as ask.yml read it."""
    texts = [str((host.get("vault_cluster_member", {}).get("root") or {}).get("record") or "") for host in hosts]
    return [text for text in texts if text]


def _root_todo(hosts: Iterable[HostVars]) -> list[Todo]:
    from ansible.module_utils.egi_secrets.operate import root_status  # noqa: PLC0415 - as below

    known = list(hosts)
    attempts = [(host.get("vault_cluster_member", {}).get("root") or {}).get("attempt") for host in known]
    times = [float(host["vault_server_state"]["time"]) for host in known if host.get("vault_server_state")]
    told = root_status.todo(root_records(known), [attempt for attempt in attempts if attempt], max(times, default=0.0))
    return [Todo(sentence, GENERATE_ROOT) for sentence in told]


def _unasked(lock: Mapping[str, Any]) -> str:
    """Return why nobody could be asked who has the lock, though there was a login."""
    if not lock or lock.get("skipped") or lock.get("messages"):
        return ""
    return " ".join(str(lock.get("msg") or "no reason given").split())


def _unheard(host: HostVars) -> dict[str, str]:
    """Return why a host did not say all that show-status asks, and a word for a host that said nothing."""
    answers = [host[each] for each in ("vault_server_look", "vault_cluster_member") if host.get(each)]
    lost = next((str(each.get("msg") or "") for each in answers if each.get("unreachable")), None)
    failed = host.get("vault_cluster_unheard")
    if lost is None and failed is None:
        return {} if answers else {"unseen": "not asked"}
    words = str(failed if lost is None else lost).removeprefix(_SSH)
    return {"unseen": "failed" if lost is None else "unreachable", "why": _sentence(words)}


def _sentence(words: str) -> str:
    """Return what a program said as one line, to which a full stop is added."""
    return " ".join(words.split()).rstrip(".")


def service_status(
    hosts: Iterable[HostVars],
    clocks: Mapping[str, Any] | None = None,
    lock: Mapping[str, Any] | None = None,
    snapshots: str = "",
) -> Status:
    """Put together how the service stands.

    Args:
        hosts: variables of the hosts, with what look.yml and ask.yml registered. Where they have endpoint_failover_names,
            checkers are to report.
        clocks: what vault_clocks returned.
        lock: what vault_run_lock returned; None, or skipped: there was no login to ask with.
        snapshots: directory of the controller with snapshots.

    Returns:
        The status; `status_screen` and `status_json` lay it out.
    """
    # Here, since every task of a run loads this file and few need them.
    from ansible.module_utils.egi_secrets import bundle as bundles  # noqa: PLC0415
    from ansible.module_utils.egi_secrets import proving  # noqa: PLC0415
    from ansible.module_utils.egi_secrets.errors import BundleError  # noqa: PLC0415

    known, copies, problems = list(hosts), {}, []
    for copy in node_bundles(known):
        try:
            if copy["content"].strip():
                copies[copy["node"]] = bundles.parse(copy["content"], f"on {copy['node']}")
        except BundleError as error:
            problems.append(str(error))
    try:
        kept = bundles.reconcile(copies) if copies else None
    except BundleError as error:
        problems.append(str(error))
        kept = next(iter(copies.values()))
    todo = [Todo(each, CEREMONY) for each in problems] + [Todo(each, REKEY) for each in (proving.todo(kept) if kept else [])]
    states = [
        {
            "node_id": host["vault_node_id"],
            "site": host["site_name"],
            "state": host.get("vault_server_state"),
            "unaddressed": _sentence(host.get("vault_server_unaddressed") or ""),
        }
        | _unheard(host)
        for host in known
    ]
    elsewhere = Elsewhere(
        clocks={
            name: (float(offset), float(unsure)) for name, (offset, unsure) in ((clocks or {}).get("clocks") or {}).items()
        },
        clocks_unread=str((clocks or {}).get("msg") or ""),
        checkers=checker_reports(known),
        snapshot=newest_snapshot(snapshots),
        lock=next(iter((lock or {}).get("messages") or []), None),
        lock_unasked=_unasked(lock or {}),
        names=sorted({each["name"] for host in known for each in host.get("endpoint_failover_names") or []}),
    )
    status = status_of(states, kept.root_token if kept else None, todo, elsewhere)
    return dataclasses.replace(status, todo=[*status.todo, *_root_todo(known)])


def status_screen(status: Status) -> str:
    """Lay a status out for a person."""
    return screen(status)


def status_json(status: Status) -> str:
    """Lay a status out for scripts: a JSON object on one line."""
    return json.dumps(dataclasses.asdict(status))


def status_todo(status: Status) -> list[str]:
    """Return what needs doing, a sentence each."""
    return [str(todo) for todo in status.todo]


class FilterModule:
    """Filters about the cluster."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "active_host": active_host,
            "api_nodes": api_nodes,
            "node_bundles": node_bundles,
            "root_records": root_records,
            "forgetful_members": forgetful_members,
            "forgotten_members": forgotten_members,
            "member_problems": problems_of_members,
            "service_status": service_status,
            "status_json": status_json,
            "status_screen": status_screen,
            "status_todo": status_todo,
        }
