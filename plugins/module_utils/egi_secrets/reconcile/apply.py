"""Carries a plan out, in an order in which nobody who needs a way in loses it, and so that it can be killed anywhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ..errors import DeclarationError, ReconcileError, RefusedError, SecretsError
from . import ledger as ledgers
from . import live as lives
from . import plan as plans
from . import policies
from .declare import Declaration
from .ledger import Ledger
from .live import Live
from .objects import KINDS, Ident, Wanted, api_path
from .plan import Plan, Step
from .proof import DEFAULT, Proof, Rehearsal, needs
from .server import Server

VERSIONS_TIMEOUT = 15.0  # seconds for a new KV mount to become versioned
MOUNTED = ("mount", "auth")


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
        stored = ledgers.read(self.server, self.declaration.ledger_mount)
        live = lives.read(self.server, self._wanted({}), stored.made["auth"])
        wanted = self._wanted(live.accessors)
        # What is listed and is neither there nor declared is gone: a later object of that name is somebody else's.
        ledger = stored if self.access_only else replace(stored, made=plans.still_there(stored.made, wanted, live))
        plan = self._plan(wanted, live, ledger)
        notes = self._check(plan, check_mode=check_mode)
        plan = self._with_contents(plan)
        notes += [f"{ident} was there before it was declared: it is this project's from now on." for ident in plan.adopted]
        notes += self._named_for_nothing(live, stored)
        changed = plan.changes or self._made(wanted, ledger, plan, removals=True) != stored.made
        if changed and not check_mode:
            self._apply(plan, live, ledger, stored)
        return Outcome(plan, changed, notes)

    def _named_for_nothing(self, live: Live, ledger: Ledger) -> list[str]:
        """Say what is to be removed and was never there, which may be a slip of the pen."""
        there = {str(ident) for ident in live.present} | {f"vo:{name}" for name in ledger.made[ledgers.VOS]}
        unknown = [] if self.access_only else sorted(self.declaration.remove - there)
        return [f"vault_config_remove names {name}, which is not there (any more): take it out." for name in unknown]

    def _with_contents(self, plan: Plan) -> Plan:
        """Return the plan with what each removal destroys, for the diff."""
        gone = [step for step in plan.steps if step.action == "remove" and step.ident.kind not in ("mount", "auth")]
        found = self.server.each(gone, lambda step: self.server.read(api_path(step.ident)) or {})
        known = {step.ident: content for step, content in zip(gone, found, strict=True)}
        return replace(plan, steps=[replace(step, before=known.get(step.ident, step.before)) for step in plan.steps])

    def _wanted(self, accessors: Mapping[str, str]) -> list[Wanted]:
        return [each for each in self.declaration.all_wanted(accessors) if each.access or not self.access_only]

    def _plan(self, wanted: list[Wanted], live: Live, ledger: Ledger) -> Plan:
        vos = [] if self.access_only else self.declaration.vos
        return plans.make(wanted, live, ledger, vos=vos, remove=self.declaration.remove, partial=self.access_only)

    def _made(self, wanted: list[Wanted], ledger: Ledger, plan: Plan, *, removals: bool) -> dict[str, set[str]]:
        vos = set() if self.access_only else set(self.declaration.vos)
        gone = [step.ident for step in plan.steps if step.action == "remove"] if removals else []
        made = plans.made_after(wanted, ledger, vos, gone)
        if removals:
            made[ledgers.VOS] -= set(plan.folders)
        return made

    # --- before anything is changed ------------------------------------------------------------------------------------

    def _check(self, plan: Plan, *, check_mode: bool) -> list[str]:
        """Refuse what must not be written, and return what check mode tells of in place of refusing it."""
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
        if not critical or self.proof.at_hand:
            return []
        told = (
            f"This would change how operators log in ({', '.join(str(step.ident) for step in critical)}), and no access "
            "token is at hand to try it with"
        )
        if not check_mode:
            raise ReconcileError(f"{told}: export OIDC_ACCESS_TOKEN as one of them and run this again. Nothing was changed.")
        return [f"{told}: whoever makes the change exports OIDC_ACCESS_TOKEN as one of them."]

    def _critical(self, plan: Plan) -> list[Step]:
        """Return the changes after which operators could be locked out."""
        watched = self.proof.watched({each.ident: each for each in self.declaration.wanted})
        return [step for step in plan.steps if step.ident in watched and not self._unheard_of(step)]

    def _unheard_of(self, step: Step) -> bool:
        # The policy `default` counts where operators can be locked out by it, not while there is no operator yet.
        return self.access_only and step.ident == DEFAULT

    # --- the changes ---------------------------------------------------------------------------------------------------

    def _apply(self, plan: Plan, live: Live, ledger: Ledger, stored: Ledger) -> None:
        mount = Ident("mount", self.declaration.ledger_mount)
        first = [step for step in plan.steps if step.ident == mount and step.action == "create"]
        for step in first:  # the ledger's own mount is needed before the ledger can tell of it
            self._write(step, live)
            self._wait_for_versions(step.ident.name)
        steps = [step for step in plan.steps if step not in first]
        critical = {step.ident for step in self._critical(plan)}
        made = self._made(self._wanted(live.accessors), ledger, plan, removals=False)
        for ident in self.proof.candidates(critical) if critical else ():
            made[ident.kind].add(ident.name)
        before, stored = stored, ledgers.write(self.server, self.declaration.ledger_mount, stored, made, stored.hashes)
        if critical:
            try:
                self._rehearse(critical, live)
            except SecretsError:
                with suppress(SecretsError):  # nothing has been made, so nothing is to be listed
                    ledgers.write(self.server, self.declaration.ledger_mount, stored, before.made, before.hashes)
                raise

        self._stage([step for step in steps if step.ident.kind in MOUNTED and step.wanted], live)
        if any(step.ident.kind == "auth" for step in steps):
            live.accessors = lives.read(self.server, [], ()).accessors
            steps = self._with_accessors(steps, live)
        self._free_aliases(steps, live)
        for kind in ("policy", "config", "role", "group", "quota"):
            self._stage([step for step in steps if step.ident.kind == kind and step.wanted], live)
        self._remove([step.ident for step in steps if step.action == "remove"], plan.folders)

        hashes = self._hashes(steps + first, stored)
        made = self._made(self._wanted(live.accessors), ledger, plan, removals=True)
        ledgers.write(self.server, self.declaration.ledger_mount, stored, made, hashes)

    def _rehearse(self, critical: set[Ident], live: Live) -> None:
        wanted = {each.ident: each for each in self._wanted(live.accessors)}
        needed = dict(needs(self.declaration.ledger_mount, self.declaration.wanted))
        Rehearsal(self.server, self.proof, wanted, critical, needed).run()

    def _free_aliases(self, steps: Sequence[Step], live: Live) -> None:
        """Delete the groups that go, and those whose alias changes: an alias belongs to one group at a time.

        A group that is made anew has no members either, so nobody keeps what the former alias gave them.
        """
        gone = [
            step.ident
            for step in steps
            if step.ident.kind == "group" and (step.action == "remove" or {"alias", "auth"} & step.after.keys())
        ]
        self.server.each(gone, lambda ident: self.server.delete(api_path(ident)))
        for ident in gone:
            live.group_ids.pop(ident.name, None)

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

    # --- removals ------------------------------------------------------------------------------------------------------

    def _remove(self, idents: Sequence[Ident], folders: Iterable[str]) -> None:
        for kind in reversed(KINDS):
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
        tune = dict(reset.get("tune") or content.get("tune") or {})
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
