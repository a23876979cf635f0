"""From what the inventory declares to the objects that should be on the server; whatever is wrong is said here.

Nothing is read from the server: a declaration that is not sound ends the run before anything has changed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DeclarationError
from . import policies
from .compare import seconds
from .objects import Ident, Wanted
from .proof import CANDIDATE_AUTH, CANDIDATE_POLICY

BUILT_IN_POLICIES = ("root", "default", "response-wrapping")
BUILT_IN_MOUNTS = ("sys", "cubbyhole", "identity", "token")
KNOWN_TYPES = ("jwt", "oidc", "approle")  # of which compare.py knows what a field holds that nobody set
LOWEST_RATE = 5  # requests a second; with less, a login and what it is for would not fit into one
REMOVABLE = ("mount", "auth", "vo")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")  # the server folds case in most of them
_PATH = re.compile(r"[a-z0-9_]+(/[a-z0-9_]+)*")
_GLOB = re.compile(r"[*+?\s]")


@dataclass(frozen=True)
class Policy:
    """A policy before its variables are filled in."""

    name: str
    file: str
    variables: Mapping[str, str]
    access: bool


@dataclass(frozen=True)
class Vo:
    """A virtual organisation.

    Attributes:
        name: of the VO and of its folder.
        entitlement: what every member has.
        members: `write` or `read`.
        writers: entitlements of those who may write where members only read.
    """

    name: str
    entitlement: str
    members: str = "write"
    writers: tuple[str, ...] = ()

    @property
    def entitlements(self) -> list[tuple[str, str]]:
        """Each entitlement with what it may do."""
        return [(self.entitlement, self.members), *((entitlement, "write") for entitlement in self.writers)]


@dataclass(frozen=True)
class Declaration:
    """All that is declared.

    Attributes:
        ledger_mount: path of the KV mount (version 2) that holds the ledger.
        wanted: every object but the policies.
        policies: policies, whose text needs accessors that only the server knows.
        vos: names of the VOs.
        vo_folder: below which each VO has its folder.
        remove: what may be removed although it holds users' data or logins, as `kind:name`.
    """

    ledger_mount: str
    wanted: list[Wanted]
    policies: list[Policy]
    vos: list[str]
    vo_folder: str
    remove: frozenset[str]
    _templates: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def auth_paths(self) -> list[str]:
        """Paths of the auth methods."""
        return [each.ident.name for each in self.wanted if each.ident.kind == "auth"]

    def all_wanted(self, accessors: Mapping[str, str]) -> list[Wanted]:
        """Return every object, policies filled in.

        Args:
            accessors: of the auth methods by their path; those that are missing are not known yet.
        """
        known = {
            policies.accessor_variable(path): accessors.get(path, policies.UNKNOWN_ACCESSOR) for path in self.auth_paths
        }
        texts = [
            Wanted(
                Ident("policy", each.name),
                {"policy": policies.fill_in(each.name, self._templates[each.file], each.variables, known)},
                access=each.access,
            )
            for each in self.policies
        ]
        return self.wanted + texts


def read(declared: Mapping[str, Any], policy_dir: Path, remove: Iterable[str]) -> Declaration:
    """Read a declaration.

    Args:
        declared: as the module vault_config takes it.
        policy_dir: the folder with the policies.
        remove: `kind:name` of what holds users' data or logins and may be removed for good.

    Raises:
        DeclarationError: it is not sound; the message has a sentence for each thing that is wrong.
    """
    vos = [Vo(each["name"], each["entitlement"], each["members"], tuple(each["writers"])) for each in declared["vos"]]
    template = declared["vo_template"] or {}
    found = [*_names(declared), *_of_vos(vos)]
    if found:
        raise DeclarationError("\n".join(found))

    texts = [Policy(each["name"], each["file"], each["variables"], each["access"]) for each in declared["policies"]]
    texts += _vo_policies(vos, template)
    wanted = [*_own(declared), *_of_each_vo(vos, template)]
    removals = frozenset(remove)
    found = [
        *_twice([each.ident for each in wanted] + [Ident("policy", each.name) for each in texts]),
        *_unknown_policies(wanted, {each.name for each in texts}),
        *_unknown_auth(wanted),
        *_for_everybody(wanted),
        *_not_durations(wanted),
        *_removals(removals, wanted, {vo.name for vo in vos}),
    ]
    templates: dict[str, str] = {}
    for each in texts:
        try:
            templates[each.file] = templates.get(each.file) or policies.read_template(policy_dir, each.name, each.file)
        except DeclarationError as error:
            found.append(str(error))
    if Ident("mount", declared["ledger_mount"]) not in {each.ident for each in wanted}:
        found.append(f"The ledger is kept in the mount {declared['ledger_mount']!r}, which `mounts` does not declare.")
    if found:
        raise DeclarationError("\n".join(found))
    declaration = Declaration(
        declared["ledger_mount"], wanted, texts, [vo.name for vo in vos], template.get("folder", ""), removals, templates
    )
    declaration.all_wanted({})  # has each policy's variables checked
    return declaration


def _own(declared: Mapping[str, Any]) -> Iterator[Wanted]:
    known = {each["path"] for each in declared["auth"] if each["type"] in KNOWN_TYPES}
    for each in declared["mounts"]:
        content = {
            "type": each["type"],
            "description": each["description"],
            "options": each["options"],
            "tune": each["tune"],
        }
        yield Wanted(Ident("mount", each["path"]), content, access=each["access"])
    for each in declared["auth"]:
        content = {"type": each["type"], "description": each["description"], "tune": each["tune"]}
        yield Wanted(Ident("auth", each["path"]), content, access=each["access"])
        if each["settings"] or each["secret_settings"]:
            ident = Ident("config", each["path"])
            exact = each["path"] in known
            yield Wanted(ident, each["settings"], each["secret_settings"], each["access"], exact)
    for each in declared["roles"]:
        ident, exact = Ident("role", f"{each['auth']}/{each['name']}"), each["auth"] in known
        yield Wanted(ident, each["settings"], access=each["access"], exact=exact)
    for each in declared["groups"]:
        content = {"policies": each["policies"], "auth": each["auth"], "alias": each["alias"]}
        yield Wanted(Ident("group", each["name"]), content)
    for each in declared["quotas"]:
        yield Wanted(Ident("quota", each["name"]), each["settings"], exact=True)


def _vo_policy(vo: str, may: str) -> str:
    return f"vo-{vo}-{may}"


def _vo_policies(vos: Iterable[Vo], template: Mapping[str, Any]) -> list[Policy]:
    return [
        Policy(_vo_policy(vo.name, may), template[f"{may}_policy"], {"vo": vo.name}, access=False)
        for vo in vos
        for may in sorted({may for _, may in vo.entitlements})
    ]


def _of_each_vo(vos: Iterable[Vo], template: Mapping[str, Any]) -> Iterator[Wanted]:
    """Give each VO its roles at the command line, and a group in the web UI for each entitlement."""
    for vo in vos:
        roles = [(vo.name, [vo.entitlement], vo.members)]
        if vo.writers:
            roles.append((f"{vo.name}.writers", list(vo.writers), "write"))
        for name, entitlements, may in roles:
            common = template["role_settings"]
            settings = {
                **common,
                "bound_claims": {**common.get("bound_claims", {}), template["claim"]: entitlements},
                "token_policies": [*template["role_policies"], _vo_policy(vo.name, may)],
            }
            yield Wanted(Ident("role", f"{template['cli_auth']}/{name}"), settings, exact=True)
        if not template.get("web_auth"):
            continue
        for number, (entitlement, may) in enumerate(vo.entitlements):
            # A group has one alias; the members' is the first, and writers' are counted. What it may do is not in its name,
            # so that a change of that is a change of the group.
            suffix = "" if number == 0 else f"-writers-{number}"
            content = {"policies": [_vo_policy(vo.name, may)], "auth": template["web_auth"], "alias": entitlement}
            yield Wanted(Ident("group", f"vo-{vo.name}{suffix}"), content)


def _names(declared: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("mounts", "auth"):
        for each in declared[kind]:
            yield from _of_path(kind, each["path"])
    yield from _nested(declared)
    for kind in ("policies", "roles", "groups", "quotas"):
        for each in declared[kind]:
            yield from _of_name(kind, each["name"])
    for each in declared["policies"]:
        if each["name"] in BUILT_IN_POLICIES and each["name"] != "default":
            yield f"policies: {each['name']!r} is built in, and not for this project to change."
    for each in declared["quotas"]:
        yield from _of_quota(each["name"], each["settings"])


def _of_path(kind: str, path: str) -> Iterator[str]:
    if not _PATH.fullmatch(path):
        yield (
            f"{kind}: {path!r} is no path that clients can rely on: use lower-case letters, digits and _ (no dash), with / "
            "between parts."
        )
    elif kind == "auth" and "/" in path:
        yield f"auth: {path!r} has a /, and policies name the methods that may be configured by one part: use _ instead."
    elif path.endswith(CANDIDATE_AUTH):
        yield f"{kind}: {path!r} ends in {CANDIDATE_AUTH}, which is kept for rehearsals: rename it."
    elif path.split("/", maxsplit=1)[0] in BUILT_IN_MOUNTS:
        yield f"{kind}: {path!r} is built in, and not for this project to change."


def _of_name(kind: str, name: str) -> Iterator[str]:
    if not _NAME.fullmatch(name) or ".." in name:
        yield f"{kind}: {name!r} is no name: use lower-case letters, digits, dots, dashes and _, 200 at most."
    elif name.endswith(CANDIDATE_POLICY):
        yield f"{kind}: {name!r} ends in {CANDIDATE_POLICY}, which is kept for rehearsals: rename it."


def _of_quota(name: str, settings: Mapping[str, Any]) -> Iterator[str]:
    if not settings.get("path"):
        yield f"quotas: {name} has no path: a limit on everything would count for operators too; name what it is for."
    rate = settings.get("rate")
    try:
        sound = float(str(rate)) >= LOWEST_RATE
    except ValueError:
        sound = False
    if not sound:
        yield f"quotas: {name} has the rate {rate!r}: give requests a second, {LOWEST_RATE} at least."


def _nested(declared: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("mounts", "auth"):
        paths = [each["path"] for each in declared[kind]]
        for inner in paths:
            outer = next((path for path in paths if inner.startswith(path + "/")), None)
            if outer:
                yield f"{kind}: {inner!r} lies inside {outer!r}, and would hide what is there: mount it beside it."


def _of_vos(vos: Iterable[Vo]) -> Iterator[str]:
    owners: dict[str, str] = {}
    for vo in vos:
        if not _NAME.fullmatch(vo.name) or ".." in vo.name or vo.name.endswith(CANDIDATE_POLICY):
            yield (
                f"vos: {vo.name!r} cannot be the name of a VO: it becomes the name of a folder and of a role, so use "
                "lower-case letters, digits, dots, dashes and _, at most 200, and begin with a letter or digit."
            )
        for entitlement, _ in vo.entitlements:
            if not entitlement or _GLOB.search(entitlement):
                yield (
                    f"vos: {vo.name} has the entitlement {entitlement!r}, which "
                    f"{'is empty' if not entitlement else 'may match more than one'}: give the one entitlement in full."
                )
            owner = owners.setdefault(entitlement.casefold(), vo.name)
            if owner != vo.name:
                yield (
                    f"vos: {owner} and {vo.name} have the same entitlement {entitlement!r}: each member of "
                    "the one would be a member of the other."
                )
        if len(set(vo.writers) | {vo.entitlement}) != 1 + len(vo.writers):
            yield f"vos: {vo.name} names an entitlement twice: members have one, writers have others."


def _twice(idents: Iterable[Ident]) -> Iterator[str]:
    for ident, times in Counter(idents).items():
        if times > 1:
            yield f"{ident} is declared {times} times (VOs have roles, policies and groups of their own): rename one."


def _unknown_policies(wanted: Iterable[Wanted], known: set[str]) -> Iterator[str]:
    for each in wanted:
        for key in ("policies", "token_policies"):
            names = each.content.get(key) or []
            for name in [names] if isinstance(names, str) else names:
                if name == "root":
                    yield f"{each.ident} gives the policy root: no login of this service may have it."
                elif name not in known and name != "default":
                    yield f"{each.ident} gives the policy {name!r}, which is not declared: add it to `policies`."


def _unknown_auth(wanted: Iterable[Wanted]) -> Iterator[str]:
    objects = list(wanted)
    paths = {each.ident.name for each in objects if each.ident.kind == "auth"}
    for each in objects:
        auth = each.ident.name.rpartition("/")[0] if each.ident.kind == "role" else each.content.get("auth")
        if each.ident.kind in ("role", "group") and auth not in paths:
            yield f"{each.ident} belongs to the auth method {auth!r}, which is not declared: add it to `auth`."


def _for_everybody(wanted: Iterable[Wanted]) -> Iterator[str]:
    for each in wanted:
        claims = each.content.get("bound_claims") if each.ident.kind == "role" else None
        for claim, values in (claims or {}).items():
            if "*" in ([values] if isinstance(values, str) else values or []):
                yield f"{each.ident} binds {claim} to '*', which everybody's token has: name what it must be."


def _not_durations(wanted: Iterable[Wanted]) -> Iterator[str]:
    for each in wanted:
        for key, value in each.content.items():
            if key.endswith(("_ttl", "_period")) and isinstance(value, str) and seconds(value) is None:
                yield f"{each.ident}: {key} is {value!r}: give a duration such as 90s, 1h or 30d."


def _removals(removals: Iterable[str], wanted: Iterable[Wanted], vos: set[str]) -> Iterator[str]:
    declared = {str(each.ident) for each in wanted} | {f"vo:{name}" for name in vos}
    for each in sorted(removals):
        kind, _, name = each.partition(":")
        if kind not in REMOVABLE or not name:
            yield f"remove: {each!r} names nothing: write mount:<path>, auth:<path> or vo:<name>."
        elif each in declared:
            yield f"remove: {each} is declared as well: take it out of one of the two."
        elif kind != "vo" and name.split("/")[0] in BUILT_IN_MOUNTS:
            yield f"remove: {each} is built in."
