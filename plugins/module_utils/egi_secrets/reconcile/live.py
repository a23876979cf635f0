"""What the server is configured with: every object's name, and the content of those that are declared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .declare import BUILT_IN_MOUNTS, BUILT_IN_POLICIES
from .objects import Ident, Wanted, api_path
from .server import Server

_BUILT_IN_TYPES = ("system", "identity", "cubbyhole", "token", "ns_system", "ns_identity", "ns_cubbyhole", "ns_token")


@dataclass
class Live:
    """The server's configuration.

    Attributes:
        content: fields of the objects that were asked for and are there.
        present: every object that is there, asked for or not; built-ins are left out.
        accessors: of the auth methods, by path.
        group_ids: for each group that was read its id, and the id of its alias or "".
    """

    content: dict[Ident, Mapping[str, Any]] = field(default_factory=dict)
    present: set[Ident] = field(default_factory=set)
    accessors: dict[str, str] = field(default_factory=dict)
    group_ids: dict[str, tuple[str, str]] = field(default_factory=dict)


def read(server: Server, wanted: Iterable[Wanted], auth_paths: Iterable[str]) -> Live:
    """Read what is there.

    Args:
        server: acts with a token that may read the configuration.
        wanted: the objects whose content is needed; of all others the names are enough.
        auth_paths: further auth methods whose roles are listed: those that this project made and no longer declares.
    """
    live = Live()
    idents = [each.ident for each in wanted]
    mounts, methods = server.each(["sys/mounts", "sys/auth"], lambda path: server.read(path) or {})
    for kind, table in (("mount", mounts), ("auth", methods)):
        for path, entry in table.items():
            if isinstance(entry, dict) and entry.get("type") not in _BUILT_IN_TYPES:
                _take_mount(live, Ident(kind, path.rstrip("/")), entry)
    live.accessors = {path.rstrip("/"): str(entry["accessor"]) for path, entry in methods.items() if isinstance(entry, dict)}
    _take_names(live, server, sorted({*_auth_paths(idents), *auth_paths}))
    texts = _policy_texts(server, [ident for ident in idents if ident.kind == "policy" and ident in live.present])
    live.content |= texts
    detailed = [ident for ident in idents if _has_content(ident, live)]
    paths = {accessor: path for path, accessor in live.accessors.items()}
    for ident, found in zip(detailed, server.each(detailed, lambda ident: server.read(api_path(ident))), strict=True):
        if not found:
            continue
        live.present.add(ident)
        live.content[ident] = _group(live, ident.name, found, paths) if ident.kind == "group" else found
    return live


def _has_content(ident: Ident, live: Live) -> bool:
    if ident.kind == "config":
        return Ident("auth", ident.name) in live.present
    return ident.kind in ("role", "group", "quota") and ident in live.present


def _auth_paths(idents: Iterable[Ident]) -> list[str]:
    return [ident.name for ident in idents if ident.kind == "auth"]


def _take_mount(live: Live, ident: Ident, entry: Mapping[str, Any]) -> None:
    if ident.name in BUILT_IN_MOUNTS:
        return
    live.present.add(ident)
    live.content[ident] = {
        "type": entry.get("type"),
        "description": entry.get("description"),
        "options": entry.get("options") or {},
        "tune": entry.get("config") or {},
    }


def _take_names(live: Live, server: Server, auth_paths: list[str]) -> None:
    """Note the name of every policy, role, group and quota."""
    there = [path for path in auth_paths if Ident("auth", path) in live.present]
    places = [
        ("policy", "", "sys/policies/acl"),
        ("group", "", "identity/group/name"),
        ("quota", "", "sys/quotas/rate-limit"),
        *(("role", f"{path}/", f"auth/{path}/role") for path in there),
    ]
    listed = server.each(places, lambda place: server.names(place[2]))
    for (kind, prefix, _), names in zip(places, listed, strict=True):
        for name in names:
            if kind != "policy" or name not in BUILT_IN_POLICIES:
                live.present.add(Ident(kind, prefix + name))
            elif name == "default":
                live.present.add(Ident(kind, name))


def _policy_texts(server: Server, idents: list[Ident]) -> dict[Ident, dict[str, Any]]:
    """Return the texts of policies, in one request where the server has one for that (OpenBao ≥ 2.3)."""
    if not idents:
        return {}
    answer = server.request("LIST", "sys/policies/detailed/acl", absent=None)
    told = ((answer or {}).get("data") or {}).get("key_info")
    if not isinstance(told, dict):
        told = dict(
            zip(
                [ident.name for ident in idents],
                server.each(idents, lambda ident: server.read(api_path(ident)) or {}),
                strict=True,
            )
        )
    return {ident: {"policy": str(told[ident.name].get("policy") or "")} for ident in idents if ident.name in told}


def _group(live: Live, name: str, found: Mapping[str, Any], paths: Mapping[str, str]) -> dict[str, Any]:
    alias = found.get("alias") or {}
    live.group_ids[name] = (str(found.get("id") or ""), str(alias.get("id") or ""))
    return {
        "policies": found.get("policies") or [],
        "auth": paths.get(str(alias.get("mount_accessor") or ""), ""),
        "alias": str(alias.get("name") or ""),
        "type": found.get("type"),
    }
