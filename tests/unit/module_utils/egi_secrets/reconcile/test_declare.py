"""A declaration that is not sound is refused with a sentence for each thing that is wrong; nothing is read before."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.egi_secrets import products
from ansible.module_utils.egi_secrets.errors import DeclarationError
from ansible.module_utils.egi_secrets.reconcile import declare, policies
from ansible.module_utils.egi_secrets.reconcile.objects import Ident

POLICIES = Path(__file__).resolve().parents[5] / "files/policies"
Declared = dict[str, Any]


def sound() -> Declared:
    bound = {"user_claim": "sub", "bound_claims": {"azp": ["cli"]}, "token_ttl": "1h"}
    kv = {"type": "kv", "description": "", "options": {}, "tune": {}, "access": False}
    return {
        "ledger_mount": "operations",
        "mounts": [{"path": "operations", **kv}, {"path": "secrets", **kv}],
        "auth": [
            {
                "path": "jwt",
                "type": "jwt",
                "description": "",
                "tune": {},
                "settings": {},
                "secret_settings": {},
                "access": False,
            }
        ],
        "policies": [{"name": "personal", "file": "personal.hcl", "variables": {}, "access": False}],
        "roles": [
            {"auth": "jwt", "name": "personal", "settings": {**bound, "token_policies": ["personal"]}, "access": False}
        ],
        "groups": [],
        "quotas": [{"name": "logins", "settings": {"rate": 10, "path": "secrets/"}}],
        "vos": [
            {"name": "vo.one", "entitlement": "urn:one", "members": "write", "writers": []},
            {"name": "vo.two", "entitlement": "urn:two", "members": "read", "writers": ["urn:two:writer"]},
        ],
        "vo_template": {
            "folder": "secrets/vos",
            "cli_auth": "jwt",
            "web_auth": "jwt",
            "claim": "entitlements",
            "read_policy": "vo-read.hcl",
            "write_policy": "vo-write.hcl",
            "role_policies": ["personal"],
            "role_settings": bound,
        },
    }


def read(declared: Declared, remove: tuple[str, ...] = ()) -> declare.Declaration:
    return declare.read(declared, POLICIES, remove)


def test_a_vo_has_roles_policies_and_groups_of_its_own() -> None:
    wanted = {each.ident: each.content for each in read(sound()).all_wanted({"jwt": "auth_jwt_1"})}
    reader, writer = wanted[Ident("role", "jwt/vo.two")], wanted[Ident("role", "jwt/vo.two.writers")]
    assert reader["bound_claims"] == {"azp": ["cli"], "entitlements": ["urn:two"]}
    assert reader["token_policies"] == ["personal", "vo-vo.two-read"]
    assert writer["bound_claims"]["entitlements"] == ["urn:two:writer"]
    assert writer["token_policies"] == ["personal", "vo-vo.two-write"]
    assert wanted[Ident("group", "vo-vo.two")]["alias"] == "urn:two"
    assert wanted[Ident("group", "vo-vo.two-writers-1")]["alias"] == "urn:two:writer"
    assert 'path "secrets/vos/vo.one/*"' in wanted[Ident("policy", "vo-vo.one-write")]["policy"]
    assert "aliases.auth_jwt_1.name" in wanted[Ident("policy", "personal")]["policy"]


def test_accessors_of_methods_that_are_not_there_yet_are_told_as_such() -> None:
    wanted = {each.ident: each.content for each in read(sound()).all_wanted({})}
    assert policies.UNKNOWN_ACCESSOR in wanted[Ident("policy", "personal")]["policy"]


def test_without_a_web_login_vos_have_no_groups() -> None:
    declared = sound()
    declared["vo_template"]["web_auth"] = ""
    assert not [each for each in read(declared).wanted if each.ident.kind == "group"]


def change(path: str, value: object) -> Callable[[Declared], None]:
    """Return what sets a value at a path such as vos.0.name."""

    def apply(declared: Declared) -> None:
        *way, last = path.split(".")
        place: Any = declared
        for part in way:
            place = place[int(part)] if part.isdecimal() else place[part]
        place[last] = value

    return apply


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (change("auth.0.path", "sites/one"), "has a /, and policies name the methods"),
        (change("vos.0.name", "../operations"), "cannot be the name of a VO"),
        (change("vos.0.name", "a/b"), "cannot be the name of a VO"),
        (change("vos.0.name", "a..b"), "cannot be the name of a VO"),
        (change("vos.0.name", "+"), "cannot be the name of a VO"),
        (change("vos.0.name", ""), "cannot be the name of a VO"),
        (change("vos.0.name", "personal"), "role:jwt/personal is declared 2 times"),
        (change("vos.0.name", "vo.two.writers"), "role:jwt/vo.two.writers is declared 2 times"),
        (change("vos.0.entitlement", "*"), "may match more than one"),
        (change("vos.0.entitlement", "urn:*:member"), "may match more than one"),
        (change("vos.0.entitlement", ""), "is empty"),
        (change("vos.0.entitlement", "urn:one "), "may match more than one"),
        (change("vos.0.entitlement", "urn:two"), "the same entitlement"),
        (change("vos.0.entitlement", "urn:two:writer"), "the same entitlement"),
        (change("vos.1.writers", ["urn:two"]), "names an entitlement twice"),
        (change("roles.0.settings", {"token_policies": ["nobody"]}), "'nobody', which is not declared"),
        (change("roles.0.settings", {"token_policies": ["root"]}), "gives the policy root"),
        (change("roles.0.settings", {"token_ttl": "an hour"}), "give a duration"),
        (change("roles.0.auth", "elsewhere"), "'elsewhere', which is not declared"),
        (change("mounts.1.path", "my-secrets"), "no dash"),
        (change("mounts.1.path", "sys"), "is built in"),
        (change("mounts.0.path", "other"), "The ledger is kept in the mount 'operations'"),
        (change("policies.0.name", "root"), "is built in"),
        (change("policies.0.file", "../../README.md"), "give the name of a file in"),
        (change("policies.0.file", "missing.hcl"), "cannot be read"),
        (change("policies.0.variables", {"colour": "red"}), "does not use it"),
        (change("policies.0.file", "vo-read.hcl"), "uses ${vo}, which nobody gives it"),
        (change("vos.0.name", "Vo.One"), "cannot be the name of a VO"),
        (change("vos.0.name", "x" * 5000), "cannot be the name of a VO"),
        (change("vos.0.name", "operator.candidate"), "cannot be the name of a VO"),
        (change("vos.0.entitlement", "URN:TWO"), "the same entitlement"),
        (change("roles.0.name", "Personal"), "is no name"),
        (change("roles.0.name", "personal.candidate"), "kept for rehearsals"),
        (change("roles.0.settings", {"bound_claims": {"sub": "*"}}), "binds sub to '*'"),
        (change("auth.0.path", "jwt_candidate"), "kept for rehearsals"),
        (change("mounts.1.path", "operations/deep"), "lies inside 'operations'"),
        (change("quotas.0.settings", {"rate": 10}), "has no path"),
        (change("quotas.0.settings", {"rate": 0, "path": "secrets/"}), "has the rate 0"),
        (change("quotas.0.settings", {"rate": "many"}), "has the rate 'many'"),
    ],
)
def test_what_is_not_sound_is_refused(spoil: Callable[[Declared], None], words: str) -> None:
    declared = copy.deepcopy(sound())
    spoil(declared)
    with pytest.raises(DeclarationError) as error:
        read(declared)
    assert words in str(error.value)


@pytest.mark.parametrize("remove", ["mount:secrets", "vo:vo.one", "secrets", "policy:personal", "mount:sys", "vo:"])
def test_a_removal_of_what_is_declared_or_cannot_be_removed_is_refused(remove: str) -> None:
    with pytest.raises(DeclarationError):
        read(sound(), (remove,))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('path "a" {', "is no HCL"),
        ('path "a" {\n  capabilities = ["raed"]\n}\n', "'raed' is no capability"),
        ('path "a" {\n  capabilites = ["read"]\n}\n', "'capabilites' is no field"),
        ('path "a" {\n}\n', "gives no capabilities"),
        ('path "a*b" {\n  capabilities = ["read"]\n}\n', "* stands at the end only"),
        ('rule "a" {\n}\n', "a policy is made of path blocks"),
    ],
)
def test_a_policy_that_does_not_parse_is_found_before_the_server_does(text: str, words: str) -> None:
    assert words in " ".join(policies.problems("test", text))


@pytest.mark.parametrize("file", sorted(POLICIES.glob("*.hcl")), ids=lambda file: file.stem)
def test_the_projects_own_policies_are_sound(file: Path) -> None:
    accessors = {"jwt_accessor": "auth_jwt_1", "oidc_accessor": "auth_oidc_1"}
    variables = {"vo": "vo.one", **accessors, **products.VAULT.operator_api}
    used = {name: value for name, value in variables.items() if f"${{{name}}}" in file.read_text()}
    assert policies.problems(file.stem, policies.fill_in(file.stem, file.read_text(), used, {})) == []
