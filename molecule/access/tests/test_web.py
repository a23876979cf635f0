"""A person's way through the web page, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from lab import Lab, wait_for
from personas import NODE, Personas
from web import Browser, chromium

LIST = "/ui/vault/secrets/secrets/list"
SHOW = "/ui/vault/secrets/secrets/show"
CREATE = "/ui/vault/secrets/secrets/create?initialKey="
VALUE = "correct horse battery staple"


@pytest.fixture
def browser(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser in which nobody is signed in."""
    with chromium(lab, NODE, tmp_path_factory.mktemp("home")) as made:
        yield made


def sign_in(browser: Browser, personas: Personas, name: str, role: str = "") -> None:
    browser.sign_in(name, personas.checkin.password(name), role)
    browser.wait_for_text("Secrets Engines")


def test_ada_keeps_a_secret_and_is_refused_at_bens(browser: Browser, lab: Lab, personas: Personas) -> None:
    people = personas.checkin.people
    own, bens = f"users/{people['ada']}/", f"users/{people['ben']}/"
    lab.api(NODE, "PUT", f"secrets/{bens}bens-own", {"a": "1"}, token=personas.token("ben"))
    lab.api(NODE, "DELETE", f"secrets/{own}web", token=personas.token("ada"))
    sign_in(browser, personas, "ada")
    browser.picture("signed in")
    assert "operations/" not in browser.text()

    browser.open(CREATE + quote(own, safe=""))
    browser.type("#kv-key", f"{own}web")
    browser.type("input[placeholder=key]", "password")
    browser.type("textarea", VALUE)
    browser.picture("create")
    browser.click_words("Save")
    browser.wait_for_text("password")
    browser.picture("created")
    kept = lab.api(NODE, "GET", f"secrets/{own}web", token=personas.token("ada"))
    assert kept.body["data"] == {"password": VALUE}

    browser.open(f"{LIST}/{own}")
    browser.wait_for_text("web")
    browser.picture("list")
    browser.open(f"{SHOW}/{own}web")
    browser.wait_for_text("password")
    assert VALUE not in browser.text()  # until it is asked for
    browser.click("button[data-test-button=toggle-masked]")
    browser.wait_for_text(VALUE)
    browser.picture("read")

    for place in (f"{LIST}/{bens}", f"{SHOW}/{bens}bens-own", LIST, f"{LIST}/users/"):
        browser.open(place)
        browser.wait_for_text("Not Authorized")
        assert "bens-own" not in browser.text().replace(f"secrets/{bens}bens-own", "")
    browser.picture("refused")

    browser.open(f"{SHOW}/{own}web")
    browser.click_words("Delete")
    browser.picture("delete")
    browser.confirm()
    gone = f"secrets/{own}web"
    wait_for(lambda: lab.api(NODE, "GET", gone, token=personas.token("ada")).status == 404, 10, "the secret to be deleted")

    browser.open("/ui/vault/logout")
    browser.wait_for_text("Sign in to OpenBao")
    browser.open(f"{LIST}/{own}")
    browser.wait_for_text("Sign in to OpenBao")
    browser.picture("signed out")


def test_a_member_sees_the_vo_and_somebody_else_does_not(browser: Browser, lab: Lab, personas: Personas) -> None:
    lab.api(NODE, "PUT", "secrets/vos/vo.access.egi.eu/for-members", {"a": "1"}, token=personas.token("ada-vo"))
    sign_in(browser, personas, "cleo")
    browser.open(f"{LIST}/vos/vo.access.egi.eu/")
    browser.wait_for_text("Not Authorized")
    assert "for-members" not in browser.text()
    browser.open("/ui/vault/logout")
    browser.wait_for_text("Sign in to OpenBao")
    browser.forget()

    sign_in(browser, personas, "ben")
    browser.open(f"{LIST}/vos/vo.access.egi.eu/")
    browser.wait_for_text("for-members")
    browser.picture("vo")


def test_an_account_without_entitlements_signs_in_with_another_role(browser: Browser, personas: Personas) -> None:
    sign_in(browser, personas, "eve", role="personal")
    browser.open(f"{LIST}/users/{personas.checkin.people['eve']}/")
    assert browser.wait_for_text("Unable to find secret", "Create secret", "Not Authorized") != "Not Authorized"
