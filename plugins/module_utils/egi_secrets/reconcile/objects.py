"""What a configuration is made of, and how each kind of object is found on the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Every kind in the order in which it is made: what a later kind names must be there before it. Removed the other way round.
KINDS = ("mount", "auth", "policy", "config", "role", "group", "quota")
_PLACES = {
    "mount": "sys/mounts/{}",
    "auth": "sys/auth/{}",
    "policy": "sys/policies/acl/{}",
    "config": "auth/{}/config",
    "group": "identity/group/name/{}",
    "quota": "sys/quotas/rate-limit/{}",
}
# What holds users' data or logins is never removed for being left out.
KEPT_KINDS = ("mount", "auth", "config")


@dataclass(frozen=True, order=True)
class Ident:
    """What an object is called.

    Attributes:
        kind: one of `KINDS`.
        name: unique in its kind; a role's is `<auth path>/<role>`.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True)
class Wanted:
    """One object as it is declared.

    Attributes:
        ident: what it is called.
        content: its fields. Of a policy `policy`, its text; of a group `policies`, `auth` and `alias`.
        secrets: fields that the server never returns.
        access: whether operators need it to get in.
        exact: whether fields that nobody declared are reset: what else a role says would be a way around its declaration.
    """

    ident: Ident
    content: Mapping[str, Any]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    access: bool = False
    exact: bool = False


def role_parts(name: str) -> tuple[str, str]:
    """Return the auth path and the role's own name of a role's identity; auth paths may hold slashes, roles none."""
    auth, _, role = name.rpartition("/")
    return auth, role


def api_path(ident: Ident) -> str:
    """Return where the object is read, written and deleted, below /v1/."""
    if ident.kind == "role":
        auth, role = role_parts(ident.name)
        return f"auth/{auth}/role/{role}"
    return _PLACES[ident.kind].format(ident.name)
