"""The lab's Check-in gives tokens as EGI's does, by each flow, and goes on through rotated keys and restarts."""

from __future__ import annotations

import base64
import re
import time
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from checkin import ISSUER, STRANGER, Checkin
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from lab import Lab
from sign_in import REDIRECT, Browser, SignInError, Tokens, claims_of, header_of, session

WEB_REDIRECT = "https://vault-infn.lab.test:8200/ui/vault/auth/oidc/oidc/callback"
ENDPOINTS = f"{ISSUER}/protocol/openid-connect"


@pytest.fixture(scope="module")
def checkin(lab: Lab) -> Checkin:
    return Checkin(lab)


@pytest.fixture(scope="module")
def ada(checkin: Checkin) -> Tokens:
    return checkin.tokens("ada")


@pytest.fixture(scope="module")
def client(lab: Lab) -> requests.Session:
    """Some client's own connection to Check-in, past any helper."""
    return session(lab.addresses["checkin"], lab.state / "ca/ca.crt")


def published_keys(client: requests.Session) -> dict[str, dict[str, Any]]:
    return {key["kid"]: key for key in client.get(f"{ENDPOINTS}/certs", timeout=5).json()["keys"]}


def number(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=="), "big")


def is_signed_by_a_published_key(client: requests.Session, token: str) -> bool:
    key = published_keys(client).get(header_of(token)["kid"])
    if key is None:
        return False
    signed, _, signature = token.rpartition(".")
    public = rsa.RSAPublicNumbers(number(key["e"]), number(key["n"])).public_key()
    try:
        public.verify(base64.urlsafe_b64decode(signature + "=="), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def web_question(**more: str) -> str:
    question = {
        "client_id": "vault-web",
        "response_type": "code",
        "scope": "openid entitlements",
        "redirect_uri": WEB_REDIRECT,
    }
    return f"{ENDPOINTS}/auth?{urlencode(question | more)}"


# --- what tokens look like ---------------------------------------------------------------------------------------------


def test_an_access_token_has_the_shape_of_egis(checkin: Checkin, ada: Tokens) -> None:
    claims = claims_of(ada.access)
    assert header_of(ada.access).keys() == {"alg", "typ", "kid"}
    assert (header_of(ada.access)["alg"], header_of(ada.access)["typ"], claims["typ"]) == ("RS256", "JWT", "Bearer")
    assert "aud" not in claims
    assert re.fullmatch(r"[0-9a-f]{64}@egi\.eu", claims["sub"])
    assert (claims["iss"], claims["azp"]) == (ISSUER, "fedcloud-cli")
    assert claims["sub"] == claims["voperson_id"] == checkin.people["ada"]
    assert claims["entitlements"] == claims["eduperson_entitlement"]
    assert "urn:mace:egi.eu:group:vo.access.egi.eu:role=member#aai.egi.eu" in claims["entitlements"]
    assert claims["exp"] - claims["iat"] == ada.expires_in == 3600
    assert abs(claims["iat"] - time.time()) < 60
    assert claims["jti"] != claims_of(checkin.token("ada"))["jti"]


def test_tokens_are_signed_with_a_published_key(client: requests.Session, ada: Tokens) -> None:
    assert is_signed_by_a_published_key(client, ada.access)
    assert is_signed_by_a_published_key(client, ada.id)


def test_an_id_token_is_for_its_client_and_carries_the_same_claims(ada: Tokens) -> None:
    access, identity = claims_of(ada.access), claims_of(ada.id)
    assert identity["aud"] == "fedcloud-cli"
    assert {name: identity[name] for name in ("iss", "sub", "entitlements", "voperson_id")} == {
        name: access[name] for name in ("iss", "sub", "entitlements", "voperson_id")
    }


def test_no_entitlements_and_no_such_claim_are_two_things(checkin: Checkin) -> None:
    assert claims_of(checkin.token("dan"))["entitlements"] == []
    assert "entitlements" not in claims_of(checkin.token("eve"))


def test_claims_come_with_their_scopes(checkin: Checkin) -> None:
    claims = claims_of(checkin.tokens("ada", scope="openid entitlements").access)
    assert "entitlements" in claims
    assert not {"eduperson_entitlement", "voperson_id", "email"} & claims.keys()


def test_a_strangers_client_gets_tokens_with_its_own_name(checkin: Checkin) -> None:
    assert claims_of(checkin.token("ada", STRANGER))["azp"] == STRANGER


# --- flows -------------------------------------------------------------------------------------------------------------


def test_a_wrong_password_is_refused(lab: Lab) -> None:
    browser = Browser(ISSUER, lab.addresses["checkin"], lab.state / "ca/ca.crt")
    with pytest.raises(SignInError, match="do not go together"):
        browser.sign_in(web_question(), "ada", "not ada's password")


def test_a_public_client_needs_pkce(lab: Lab, checkin: Checkin) -> None:
    question = {"client_id": "fedcloud-cli", "response_type": "code", "scope": "openid", "redirect_uri": REDIRECT}
    came_to = checkin.authorize(f"{ENDPOINTS}/auth?{urlencode(question)}", "ada")
    assert parse_qs(urlsplit(came_to).query)["error"] == ["invalid_request"]


def test_the_web_client_exchanges_its_code_with_its_secret_once(
    lab: Lab, checkin: Checkin, client: requests.Session
) -> None:
    back = parse_qs(urlsplit(checkin.authorize(web_question(state="s1", nonce="n1"), "ada")).query)
    assert back["state"] == ["s1"]
    exchange = {"grant_type": "authorization_code", "code": back["code"][0], "redirect_uri": WEB_REDIRECT}
    secret = (lab.state / "checkin/web-client-secret").read_text()

    def ask(password: str) -> requests.Response:
        return client.post(f"{ENDPOINTS}/token", exchange, auth=("vault-web", password), timeout=5)

    assert ask("x" * len(secret)).status_code == 401
    answer = ask(secret)
    assert claims_of(answer.json()["id_token"])["nonce"] == "n1"
    assert "entitlements" in claims_of(answer.json()["id_token"])
    assert ask(secret).json()["error"] == "invalid_grant"


def test_an_unknown_redirect_is_shown_and_not_followed(client: requests.Session) -> None:
    url = web_question().replace("vault-infn.lab.test", "evil.example.org")
    answer = client.get(url, timeout=5, allow_redirects=False)
    assert answer.status_code == 400
    assert "redirect_uri" in answer.text


def test_a_refresh_token_gives_a_new_access_token(checkin: Checkin, ada: Tokens) -> None:
    again = checkin.refresh(ada)
    assert claims_of(again.access)["jti"] != claims_of(ada.access)["jti"]
    assert claims_of(again.access)["entitlements"] == claims_of(ada.access)["entitlements"]


def test_a_public_client_may_give_its_name_with_an_empty_secret_as_oidc_agent_does(
    client: requests.Session, ada: Tokens
) -> None:
    question = {"grant_type": "refresh_token", "refresh_token": ada.refresh}
    answers = {
        name: client.post(f"{ENDPOINTS}/token", question, auth=(name, ""), timeout=5)
        for name in ("fedcloud-cli", "vault-web")
    }
    assert claims_of(answers["fedcloud-cli"].json()["access_token"])["azp"] == "fedcloud-cli"
    assert answers["vault-web"].json()["error"] in ("invalid_client", "invalid_request")


def test_a_device_gets_tokens_once_its_person_agreed(checkin: Checkin) -> None:
    tokens = checkin.device("ben")
    assert claims_of(tokens.access)["sub"] == checkin.people["ben"]
    assert claims_of(checkin.refresh(tokens).access)["azp"] == "fedcloud-cli"


def test_userinfo_tells_the_claims_of_an_access_token_alone(checkin: Checkin, ada: Tokens) -> None:
    told = checkin.client().userinfo(ada.access)
    assert told["entitlements"] == claims_of(ada.access)["entitlements"]
    for wrong in (ada.id, ada.access[:-8] + "AAAAAAAA", checkin.sign(claims_of(ada.access), {"alg": "none"})):
        with pytest.raises(SignInError, match="HTTP 401"):
            checkin.client().userinfo(wrong)


# --- what tests do to it -----------------------------------------------------------------------------------------------


def test_what_is_signed_for_a_test_holds_exactly_what_was_asked(
    checkin: Checkin, client: requests.Session, ada: Tokens
) -> None:
    wanted = {**claims_of(ada.access), "exp": 1, "iss": "https://elsewhere.example.org"}
    token = checkin.sign(wanted)
    assert claims_of(token) == wanted
    assert is_signed_by_a_published_key(client, token)


def test_a_forgery_names_a_published_key_and_is_not_signed_by_it(
    checkin: Checkin, client: requests.Session, ada: Tokens
) -> None:
    forged = checkin.sign(claims_of(ada.access), stranger=True)
    assert header_of(forged)["kid"] in published_keys(client)
    assert not is_signed_by_a_published_key(client, forged)


def test_a_membership_that_is_withdrawn_is_not_in_the_next_token(checkin: Checkin, ada: Tokens) -> None:
    had = checkin.set_entitlements("ada", [])
    try:
        assert claims_of(checkin.refresh(ada).access)["entitlements"] == []
        assert claims_of(checkin.token("ada"))["entitlements"] == []
        checkin.set_entitlements("ada", None)
        assert "entitlements" not in claims_of(checkin.token("ada"))
    finally:
        checkin.set_entitlements("ada", had)
    assert claims_of(checkin.token("ada"))["entitlements"] == had


def test_rotated_keys_sign_and_the_old_ones_stay_published_until_dropped(
    checkin: Checkin, client: requests.Session, ada: Tokens
) -> None:
    old = header_of(ada.access)["kid"]
    checkin.rotate()
    new = header_of(checkin.token("ada"))["kid"]
    assert new != old
    assert is_signed_by_a_published_key(client, ada.access)
    checkin.rotate(drop_old=True)
    assert not {old, new} & published_keys(client).keys()


def test_it_goes_down_and_comes_back_with_the_same_keys_and_logins(
    checkin: Checkin, client: requests.Session, ada: Tokens
) -> None:
    before = published_keys(client)
    checkin.stop()
    try:
        with pytest.raises(SignInError, match="did not answer"):
            checkin.token("ada")
    finally:
        checkin.start()
    assert published_keys(client) == before
    assert claims_of(checkin.refresh(ada).access)["sub"] == checkin.people["ada"]
