"""The hand-over from the first root token to the operators' logins. It comes first: the other tests live on what it makes.

On a lab where it has taken place already (`make lab`), what can still be shown is.
"""

from __future__ import annotations

import pytest
from checkin import Checkin
from lab import NODES, Lab, leaks
from personas import Personas

WRONG = "vault_config_issuer=https://checkin.lab.test/auth/realms/elsewhere"


def root_is_valid(lab: Lab) -> bool:
    return lab.bundle()["root_token"]["revoked_at"] is None


@pytest.fixture(scope="module")
def jwt(lab: Lab) -> str:
    return Checkin(lab).token("alice")


@pytest.fixture(scope="module")
def fresh(lab: Lab) -> None:
    if not root_is_valid(lab):
        pytest.skip("the root token of this lab has been revoked")


# What must not lock anybody out while the first root token is still the only way in.
before = pytest.mark.usefixtures("fresh")


@before
def test_nothing_is_configured_without_a_login_to_hand_over_to(lab: Lab) -> None:
    run = lab.run("deploy/config.yml")
    assert run.returncode != 0
    assert "Neither OIDC_ACCESS_TOKEN nor VAULT_TOKEN is set" in run.text
    assert root_is_valid(lab)


@before
def test_a_mistake_in_the_login_settings_leaves_the_root_token(lab: Lab, jwt: str) -> None:
    run = lab.run("deploy/config.yml", "-e", WRONG, jwt=jwt)
    assert run.returncode != 0
    assert root_is_valid(lab)


@before
def test_a_token_of_somebody_who_is_no_operator_leaves_the_root_token(lab: Lab) -> None:
    run = lab.run("deploy/config.yml", jwt=Checkin(lab).token("ada"))
    assert run.returncode != 0
    assert "The operators' login would not work" in run.text
    assert root_is_valid(lab)


@before
def test_the_hand_over_shows_no_secret(lab: Lab, jwt: str) -> None:
    secrets = [lab.root_token(), *lab.clear_shares(), jwt, (lab.state / "checkin/web-client-secret").read_text().strip()]
    run = lab.play(*NODES, "-vvv", "--diff", jwt=jwt)
    assert leaks(run.output, secrets) == []
    for node in lab.nodes:
        journal = lab.ssh(node, "journalctl --no-pager")
        assert leaks(journal, secrets) == []
        found = lab.ssh(
            node, "grep -rlaFf - /etc /run /root /tmp /var/log /var/tmp", stdin="\n".join(secrets) + "\n", check=False
        )
        assert found == ""


def test_the_root_token_is_gone(lab: Lab) -> None:
    assert not root_is_valid(lab)
    answer = lab.api(lab.active(), "GET", "auth/token/lookup-self", token=lab.root_token())
    assert answer.status == 403


def test_no_root_token_is_left_anywhere(lab: Lab, personas: Personas) -> None:
    # Nobody may list tokens; whoever configures can allow themselves to, which shows in the audit log.
    active, token = lab.active(), personas.fresh("configurator")
    policy = 'path "auth/token/*" { capabilities = ["list", "update", "sudo"] }'
    role = lab.api(active, "GET", "auth/jwt/role/operator", token=token).body["data"]
    body = {key: role[key] for key in ("role_type", "user_claim", "bound_claims_type", "bound_claims")}
    lab.api(active, "PUT", "sys/policies/acl/auditor", {"policy": policy}, token=token)
    lab.api(active, "PUT", "auth/jwt/role/auditor", body | {"token_policies": ["auditor"]}, token=token)
    try:
        auditor = personas.login("alice", "auditor")
        accessors = lab.api(active, "LIST", "auth/token/accessors", token=auditor).body["data"]["keys"]
        lookups = [
            lab.api(active, "POST", "auth/token/lookup-accessor", {"accessor": each}, token=auditor) for each in accessors
        ]
        assert accessors
        assert [each for each in lookups if "root" in each.body.get("data", {}).get("policies", [])] == []
    finally:
        lab.api(active, "DELETE", "auth/jwt/role/auditor", token=token)
        lab.api(active, "DELETE", "sys/policies/acl/auditor", token=token)


def test_the_second_run_changes_nothing(lab: Lab, jwt: str) -> None:
    assert lab.play(*NODES, jwt=jwt).recap("changed") == 0


def test_check_mode_changes_nothing_and_fails_nothing(lab: Lab, jwt: str) -> None:
    run = lab.play(*NODES, "--check", "-e", '{"vault_config_login_ttl": "2h"}', jwt=jwt)
    assert run.recap("changed") == 1
    assert lab.play("operate/show-drift.yml", jwt=jwt).returncode == 0
