"""Operators keep their way in: whatever changes how they log in is rehearsed on a copy before it is written.

The copy is an auth method beside the real one, with the settings, tuning and roles as they are to be, and the policies that
change under names of their own. An operator's access token is tried there. The real login is untouched until all of that
has worked, and for users nothing happens while it is tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..api import Secret
from ..errors import ReconcileError, RefusedError, SecretsError
from .objects import Ident, Wanted, api_path
from .server import Server

CANDIDATE_POLICY = ".candidate"
CANDIDATE_AUTH = "_candidate"
SHORTEST_LOGIN = 60  # seconds; no run could be done with less
DEFAULT = Ident("policy", "default")


@dataclass(frozen=True)
class Proof:
    """How operators log in, to be tried before a change to it stays.

    Attributes:
        jwt: an operator's access token; empty: none is at hand.
        login_path: path of the auth method.
        login_roles: roles that must work; the last must be able to configure.
    """

    jwt: Secret
    login_path: str
    login_roles: Sequence[str]

    @property
    def at_hand(self) -> bool:
        """Whether there is a token to try with."""
        return bool(self.jwt.reveal())

    def role(self, name: str) -> Ident:
        """Return the role of that name as an object."""
        return Ident("role", f"{self.login_path}/{name}")

    def watched(self, wanted: Mapping[Ident, Wanted]) -> set[Ident]:
        """Return every object on which the operators' way in depends."""
        roles = {self.role(name) for name in self.login_roles}
        names = {name for role in roles if role in wanted for name in _policies_of(wanted[role])}
        method = {Ident(kind, self.login_path) for kind in ("auth", "config")}
        return roles | {Ident("policy", name) for name in names} | {DEFAULT} | method

    def candidates(self, changed: set[Ident]) -> set[Ident]:
        """Return what a rehearsal makes, and removes again."""
        policies = {Ident("policy", ident.name + CANDIDATE_POLICY) for ident in changed if ident.kind == "policy"}
        return policies | {Ident("auth", self.login_path + CANDIDATE_AUTH)}


@dataclass(frozen=True)
class Rehearsal:
    """One try of the operators' login.

    Attributes:
        server: acts with a token that may configure.
        proof: how operators log in.
        wanted: every object as it should be.
        changed: those on which the login depends and that are about to change.
        needs: what whoever configures must be able to do, capabilities by path.
    """

    server: Server
    proof: Proof
    wanted: Mapping[Ident, Wanted]
    changed: set[Ident]
    needs: Mapping[str, set[str]]

    def run(self) -> None:
        """Try each of the operators' roles.

        Raises:
            ReconcileError: one of them would not work; nothing of the real login has been changed.
        """
        path = self.proof.login_path + CANDIDATE_AUTH
        self._clear()
        try:
            try:
                self._make_method(path)
                for number, name in enumerate(self.proof.login_roles, start=1):
                    self._try(path, name, configures=number == len(self.proof.login_roles))
            except SecretsError as error:
                raise ReconcileError(
                    f"The operators' login would not work, so it was not changed: {error} Mend the declaration and run this "
                    "again."
                ) from None
        except BaseException:
            with suppress(SecretsError):  # what went wrong first is what counts; the next run clears away too
                self._clear()
            raise
        self._clear()

    def _clear(self) -> None:
        for ident in sorted(self.proof.candidates(self.changed)):
            self.server.delete(api_path(ident))

    def _make_method(self, path: str) -> None:
        method = self.wanted[Ident("auth", self.proof.login_path)].content
        body = {"type": method["type"], "description": "Tried before it stays", "config": dict(method.get("tune") or {})}
        self.server.write(f"sys/auth/{path}", body)
        settings = self.wanted.get(Ident("config", self.proof.login_path))
        if settings:
            self.server.write(f"auth/{path}/config", {**settings.content, **settings.secrets})

    def _try(self, path: str, name: str, *, configures: bool) -> None:
        role = self.wanted[self.proof.role(name)]
        body = {**role.content, "token_policies": [self._policy(each) for each in _policies_of(role)]}
        if DEFAULT in self.changed:
            body["token_policies"].append(self._policy(DEFAULT.name))
            body["token_no_default_policy"] = True
        self.server.write(f"auth/{path}/role/{name}", body)
        try:
            token, seconds = log_in(self.server, self.proof.jwt, path, name)
        except RefusedError as error:
            reasons = "; ".join(error.reasons) or f"HTTP {error.status}"
            raise ReconcileError(f"a login with role {name} was refused ({reasons}).") from None
        if seconds < SHORTEST_LOGIN:
            raise ReconcileError(
                f"a login with role {name} would last {seconds} s, too short for any run: give its token_ttl and the "
                f"tuning of auth/{self.proof.login_path} {SHORTEST_LOGIN} s at least."
            )
        if configures:
            self._refuse_lame(name, token)

    def _policy(self, name: str) -> str:
        """Return the policy's name in the rehearsal, and write it there where it is to change."""
        policy = Ident("policy", name)
        if policy not in self.changed or policy not in self.wanted:
            return name
        self.server.write(api_path(policy) + CANDIDATE_POLICY, self.wanted[policy].content)
        return name + CANDIDATE_POLICY

    def _refuse_lame(self, name: str, token: Secret) -> None:
        """Refuse where the role could not do what this very run needs."""
        try:
            body = {"paths": list(self.needs)}
            answer = self.server.request("POST", "sys/capabilities-self", body, token=token) or {}
        except RefusedError:
            answer = {}  # it may not even ask
        told = answer.get("data") or {}
        for path, capabilities in self.needs.items():
            has = set(told.get(path) or [])
            lacking = capabilities - has
            if lacking and "root" not in has:
                raise ReconcileError(
                    f"with role {name} nobody could {'/'.join(sorted(lacking))} {path}, which the next run needs."
                )


def log_in(server: Server, jwt: Secret, path: str, role: str) -> tuple[Secret, int]:
    """Return the token of a login with an access token, and how many seconds it lasts.

    Raises:
        RefusedError: the login was refused.
        ReconcileError: the answer holds no token.
    """
    answer = server.request("POST", f"auth/{path}/login", {"jwt": jwt.reveal(), "role": role}) or {}
    auth = answer.get("auth") or {}
    if not auth.get("client_token"):
        raise ReconcileError(f"{server.node.name} answered a login at auth/{path} without a token: run this again.")
    return Secret(str(auth["client_token"])), int(auth.get("lease_duration") or 0)


def needs(ledger_mount: str, wanted: Sequence[Wanted]) -> Iterator[tuple[str, set[str]]]:
    """Return what whoever configures must be able to do, for the objects that are declared."""
    yield f"{ledger_mount}/data/ledger/role", {"create", "update", "read"}
    yield "sys/capabilities-self", {"update"}
    yield from ((path, {"read"}) for path in ("sys/mounts", "sys/auth"))
    # To the server a list is of a path that ends in a slash.
    lists = ("sys/policies/acl/", "sys/policies/detailed/acl/", "identity/group/name/", "sys/quotas/rate-limit/")
    yield from ((path, {"list"}) for path in lists)
    for each in wanted:
        path = api_path(each.ident)
        match each.ident.kind:
            case "mount":
                yield f"{path}/tune", {"update"}
            case "auth":
                yield path, {"update", "delete", "sudo"}
                yield path + CANDIDATE_AUTH, {"update", "delete", "sudo"}
                yield f"{path}/tune", {"update"}
                yield f"auth/{each.ident.name}/role/", {"list"}
                yield f"auth/{each.ident.name}/role/x", {"update", "read"}
                yield f"auth/{each.ident.name}{CANDIDATE_AUTH}/role/x", {"update"}
            case "config":
                yield path, {"update", "read"}
    yield "sys/policies/acl/x", {"update", "read", "delete"}
    yield "identity/group/name/x", {"update", "read", "delete"}
    yield "identity/group-alias", {"update"}
    yield "sys/quotas/rate-limit/x", {"update", "read", "delete"}


def _policies_of(role: Wanted) -> list[str]:
    return list(role.content.get("token_policies") or [])
