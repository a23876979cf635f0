"""Who may do what is what the inventory says, whatever somebody did by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from checkin import Checkin
from lab import NODES, Lab
from personas import NODE, Personas

NARROW = 'path "x" { capabilities = ["read"] }'


@pytest.fixture(scope="module")
def jwt(lab: Lab) -> str:
    return Checkin(lab).token("bob")  # any operator


@pytest.fixture
def by_hand(lab: Lab, personas: Personas) -> Iterator[str]:
    """A configurator's token, and what is not this project's is cleared away at the end."""
    token = personas.fresh("configurator")
    yield token
    lab.api(NODE, "DELETE", "sys/policies/acl/by-hand", token=token)


def extra(**variables: object) -> list[str]:
    return ["-e", json.dumps(variables)]


def test_drift_is_shown_then_mended_and_what_is_foreign_is_left(
    lab: Lab, personas: Personas, jwt: str, by_hand: str
) -> None:
    role = lab.api(NODE, "GET", "auth/jwt/role/personal", token=by_hand).body["data"]
    group = "identity/group/name/vo-vo.access.egi.eu"
    assert lab.api(NODE, "PUT", "sys/policies/acl/personal", {"policy": NARROW}, token=by_hand).status == 204
    assert lab.api(NODE, "PUT", "auth/jwt/role/personal", role | {"token_period": 360000}, token=by_hand).status < 300
    assert lab.api(NODE, "PUT", group, {"policies": ["operator"]}, token=by_hand).status < 300
    assert lab.api(NODE, "PUT", "sys/policies/acl/by-hand", {"policy": NARROW}, token=by_hand).status == 204

    shown = lab.run("operate/show-drift.yml", jwt=jwt)
    assert shown.returncode == 2
    for what in ("update policy:personal", "update role:jwt/personal", "update group:vo-vo.access.egi.eu"):
        assert what in shown.text
    assert "policy:by-hand" in shown.text
    assert "token_period: 360000" in shown.text

    assert lab.play(*NODES, jwt=jwt).recap("changed") == 1
    clean = lab.play("operate/show-drift.yml", jwt=jwt)
    assert "policy:by-hand" in clean.text
    assert lab.api(NODE, "GET", "sys/policies/acl/by-hand", token=by_hand).status == 200
    assert personas.try_login(personas.checkin.token("ada")).body["auth"]["policies"] == ["default", "personal"]


@pytest.mark.long
def test_a_vo_comes_by_yaml_and_its_access_goes_with_it_but_not_its_secrets(lab: Lab, personas: Personas, jwt: str) -> None:
    new = {"name": "new.egi.eu", "entitlement": "urn:mace:egi.eu:group:new.egi.eu:role=member#aai.egi.eu"}
    shown = lab.run("operate/show-drift.yml", *extra(vault_config_vos=[new]), jwt=jwt)
    assert "create role:jwt/new.egi.eu" in shown.text
    assert "remove role:jwt/training.egi.eu" in shown.text
    had = personas.checkin.set_entitlements("dan", [new["entitlement"]])
    try:
        lab.play("deploy/config.yml", *extra(vault_config_vos=[new]), jwt=jwt)
        member = personas.login("dan", "new.egi.eu")
        assert lab.api(NODE, "PUT", "secrets/vos/new.egi.eu/key", {"a": "1"}, token=member).status == 204

        back = lab.play("deploy/config.yml", jwt=jwt)
        assert "vo:new.egi.eu is kept" in back.text
        assert personas.try_login(personas.checkin.token("dan"), "new.egi.eu").status == 400
        assert lab.api(NODE, "GET", "secrets/vos/new.egi.eu/key", token=member).status == 403

        lab.play("deploy/config.yml", *extra(vault_config_remove=["vo:new.egi.eu"]), jwt=jwt)
        lab.play("deploy/config.yml", *extra(vault_config_vos=[new]), jwt=jwt)
        again = personas.login("dan", "new.egi.eu")
        assert lab.api(NODE, "GET", "secrets/vos/new.egi.eu/key", token=again).status == 404
    finally:
        personas.checkin.set_entitlements("dan", had)
        lab.play("deploy/config.yml", *extra(vault_config_remove=["vo:new.egi.eu"]), jwt=jwt)
    assert lab.play("operate/show-drift.yml", jwt=jwt).returncode == 0


# What each bad declaration is told; CI tries those that need the login as it is, the rest needs no server to be seen.
BAD: list[tuple[dict[str, Any], str]] = [
    ({"vault_config_issuer": "https://checkin.lab.test/auth/realms/elsewhere"}, "so it was not changed"),
    ({"vault_config_operators": [{"name": "nobody", "subject": "nobody@egi.eu"}]}, "so it was not changed"),
    ({"vault_config_client_ids": ["other-service"]}, "so it was not changed"),
    (
        {"vault_config_roles": [{"auth": "jwt", "name": "x", "settings": {"token_policies": ["nobody"]}}]},
        "which is not declared",
    ),
    (
        {"vault_config_vos": [{"name": "a", "entitlement": "urn:x"}, {"name": "b", "entitlement": "urn:x"}]},
        "the same entitlement",
    ),
    ({"vault_config_vos": [{"name": "a", "entitlement": "*"}]}, "may match more than one"),
    ({"vault_config_vos": [{"name": "../operations", "entitlement": "urn:x"}]}, "cannot be the name of a VO"),
    ({"vault_config_policies": [{"name": "x", "file": "README.md"}]}, "uses ${name}"),
    ({"vault_config_login_ttl": "an hour"}, "give a duration"),
    ({"vault_config_operators": []}, "names nobody"),
    ({"vault_config_client_ids": []}, "vault_config_client_ids is empty"),
]


@pytest.mark.parametrize(
    ("variables", "words"),
    [pytest.param(*each, marks=[pytest.mark.long] if place > 1 else []) for place, each in enumerate(BAD)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_declaration_changes_nothing(lab: Lab, jwt: str, variables: dict[str, Any], words: str) -> None:
    run = lab.run("deploy/config.yml", *extra(**variables), jwt=jwt)
    assert run.returncode == 2
    assert words in run.text
    assert lab.play("operate/show-drift.yml", jwt=jwt).returncode == 0


def test_an_operator_cannot_configure_in_the_daily_role(lab: Lab, personas: Personas) -> None:
    daily = personas.token("operator")
    assert lab.api(NODE, "PUT", "sys/policies/acl/by-hand", {"policy": NARROW}, token=daily).status == 403


@pytest.mark.parametrize("task", ["Bring mounts, logins"])
def test_killed_while_it_configures_and_run_again(lab: Lab, jwt: str, task: str) -> None:
    change = extra(vault_config_login_ttl="2h", vault_config_web_max_ttl="11h")

    def while_it_does(header: str, _: int) -> bool:
        if task in header:
            time.sleep(0.5)  # it begins, and takes a second or two
        return task in header

    killed = lab.kill_at("deploy/config.yml", while_it_does, *change, jwt=jwt)
    assert killed.returncode < 0
    lab.play("deploy/config.yml", jwt=jwt)
    assert lab.play("operate/show-drift.yml", jwt=jwt).returncode == 0
