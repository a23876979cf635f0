"""How large, how often, how long."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from lab import Lab, wait_for
from personas import NODE, Personas

KIB = 1024


@pytest.fixture
def place(lab: Lab, personas: Personas) -> Iterator[str]:
    path = f"secrets/users/{personas.checkin.people['ada']}/limits"
    yield path
    lab.api(NODE, "DELETE", path, token=personas.token("ada"))


@pytest.mark.parametrize("node", Lab.nodes)
def test_a_secret_of_512_kib_is_kept_through_any_node(lab: Lab, personas: Personas, place: str, node: str) -> None:
    secret = {"data": "x" * 512 * KIB}
    assert lab.api(node, "PUT", place, secret, token=personas.token("ada")).status == 204
    assert lab.api(node, "GET", place, token=personas.token("ada")).body["data"] == secret


@pytest.mark.parametrize("node", Lab.nodes)
def test_a_larger_one_is_refused_in_so_many_words(lab: Lab, personas: Personas, place: str, node: str) -> None:
    answer = lab.api(node, "PUT", place, {"data": "x" * 2048 * KIB}, token=personas.token("ada"))
    assert answer.status == 413
    assert "too large" in str(answer.body)
    assert lab.api(node, "GET", place, token=personas.token("ada")).status == 404


def test_one_address_that_logs_in_without_end_is_slowed_down_and_others_are_not(lab: Lab, personas: Personas) -> None:
    jwt = personas.checkin.token("ben")

    def guess(number: int) -> list[tuple[int, str]]:
        """Try what is no token, as fast as one connection goes: that costs a slow machine little, and is counted alike."""
        connection, answers = lab.connect(NODE), []
        for turn in range(40):
            connection.request("POST", "/v1/auth/jwt/login", json.dumps({"jwt": f"guess-{number}-{turn}", "role": ""}))
            answer = connection.getresponse()
            answers.append((answer.status, answer.read().decode()))
        return answers

    with ThreadPoolExecutor(4) as pool:
        guesses = [pool.submit(guess, number) for number in range(4)]
        # Another address goes on at the same time, and so does everything but logins.
        assert personas.from_node([[("POST", "auth/jwt/login", {"jwt": jwt, "role": ""}, "")]])[0][0].status == 200
        assert lab.api(NODE, "GET", "auth/token/lookup-self", token=personas.token("ada")).status == 200
        answers = [answer for each in guesses for answer in each.result()]
    statuses = {status for status, _ in answers}
    assert statuses == {400, 429}
    assert json.loads(next(text for status, text in answers if status == 429))["errors"]
    time.sleep(1.1)  # a standby counts, and so does the leader: each lets in what its own second allows
    assert personas.try_login(jwt).status == 200


@pytest.mark.parametrize(
    ("persona", "seconds"),
    [("ada", 3600), ("ada-vo", 3600), ("ada-web", 3600), ("operator", 8 * 3600), ("configurator", 1200)],
)
def test_a_login_lasts_as_long_as_it_should(lab: Lab, personas: Personas, persona: str, seconds: int) -> None:
    told = lab.api(NODE, "GET", "auth/token/lookup-self", token=personas.fresh(persona)).body["data"]
    assert seconds - 30 <= told["ttl"] <= seconds
    assert not told.get("period")


def test_a_locker_lives_as_long_as_was_asked_for_when_its_owner_stays(lab: Lab, personas: Personas) -> None:
    # As the EGI client does: the owner's login is renewed for as long as the locker is to live.
    owner = personas.fresh("ada")
    renewed = lab.api(NODE, "POST", "auth/token/renew-self", {"increment": "24h"}, token=owner)
    assert renewed.body["auth"]["lease_duration"] == 24 * 3600
    locker = personas.locker(owner, ttl="24h")
    assert lab.api(NODE, "GET", "auth/token/lookup-self", token=locker).body["data"]["ttl"] > 24 * 3600 - 30


def test_a_locker_dies_with_its_owners_login_whatever_its_own_time(lab: Lab, personas: Personas) -> None:
    # The same in seconds: the owner's login is made to end soon, its locker was promised an hour.
    owner = personas.fresh("ada")
    locker = personas.locker(owner, ttl="1h")
    lab.api(NODE, "POST", "auth/token/renew-self", {"increment": "2s"}, token=owner)
    started = time.monotonic()
    wait_for(lambda: lab.api(NODE, "GET", "auth/token/lookup-self", token=locker).status == 403, 8, "the locker to die")
    assert time.monotonic() - started > 0.5
