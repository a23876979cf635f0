"""What has to be done to bring what is there to what is declared: decided here, and nowhere else. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .compare import differences, empty_like, held
from .ledger import VOS, Ledger, matches
from .live import Live
from .objects import KEPT_KINDS, KINDS, Ident, Wanted
from .proof import CANDIDATE_AUTH

HIDDEN = "(hidden)"
LISTED = ("mount", "auth", "policy", "role", "group", "quota")  # kinds of which live.py lists every name
_READ_ONLY = {"quota": ("name", "type", "inheritable"), "config": ("status",), "role": ("role_id",)}


@dataclass(frozen=True)
class Step:
    """One change.

    Attributes:
        action: create, update or remove.
        ident: of which object.
        wanted: the object as it should be; None where it goes.
        before: the fields that differ, as they are.
        after: the same fields, as they will be.
    """

    action: str
    ident: Ident
    wanted: Wanted | None = None
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """All changes in the order in which they are made, and what is left alone.

    Attributes:
        steps: changes; removals come last.
        foreign: objects that this project did not make.
        kept: VOs, mounts and auth methods that are declared no more and hold users' data or logins.
        adopted: objects that were there before this project declared them.
        folders: VOs whose secrets are to be removed for good.
    """

    steps: list[Step]
    foreign: list[Ident]
    kept: list[str]
    adopted: list[Ident]
    folders: list[str]

    @property
    def changes(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.steps or self.folders)


NOTHING = Plan([], [], [], [], [])


def make(
    wanted: Iterable[Wanted], live: Live, ledger: Ledger, *, vos: Iterable[str], remove: Iterable[str], partial: bool = False
) -> Plan:
    """Plan the changes.

    Args:
        wanted: what is declared.
        live: what is there.
        ledger: who made what.
        vos: names of the VOs that are declared.
        remove: `kind:name` of what may be removed although it holds users' data or logins.
        partial: only a part is wanted now, so nothing is removed.

    Returns:
        The plan; carried out, the next one is empty.
    """
    objects = {each.ident: each for each in wanted}
    steps = [step for each in objects.values() if (step := _step(each, live, ledger))]
    steps.sort(key=lambda step: (KINDS.index(step.ident.kind), not (step.wanted and step.wanted.access), step.ident.name))
    adopted = [ident for ident in objects if ident in live.present and not ledger.has(ident) and not _default(ident)]
    if partial:
        return Plan(steps, [], [], sorted(adopted), [])

    named, known_vos = set(remove), set(vos)
    gone = sorted(ident for ident in live.present - objects.keys() if not _default(ident))
    kept, foreign = [], []
    for ident in gone:
        if str(ident) in named or (ledger.has(ident) and (ident.kind not in KEPT_KINDS or _left_over(ident))):
            steps.append(Step("remove", ident))
        elif ident.kind == "role" and f"auth:{ident.name.rpartition('/')[0]}" in named:
            continue  # goes with its auth method
        elif ledger.has(ident):
            kept.append(str(ident))
        elif ident.kind != "config":
            foreign.append(ident)
    removed = [step for step in steps if step.action == "remove"]
    removed.sort(key=lambda step: KINDS.index(step.ident.kind), reverse=True)
    steps = [step for step in steps if step.action != "remove"] + removed
    left_vos = sorted(ledger.made[VOS] - known_vos)
    folders = [name for name in left_vos if f"vo:{name}" in named]
    kept += [f"vo:{name}" for name in left_vos if name not in folders]
    return Plan(steps, foreign, kept, sorted(adopted), folders)


def still_there(made: Mapping[str, set[str]], wanted: Iterable[Wanted], live: Live) -> dict[str, set[str]]:
    """Return what the ledger lists without the names that are neither there nor wanted.

    Args:
        made: names by kind, as the ledger has them.
        wanted: what is declared.
        live: what is there.
    """
    known = live.present | {each.ident for each in wanted}
    return {
        kind: {name for name in names if kind not in LISTED or Ident(kind, name) in known} for kind, names in made.items()
    }


def made_after(
    wanted: Iterable[Wanted], ledger: Ledger, vos: Iterable[str], removed: Iterable[Ident] = ()
) -> dict[str, set[str]]:
    """Return what the ledger lists once these objects are made, and those that are `removed` are gone."""
    made = {kind: set(names) for kind, names in ledger.made.items()}
    for each in wanted:
        made[each.ident.kind].add(each.ident.name)
    made[VOS] |= set(vos)
    for ident in removed:
        made[ident.kind].discard(ident.name)
    return made


def _step(each: Wanted, live: Live, ledger: Ledger) -> Step | None:
    secret = {
        key: HIDDEN
        for key, value in each.secrets.items()
        if not matches(value, ledger.hashes.get(f"{each.ident}:{key}", ""))
    }
    there = live.content.get(each.ident)
    if there is None:
        return Step("create", each.ident, each, {}, {**each.content, **secret})
    after = differences(each.content, _comparable(each, there), exact=each.exact) | secret
    if each.ident.kind == "group" and there.get("type") not in (None, "external"):
        after["type"] = "external"
    if not after:
        return None
    if "tune" in after:
        declared, held_now = each.content.get("tune") or {}, held(there.get("tune") or {}, each.content.get("tune") or {})
        after["tune"] = {**{key: empty_like(value) for key, value in held_now.items() if key not in declared}, **declared}
    before = {key: HIDDEN if key in secret else there.get(key) for key in after}
    return Step("update", each.ident, each, before, after)


def _comparable(each: Wanted, there: Mapping[str, Any]) -> dict[str, Any]:
    """Return the live fields that can be compared: of a mount's tuning those that are declared."""
    kind, fields = each.ident.kind, dict(there)
    for key in (*_READ_ONLY.get(kind, ()), *each.secrets):
        if key not in each.content:
            fields.pop(key, None)
    if kind in ("mount", "auth"):
        fields["tune"] = held(there.get("tune") or {}, each.content.get("tune") or {})
        if not each.content.get("options"):
            fields.pop("options", None)
    return fields


def _default(ident: Ident) -> bool:
    return ident == Ident("policy", "default")


def _left_over(ident: Ident) -> bool:
    """Return whether a killed run left this behind while it rehearsed a login."""
    return ident.kind == "auth" and ident.name.endswith(CANDIDATE_AUTH)
