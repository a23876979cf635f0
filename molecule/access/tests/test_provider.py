"""EGI Check-in changes its keys, and goes away: logins go on, or fail clearly, and tokens already issued go on working."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab import Lab, wait_for
from personas import NODE, Personas


def test_logins_go_on_when_check_in_changes_its_signing_keys(personas: Personas) -> None:
    before = personas.checkin.token("ada")
    personas.checkin.rotate()
    assert personas.try_login(personas.checkin.token("ada")).status == 200
    assert personas.try_login(before).status == 200
    assert personas.try_web_login("ada").status == 200


def test_a_token_of_a_key_that_check_in_withdrew_is_refused(personas: Personas) -> None:
    before = personas.checkin.token("ada")
    personas.checkin.rotate(drop_old=True)
    assert personas.try_login(personas.checkin.token("ada")).status == 200
    # The server reads the keys anew when a token comes with a key that it does not know.
    wait_for(lambda: personas.try_login(before).status == 400, 10, "the withdrawn key to be refused")


@pytest.fixture
def down(personas: Personas) -> Iterator[None]:
    personas.token("ada")  # issued while Check-in was up
    personas.checkin.stop()
    yield
    personas.checkin.start()


@pytest.mark.usefixtures("down")
def test_while_check_in_is_down_what_was_issued_goes_on_working(lab: Lab, personas: Personas) -> None:
    place = f"secrets/users/{personas.checkin.people['ada']}/provider"
    assert lab.api(NODE, "PUT", place, {"a": "1"}, token=personas.token("ada")).status == 204
    assert lab.api(NODE, "GET", place, token=personas.token("ada")).status == 200
    locker = personas.locker(personas.token("ada"))
    assert lab.api(NODE, "PUT", "cubbyhole/a", {"a": "1"}, token=locker).status == 204


def test_a_login_in_the_web_ui_during_which_check_in_goes_down_fails_clearly(personas: Personas) -> None:
    try:
        answer = personas.try_web_login("ada", before_the_answer=personas.checkin.stop)
    finally:
        personas.checkin.start()
    assert answer.status == 400
    assert "checkin.lab.test" in str(answer.body["errors"])


def test_when_check_in_is_back_people_log_in_again(personas: Personas) -> None:
    assert personas.try_login(personas.checkin.token("ada")).status == 200
    assert personas.try_web_login("ada").status == 200
