"""What somebody would try who wants more than is theirs."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest
from checkin import STRANGER
from lab import Lab, wait_for
from personas import NODE, Personas
from sign_in import claims_of

Claims = dict[str, Any]
VO = "vo.access.egi.eu"
REFUSED = (400, 403)


@pytest.fixture(scope="module")
def claims(personas: Personas) -> Claims:
    """What a real token of Ada's says."""
    return claims_of(personas.checkin.token("ada"))


def change(**changes: object) -> Callable[[Claims], Claims]:
    return lambda claims: {key: value for key, value in {**claims, **changes}.items() if value is not None}


# --- tokens that are not what they seem ------------------------------------------------------------------------------------


def test_a_token_with_exactly_the_claims_of_a_real_one_is_accepted(personas: Personas, claims: Claims) -> None:
    # Otherwise the refusals below would prove nothing.
    assert personas.try_login(personas.checkin.sign(claims)).status == 200


@pytest.mark.parametrize(
    "forged",
    [
        change(iss="https://checkin.lab.test/auth/realms/other"),
        change(iss=None),
        change(azp=STRANGER),
        change(azp=None),
        change(azp="fedcloud-cli2"),
        change(aud="https://vault.services.lab.test"),
        change(sub=None),
        change(sub="ada@elsewhere.test"),
        change(exp=1_700_000_000, iat=1_699_999_000, nbf=None),
        change(nbf=4_000_000_000, iat=4_000_000_000, exp=4_000_003_600),
    ],
    ids=["other issuer", "no issuer", "other client", "no client", "client with a longer name", "other audience",
         "no subject", "other realm's subject", "expired", "not yet valid"],
)  # fmt: skip
def test_a_token_that_says_something_else_is_refused(
    personas: Personas, claims: Claims, forged: Callable[[Claims], Claims]
) -> None:
    answer = personas.try_login(personas.checkin.sign(forged(claims)))
    assert answer.status in REFUSED, answer


def test_a_token_that_has_just_expired_is_refused(personas: Personas, claims: Claims) -> None:
    now = int(time.time())
    answer = personas.try_login(personas.checkin.sign(change(iat=now - 3600, nbf=None, exp=now - 30)(claims)))
    assert answer.status == 400


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_a_token_with_another_algorithm_is_refused(personas: Personas, claims: Claims, algorithm: str) -> None:
    assert personas.try_login(personas.checkin.sign(claims, {"alg": algorithm})).status == 400


def test_a_token_that_somebody_else_signed_is_refused(personas: Personas, claims: Claims) -> None:
    assert personas.try_login(personas.checkin.sign(claims, stranger=True)).status == 400


def test_a_real_token_of_another_service_is_refused(personas: Personas) -> None:
    assert personas.try_login(personas.checkin.token("ada", client=STRANGER)).status in REFUSED


@pytest.mark.parametrize("role", ["operator", "configurator", "training.egi.eu", "vo.reading.egi.eu.writers", "nobody"])
def test_a_role_that_is_not_theirs_is_refused(personas: Personas, role: str) -> None:
    assert personas.try_login(personas.checkin.token("ben"), role).status in REFUSED


def test_people_without_the_claim_have_their_own_space_and_no_vo(personas: Personas) -> None:
    jwt = personas.checkin.token("eve")
    assert personas.try_login(jwt).status == 200
    assert personas.try_login(jwt, VO).status in REFUSED


# --- subjects that would be paths ------------------------------------------------------------------------------------------


ODD_SUBJECTS = [
    *("+", "*", "+@egi.eu", "*@egi.eu", "../vos@egi.eu", "a/../b@egi.eu", "+/x@egi.eu", "x/+/@egi.eu", "", " @egi.eu"),
    *("{{identity.entity.id}}@egi.eu", "ada@egi.eu\n@egi.eu"),
]


@pytest.mark.parametrize("subject", ODD_SUBJECTS)
def test_an_odd_subject_reaches_nobody_elses_folder(lab: Lab, personas: Personas, claims: Claims, subject: str) -> None:
    ada = personas.checkin.people["ada"]
    lab.api(NODE, "PUT", f"secrets/users/{ada}/attack", {"a": "1"}, token=personas.token("ada"))
    answer = personas.try_login(personas.checkin.sign({**claims, "sub": subject}))
    if answer.status != 200:
        return
    token = answer.body["auth"]["client_token"]
    for path in (
        f"secrets/users/{ada}/attack",
        f"secrets/vos/{VO}/attack",
        "operations/data/holds/x",
        "sys/policies/acl/default",
    ):
        for method in ("GET", "PUT", "DELETE", "LIST"):
            # 400: a policy with such a subject in it is none, so nothing at all is allowed.
            assert lab.api(NODE, method, path, {"a": "2"} if method == "PUT" else None, token=token).status in REFUSED, path
    assert lab.api(NODE, "LIST", "secrets/users/", token=token).status in REFUSED


# --- paths that would be others --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trick",
    [
        "secrets/users/{ben}/../{ada}/attack",
        "secrets/users/{ben}/%2e%2e/{ada}/attack",
        "secrets/users/{ben}/..%2f{ada}%2fattack",
        "secrets/users/{ben}%2f..%2f{ada}/attack",
        "secrets/users/{ben}//../{ada}/attack",
        "secrets/users//{ada}/attack",
        "secrets//users/{ada}/attack",
        "secrets/users/+/attack",
        "secrets/users/*/attack",
        "secrets/users/{ada}%00/attack",
        "secrets/users/{ada_shouting}/attack",
        "secrets/./users/{ada}/attack",
        "secrets/users/{ben};/../{ada}/attack",
        "secrets/users/{ben}\\..\\{ada}\\attack",
    ],
)
def test_a_path_trick_reaches_nobody_elses_secret(lab: Lab, personas: Personas, trick: str) -> None:
    people = personas.checkin.people
    lab.api(NODE, "PUT", f"secrets/users/{people['ada']}/attack", {"whose": "ada's"}, token=personas.token("ada"))
    path = trick.format(**people, ada_shouting=people["ada"].upper())
    for method in ("GET", "PUT", "DELETE", "LIST"):
        body = {"whose": "ben's"} if method == "PUT" else None
        answer = lab.api(NODE, method, path, body, token=personas.token("ben"))
        assert "ada's" not in str(answer.body), answer
    seen = lab.api(NODE, "GET", f"secrets/users/{people['ada']}/attack", token=personas.token("ada"))
    assert seen.body["data"] == {"whose": "ada's"}


def test_a_subject_that_begins_with_anothers_reaches_nothing_of_theirs(lab: Lab, personas: Personas, claims: Claims) -> None:
    ada = personas.checkin.people["ada"]
    short = ada.removesuffix("@egi.eu")[:32] + "@egi.eu"
    answer = personas.try_login(personas.checkin.sign({**claims, "sub": short}))
    assert answer.status == 200
    token = answer.body["auth"]["client_token"]
    assert lab.api(NODE, "GET", f"secrets/users/{ada}/attack", token=token).status == 403


# --- lockers ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locker(lab: Lab, personas: Personas) -> str:
    """A locker of somebody who is logged in for a VO, in which there is something to find."""
    owner = personas.token("ada-vo")
    for path in (f"secrets/users/{personas.checkin.people['ada']}/mine", f"secrets/vos/{VO}/ours"):
        assert lab.api(NODE, "PUT", path, {"a": "1"}, token=owner).status == 204
    return personas.locker(owner)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "secrets/users/{ada}/mine", None),
        ("LIST", "secrets/users/{ada}/", None),
        ("GET", f"secrets/vos/{VO}/ours", None),
        ("PUT", f"secrets/vos/{VO}/ours", {"a": "2"}),
        ("GET", "identity/entity/id/{entity}", None),
        ("POST", "identity/lookup/entity", {"alias_name": "{ada}"}),
        ("POST", "auth/token/create", {"policies": ["default"], "renewable": False}),
        ("POST", "auth/token/create-orphan", {"policies": ["default"]}),
        ("POST", "auth/token/renew-self", {}),
        ("POST", "sys/wrapping/wrap", {"a": "1"}),
        ("POST", "sys/capabilities-self", {"paths": ["secrets/"]}),
        ("GET", "sys/internal/ui/resultant-acl", None),
        ("GET", "auth/jwt/role", None),
    ],
)
def test_a_locker_opens_nothing_but_itself(  # noqa: PLR0917 - three of them are the case
    lab: Lab, personas: Personas, locker: str, method: str, path: str, body: dict[str, Any] | None
) -> None:
    ada = personas.checkin.people["ada"]
    entity = lab.api(NODE, "GET", "auth/token/lookup-self", token=personas.token("ada-vo")).body["data"]["entity_id"]
    answer = lab.api(NODE, method, path.format(ada=ada, entity=entity), body, token=locker)
    assert answer.status in REFUSED, answer


def test_a_locker_sees_no_mount_but_its_own(lab: Lab, locker: str) -> None:
    seen = lab.api(NODE, "GET", "sys/internal/ui/mounts", token=locker).body["data"]
    assert set(seen["secret"]) == {"cubbyhole/"}


def test_a_locker_does_not_tell_whose_it_is(lab: Lab, personas: Personas, locker: str) -> None:
    told = str(lab.api(NODE, "GET", "auth/token/lookup-self", token=locker).body)
    ada = personas.checkin.people["ada"]
    assert ada not in told
    assert ada.removesuffix("@egi.eu") not in told


@pytest.mark.parametrize(
    "more",
    [
        {"policies": ["default", "personal"]},
        {"policies": ["personal"]},
        {"policies": []},
        {"no_default_policy": True},
        {"no_parent": True},
        {"renewable": True},
        {"period": "24h"},
        {"type": "batch"},
        {"entity_alias": "x"},
        {"explicit_max_ttl": "9999h"},
        {"id": "chosen"},
        {"meta": {"a": "b"}},
    ],
    ids=str,
)
def test_a_locker_with_more_than_it_needs_is_not_made(lab: Lab, personas: Personas, more: dict[str, Any]) -> None:
    body = {"policies": ["default"], "ttl": "60s", "num_uses": 2, "renewable": False, **more}
    answer = lab.api(NODE, "POST", "auth/token/create", body, token=personas.token("ada"))
    assert answer.status in REFUSED, answer


def test_a_locker_is_shut_when_it_has_been_used_up(lab: Lab, personas: Personas) -> None:
    locker = personas.locker(personas.token("ada"), uses=2)
    assert lab.api(NODE, "PUT", "cubbyhole/a", {"a": "1"}, token=locker).status == 204
    assert lab.api(NODE, "GET", "cubbyhole/a", token=locker).body["data"] == {"a": "1"}
    assert lab.api(NODE, "GET", "cubbyhole/a", token=locker).status == 403


def test_a_locker_is_shut_after_its_time(lab: Lab, personas: Personas) -> None:
    locker = personas.locker(personas.token("ada"), ttl="2s")
    assert lab.api(NODE, "PUT", "cubbyhole/a", {"a": "1"}, token=locker).status == 204
    wait_for(lambda: lab.api(NODE, "GET", "cubbyhole/a", token=locker).status == 403, 5, "the locker to be shut")


def test_a_locker_dies_with_the_login_that_made_it(lab: Lab, personas: Personas) -> None:
    owner = personas.fresh("ada")
    locker = personas.locker(owner)
    assert lab.api(NODE, "GET", "auth/token/lookup-self", token=locker).status == 200
    lab.api(NODE, "POST", "auth/token/revoke-self", token=owner)
    wait_for(lambda: lab.api(NODE, "GET", "auth/token/lookup-self", token=locker).status == 403, 5, "the locker to die")


def test_lockers_of_one_owner_are_strangers_to_each_other(lab: Lab, personas: Personas) -> None:
    one, other = (personas.locker(personas.token("ada")) for _ in range(2))
    lab.api(NODE, "PUT", "cubbyhole/a", {"a": "1"}, token=one)
    assert lab.api(NODE, "GET", "cubbyhole/a", token=other).status == 404


# --- membership that ends --------------------------------------------------------------------------------------------------


def test_withdrawn_membership_ends_with_the_next_login(lab: Lab, personas: Personas) -> None:
    lab.api(NODE, "PUT", f"secrets/vos/{VO}/ours", {"a": "1"}, token=personas.token("ada-vo"))
    web = personas.web_login("ben")
    assert lab.api(NODE, "GET", f"secrets/vos/{VO}/ours", token=web).status == 200
    had = personas.checkin.set_entitlements("ben", [])
    try:
        assert personas.try_login(personas.checkin.token("ben"), VO).status in REFUSED
        again = personas.web_login("ben")
        assert lab.api(NODE, "GET", f"secrets/vos/{VO}/ours", token=again).status == 403
        # The groups are the person's, not the login's: what was given out before loses them too.
        assert lab.api(NODE, "GET", f"secrets/vos/{VO}/ours", token=web).status == 403
    finally:
        personas.checkin.set_entitlements("ben", had)


def test_an_account_that_loses_the_claim_loses_its_vos_in_the_web_ui(lab: Lab, personas: Personas) -> None:
    web = personas.web_login("cleo")
    place = "secrets/vos/training.egi.eu/"
    assert lab.api(NODE, "LIST", place, token=web).status in (200, 404)
    had = personas.checkin.set_entitlements("cleo", None)
    try:
        again = personas.web_login("cleo", role="personal")
        assert lab.api(NODE, "LIST", place, token=again).status == 403
    finally:
        personas.checkin.set_entitlements("cleo", had)


def test_the_web_ui_lets_nobody_choose_where_the_answer_goes(lab: Lab) -> None:
    for redirect in (
        "https://elsewhere.test/callback",
        "https://vault-infn.lab.test:8200.elsewhere.test/ui/vault/auth/oidc/oidc/callback",
    ):
        asked = lab.api(NODE, "POST", "auth/oidc/oidc/auth_url", {"role": "web", "redirect_uri": redirect})
        assert not asked.body.get("data", {}).get("auth_url"), urllib.parse.unquote(str(asked))
