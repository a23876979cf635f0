"""Filters about the configuration, and what a run tells."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from ansible.errors import AnsibleFilterError
from ansible.module_utils.egi_secrets.reconcile.objects import Ident, Wanted
from ansible.module_utils.egi_secrets.reconcile.plan import Plan, Step
from ansible.module_utils.egi_secrets.reconcile.report import diff_of, plan_of, sentences

FILTERS = Path(__file__).resolve().parents[2] / "plugins/filter/config.py"


def filters() -> ModuleType:
    spec = importlib.util.spec_from_file_location("config_filters", FILTERS)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SERVICES = [{"name": "backup", "addresses": ["192.0.2.1", "192.0.2.128/25", "2001:db8::1"]}]


def test_a_service_has_one_policy_from_its_own_file() -> None:
    assert filters().service_policies(SERVICES) == [{"name": "service-backup", "file": "service-backup.hcl"}]


def test_a_service_may_do_its_one_job_from_its_own_addresses_only() -> None:
    [role] = filters().service_roles(SERVICES)
    blocks = ["192.0.2.1/32", "192.0.2.128/25", "2001:db8::1/128"]
    assert (role["auth"], role["name"]) == ("approle", "backup")
    assert role["settings"]["token_policies"] == ["service-backup"]
    assert role["settings"]["token_no_default_policy"] is True
    assert role["settings"]["token_bound_cidrs"] == role["settings"]["secret_id_bound_cidrs"] == blocks


def test_addresses_that_are_none_are_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="give IP addresses"):
        filters().service_roles([{"name": "backup", "addresses": ["nowhere"]}])
    with pytest.raises(AnsibleFilterError, match="has no addresses, which to the server is any"):
        filters().service_roles([{"name": "backup", "addresses": []}])


def test_lifetimes_have_bounds() -> None:
    sound = [["vault_config_configurator_ttl", "20m", "5m", "1h"]]
    assert filters().lifetime_problems(sound) == []
    for given, words in (("0", "give 5m to 1h"), ("8760h", "give 5m to 1h"), ("soon", "give a duration")):
        assert words in " ".join(filters().lifetime_problems([["vault_config_configurator_ttl", given, "5m", "1h"]]))


def test_planned_changes_are_told_in_a_line_each() -> None:
    assert filters().planned_changes([{"action": "update", "id": "role:jwt/personal"}]) == ["update role:jwt/personal"]


OPERATORS = [{"name": "alice", "subject": "a@egi.eu"}]
ISSUER = "https://aai.egi.eu/auth/realms/egi"


def test_a_sound_login_has_no_problems() -> None:
    assert filters().login_problems(OPERATORS, ISSUER, ["cli"], "*@egi.eu") == []


@pytest.mark.parametrize(
    ("operators", "issuer", "clients", "subjects", "words"),
    [
        ([], ISSUER, ["cli"], "*@egi.eu", "names nobody"),
        ([{"subject": "*"}], ISSUER, ["cli"], "*@egi.eu", "may stand for anybody"),
        ([{"subject": ""}], ISSUER, ["cli"], "*@egi.eu", "may stand for anybody"),
        (OPERATORS, ISSUER, [], "*@egi.eu", "vault_config_client_ids is empty"),
        (OPERATORS, ISSUER, ["*"], "*@egi.eu", "may stand for anybody"),
        (OPERATORS, ISSUER, ["cli"], "*", "give what subjects end in"),
        (OPERATORS, ISSUER, ["cli"], "*@*", "give what subjects end in"),
        (OPERATORS, ISSUER, ["cli"], "@egi.eu", "give what subjects end in"),
        (OPERATORS, "http://aai.egi.eu", ["cli"], "*@egi.eu", "give an https URL"),
    ],
)
def test_a_login_for_nobody_or_for_everybody_is_refused(
    operators: list[dict[str, str]], issuer: str, clients: list[str], subjects: str, words: str
) -> None:
    assert words in " ".join(filters().login_problems(operators, issuer, clients, subjects))


PLAN = Plan(
    steps=[
        Step("create", Ident("policy", "new"), Wanted(Ident("policy", "new"), {}), {}, {"policy": "a\nb\n"}),
        Step("update", Ident("role", "jwt/x"), Wanted(Ident("role", "jwt/x"), {}), {"ttl": 1}, {"ttl": 2}),
        Step("remove", Ident("policy", "old")),
    ],
    foreign=[],
    kept=["vo:one", "auth:ldap", "config:ldap", "mount:old"],
    adopted=[],
    folders=["two"],
)


def test_the_plan_tells_each_change_in_order() -> None:
    told = [f"{step['action']} {step['id']}" for step in plan_of(PLAN)]
    assert told == ["create policy:new", "update role:jwt/x", "remove policy:old", "remove vo:two"]


def test_the_diff_has_what_differs_and_texts_as_people_read_them() -> None:
    diff = diff_of(PLAN)
    assert "policy:new:\n  policy: |\n    a\n    b\n" in diff["after"]
    assert "policy:new" not in diff["before"]
    assert "ttl: 1" in diff["before"]
    assert "ttl: 2" in diff["after"]
    assert "vo:two" in diff["before"]
    assert "vo:two" not in diff["after"]


def test_what_is_kept_is_told_once_with_the_remedy() -> None:
    told = sentences(PLAN)
    assert [sentence.split()[0] for sentence in told] == ["vo:one", "auth:ldap", "mount:old"]
    assert all("vault_config_remove" in sentence for sentence in told)
