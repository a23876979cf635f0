"""Carries a plan out, in an order in which nobody who needs a way in loses it, and so that it can be killed anywhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..api import Secret
from ..errors import DeclarationError, ReconcileError, RefusedError, SecretsError
from . import ledger as ledgers
from . import live as lives
from . import plan as plans
from . import policies
from .declare import Declaration
from .ledger import Ledger
from .live import Live
from .objects import Ident, Wanted, api_path, role_parts
from .plan import CANDIDATE, Plan, Step
from .server import Server

VERSIONS_TIMEOUT = 15.0  # seconds for a new KV mount to become versioned
_STAGES = ("mount", "auth", "policy", "config", "role", "group", "quota")


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


@dataclass(frozen=True)
class Outcome:
    """What was done, or would be.

    Attributes:
        plan: the changes.
        changed: whether there were any.
        notes: sentences for the operator.
    """

    plan: Plan
    changed: bool
    notes: list[str]


class Run:
    """One reconciliation.

    Args:
        server: the active node, acting with a token that may configure.
        declaration: what should be.
        proof: how operators log in.
        access_only: make only what operators need to get in, and remove nothing.
    """

    def __init__(self, server: Server, declaration: Declaration, proof: Proof, *, access_only: bool) -> None:
        self.server = server
        self.declaration = declaration
        self.proof = proof
        self.access_only = access_only

    def run(self, *, check_mode: bool) -> Outcome:
        """Plan, and unless in check mode carry it out.

        Raises:
            DeclarationError: a policy that is to be written is no policy.
            ReconcileError: a change of the operators' login that cannot be tried, or that failed when it was.
            NodeError: the server refused or did not answer.
        """
        ledger = ledgers.read(self.server, self.declaration.ledger_mount)
        live = lives.read(self.server, self._wanted({}))
        wanted = self._wanted(live.accessors)
        plan = self._plan(wanted, live, ledger)
        self._check(plan)
        notes = [f"{ident} was there before it was declared: it is this project's from now on." for ident in plan.adopted]
        ledger_due = self._ledger_due(wanted, ledger, plan)
        if check_mode or not (plan.changes or ledger_due):
            return Outcome(plan, plan.changes or ledger_due, notes)
        self._apply(plan, live, ledger)
        return Outcome(plan, changed=True, notes=notes)

    def _wanted(self, accessors: Mapping[str, str]) -> list[Wanted]:
        return [each for each in self.declaration.all_wanted(accessors) if each.access or not self.access_only]

    def _plan(self, wanted: list[Wanted], live: Live, ledger: Ledger) -> Plan:
        vos = [] if self.access_only else self.declaration.vos
        return plans.make(wanted, live, ledger, vos=vos, remove=self.declaration.remove, partial=self.access_only)

    def _ledger_due(self, wanted: list[Wanted], ledger: Ledger, plan: Plan) -> bool:
        """Whether the ledger lists too little or too much: an object was there already, or a run was killed."""
        return self._made(wanted, ledger, plan, removals=True) != ledger.made

    def _made(self, wanted: list[Wanted], ledger: Ledger, plan: Plan, *, removals: bool) -> dict[str, set[str]]:
        vos = set() if self.access_only else set(self.declaration.vos)
        gone = [step.ident for step in plan.steps if step.action == "remove"] if removals else []
        made = plans.made_after(wanted, ledger, vos, gone)
        if removals:
            made[ledgers.VOS] -= set(plan.folders)
        return made

    # --- before anything is changed ------------------------------------------------------------------------------------

    def _check(self, plan: Plan) -> None:
        found: list[str] = []
        for step in plan.steps:
            if step.ident.kind == "policy" and step.wanted:
                found += policies.problems(step.ident.name, step.wanted.content["policy"])
            if step.action == "update" and step.ident.kind in ("mount", "auth") and "type" in step.after:
                found.append(
                    f"{step.ident} is of type {step.before['type']} and declared as {step.after['type']}: the type cannot "
                    "be changed without losing what it holds; declare it under another path."
                )
        if found:
            raise DeclarationError("\n".join(found))
        critical = self._critical(plan)
        if critical and not self.proof.at_hand:
            raise ReconcileError(
                f"This would change how operators log in ({', '.join(str(step.ident) for step in critical)}), and no access "
                "token is at hand to try it with: export OIDC_ACCESS_TOKEN as one of them and run this again. Nothing was "
                "changed."
            )

    def _critical(self, plan: Plan) -> list[Step]:
        """Return the changes after which operators could be locked out."""
        roles = {Ident("role", f"{self.proof.login_path}/{role}") for role in self.proof.login_roles}
        names = {
            name
            for each in self.declaration.wanted
            if each.ident in roles
            for name in each.content.get("token_policies") or []
        }
        watched = roles | {Ident("policy", name) for name in names if name != "default"}
        watched |= {Ident(kind, self.proof.login_path) for kind in ("auth", "config")}
        return [step for step in plan.steps if step.ident in watched]

    # --- the changes ---------------------------------------------------------------------------------------------------

    def _apply(self, plan: Plan, live: Live, ledger: Ledger) -> None:
        mount = Ident("mount", self.declaration.ledger_mount)
        first = [step for step in plan.steps if step.ident == mount and step.action == "create"]
        for step in first:  # the ledger's own mount is needed before the ledger can tell of it
            self._write(step, live)
            self._wait_for_versions(step.ident.name)
        wanted = self._wanted(live.accessors)
        ledger = self._write_ledger(self._made(wanted, ledger, plan, removals=False), ledger)

        steps = [step for step in plan.steps if step not in first]
        self._stage([step for step in steps if step.ident.kind in ("mount", "auth") and step.wanted], live)
        if any(step.ident.kind == "auth" for step in steps):
            live.accessors = lives.read(self.server, []).accessors
            steps = self._with_accessors(steps, live)

        critical = {step.ident for step in self._critical(plan)}
        tried = [step for step in steps if step.ident in critical and step.ident.kind in ("policy", "role")]
        config = next((step for step in steps if step.ident in critical and step.ident.kind == "config"), None)
        if critical:
            self._prove_and_write(tried, config, live)
        done = {step.ident for step in tried} | ({config.ident} if config else set())
        for kind in ("policy", "config", "role", "group", "quota"):
            self._stage([step for step in steps if step.ident.kind == kind and step.wanted and step.ident not in done], live)
        self._remove([step.ident for step in steps if step.action == "remove"], plan.folders)

        hashes = self._hashes(steps + first, ledger)
        made = self._made(self._wanted(live.accessors), ledger, plan, removals=True)
        ledgers.write(self.server, self.declaration.ledger_mount, ledger, made, hashes)

    def _wait_for_versions(self, mount: str) -> None:
        """Wait until a new KV mount has become one of version 2, which takes the server a moment."""
        deadline = time.monotonic() + VERSIONS_TIMEOUT
        while True:
            try:
                self.server.read(f"{mount}/config")
            except RefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def _write_ledger(self, made: Mapping[str, Iterable[str]], ledger: Ledger) -> Ledger:
        return ledgers.write(self.server, self.declaration.ledger_mount, ledger, made, ledger.hashes)

    def _hashes(self, steps: Iterable[Step], ledger: Ledger) -> dict[str, str]:
        """Return the hashes of secret fields: written after the server has the fields, so that a lost write is repeated."""
        hashes = dict(ledger.hashes)
        for step in steps:
            if step.wanted:
                for key, secret in step.wanted.secrets.items():
                    hashes[f"{step.ident}:{key}"] = ledgers.hash_of(secret)
        return hashes

    def _with_accessors(self, steps: Iterable[Step], live: Live) -> list[Step]:
        """Return the steps with the policies' texts as they are now that new auth methods have accessors."""
        wanted = {each.ident: each for each in self._wanted(live.accessors)}
        return [replace(step, wanted=wanted[step.ident]) if step.wanted else step for step in steps]

    def _stage(self, steps: Sequence[Step], live: Live) -> None:
        self.server.each(steps, lambda step: self._write(step, live))

    def _write(self, step: Step, live: Live) -> None:
        if step.wanted:
            write(self.server, step.wanted, live, there=step.action == "update", reset=step.after)

    # --- the operators' way in -----------------------------------------------------------------------------------------

    def _prove_and_write(self, tried: list[Step], config: Step | None, live: Live) -> None:
        """Write what operators log in with, each only once a login has shown that it works.

        The login's settings exist once, so they are written, tried, and put back where the try fails: the token that does
        so was given out before. Roles and policies are tried under another name first.
        """
        before = live.content.get(config.ident) if config else None
        try:
            if config:
                self._write(config, live)
            self._try_candidates(tried, live)
        except SecretsError as error:
            if config and before is not None:
                self._put_back(config, before)
            outcome = (
                "would not work any more, so it is as it was: {} Mend the declaration and run this again; tokens that were "
                "given out go on working."
                if before is not None or not config
                else "does not work yet: {} Mend the declaration and run this again."
            )
            raise ReconcileError(f"The operators' login {outcome.format(error)}") from None
        self._stage([step for step in tried if step.ident.kind == "policy"], live)
        self._stage([step for step in tried if step.ident.kind == "role"], live)

    def _put_back(self, config: Step, before: Mapping[str, Any]) -> None:
        content = {key: value for key, value in before.items() if value not in (None, "", [], {})}
        self.server.write(api_path(config.ident), content)

    def _try_candidates(self, tried: Sequence[Step], live: Live) -> None:
        wanted = {each.ident: each for each in self._wanted(live.accessors)}
        changed = {step.ident: step.wanted for step in tried if step.wanted}
        made: list[Ident] = []
        try:
            for number, role in enumerate(self.proof.login_roles, start=1):
                ident = Ident("role", f"{self.proof.login_path}/{role}")
                names = list(wanted[ident].content.get("token_policies") or [])
                candidates = []
                for name in names:
                    policy = Ident("policy", name)
                    candidates.append(name + CANDIDATE if policy in changed else name)
                    if policy in changed:
                        made.append(Ident("policy", name + CANDIDATE))
                        self.server.write(api_path(made[-1]), wanted[policy].content)
                candidate = Ident("role", f"{ident.name}{CANDIDATE}")
                made.append(candidate)
                self.server.write(api_path(candidate), {**wanted[ident].content, "token_policies": candidates})
                self._try_login(role, role_parts(candidate.name)[1], configures=number == len(self.proof.login_roles))
        finally:
            for ident in reversed(made):
                self.server.delete(api_path(ident))

    def _try_login(self, role: str, candidate: str, *, configures: bool) -> None:
        try:
            token = log_in(self.server, self.proof.jwt, self.proof.login_path, candidate)
        except RefusedError as error:
            raise ReconcileError(
                f"a login with role {role} was refused ({'; '.join(error.reasons) or error.status})."
            ) from None
        try:
            if configures:
                self._refuse_lame(role, token)
        finally:
            self.server.request("POST", "auth/token/revoke-self", token=token)

    def _refuse_lame(self, role: str, token: Secret) -> None:
        """Refuse where the role could not do what this very run needs."""
        needed = dict(_needs(self.declaration))
        try:
            answer = self.server.request("POST", "sys/capabilities-self", {"paths": list(needed)}, token=token) or {}
        except RefusedError:
            answer = {}  # it may not even ask
        told = answer.get("data") or {}
        for path, capabilities in needed.items():
            lacking = capabilities - set(told.get(path) or [])
            if lacking and "root" not in (told.get(path) or []):
                raise ReconcileError(
                    f"with role {role} nobody could {'/'.join(sorted(lacking))} {path}, which the next run needs."
                )

    # --- removals ------------------------------------------------------------------------------------------------------

    def _remove(self, idents: Sequence[Ident], folders: Iterable[str]) -> None:
        for kind in reversed(_STAGES):
            self.server.each(
                [ident for ident in idents if ident.kind == kind], lambda ident: self.server.delete(api_path(ident))
            )
        for name in folders:
            for key in keys_below(self.server, f"{self.declaration.vo_folder}/{name}/"):
                self.server.delete(key)


def keys_below(server: Server, folder: str) -> Iterator[str]:
    """Return every key below a folder of a KV mount of version 1, folders in it included."""
    for name in server.names(folder):
        if name.endswith("/"):
            yield from keys_below(server, folder + name)
        else:
            yield folder + name


def log_in(server: Server, jwt: Secret, path: str, role: str) -> Secret:
    """Return the token of a login with an access token.

    Raises:
        RefusedError: the login was refused.
    """
    answer = server.request("POST", f"auth/{path}/login", {"jwt": jwt.reveal(), "role": role}) or {}
    return Secret(str(answer["auth"]["client_token"]))


def write(server: Server, wanted: Wanted, live: Live, *, there: bool, reset: Mapping[str, Any]) -> None:
    """Write one object.

    Args:
        server: acts with a token that may.
        wanted: the object.
        live: what is there, for groups and the accessors of auth methods.
        there: whether it is there already.
        reset: fields that differ, among them those that nobody declared and that go back to nothing.
    """
    ident, content = wanted.ident, wanted.content
    path = api_path(ident)
    if ident.kind in ("mount", "auth"):
        tune = dict(content.get("tune") or {})
        if there:
            options = {"options": content["options"]} if content.get("options") else {}
            server.write(f"{path}/tune", {**tune, **options, "description": content["description"]})
        else:
            server.write(path, {key: value for key, value in content.items() if key != "tune" and value} | {"config": tune})
    elif ident.kind == "group":
        _write_group(server, ident.name, content, live)
    else:
        extra = {key: value for key, value in reset.items() if key not in content and key not in wanted.secrets}
        server.write(path, {**extra, **content, **wanted.secrets})


def _write_group(server: Server, name: str, content: Mapping[str, Any], live: Live) -> None:
    path = f"identity/group/name/{name}"
    answer = server.write(path, {"type": "external", "policies": content["policies"]})
    group, alias = live.group_ids.get(name, ("", ""))
    group = group or str((answer.get("data") or {}).get("id") or (server.read(path) or {}).get("id"))
    body = {"name": content["alias"], "mount_accessor": live.accessors[content["auth"]], "canonical_id": group}
    server.write(f"identity/group-alias/id/{alias}" if alias else "identity/group-alias", body)


def _needs(declaration: Declaration) -> Iterator[tuple[str, set[str]]]:
    """Return what whoever configures must be able to do, for the objects that are declared."""
    yield f"{declaration.ledger_mount}/data/ledger/role", {"create", "update", "read"}
    yield "sys/capabilities-self", {"update"}
    for each in declaration.wanted:
        path = api_path(each.ident)
        match each.ident.kind:
            case "mount":
                yield f"{path}/tune", {"update"}
            case "auth":
                yield path, {"update", "sudo"}
                yield f"auth/{each.ident.name}/role/x", {"update", "read"}
            case "config":
                yield path, {"update", "read"}
    yield "sys/policies/acl/x", {"update", "read", "delete"}
    yield "identity/group/name/x", {"update", "read", "delete"}
    yield "sys/quotas/rate-limit/x", {"update", "read", "delete"}
