"""Signing in at the lab's Check-in as people do: with a browser that fills in forms, and the command line behind it.

Flows: authorization code (RFC 6749, section 4.1) with PKCE (RFC 7636), refresh (RFC 6749, section 6), device (RFC 8628).
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import ConnectionPool

REDIRECT = "http://localhost:43985/"  # nobody listens there: the browser stops at it
SCOPES = "openid profile email offline_access voperson_id entitlements eduperson_entitlement"
SECONDS = 10  # for one request
MOST_PAGES = 10  # until somebody is signed in
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class SignInError(Exception):
    """Somebody could not sign in; the message says who, where and why."""


@dataclass(frozen=True)
class Tokens:
    """What a client gets for a person."""

    access: str = field(repr=False)
    id: str = field(repr=False)
    refresh: str = field(repr=False)
    expires_in: int  # seconds that the access token lasts


@dataclass(frozen=True)
class Page:
    """Where a browser has come to. `left` is the address that a redirect leads to, outside of Check-in."""

    url: str
    status: int = 0
    text: str = ""
    left: str = ""


class Address(HTTPAdapter):
    """Connects to one address whatever the URL's host; the certificate must be for that host all the same.

    Args:
        address: IP address of Check-in, so that the controller needs no DNS for the lab's names.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__()

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: bool | str | None,
        proxies: Mapping[str, str] | None = None,
        cert: tuple[str, str] | str | None = None,
    ) -> ConnectionPool:
        """Return connections to the address, for the name in the URL; requests offers this to be overridden."""
        host, trust = self.build_connection_pool_key_attributes(request, verify is None or verify, cert)
        name = host["host"]
        request.headers["Host"] = name
        pool: ConnectionPool = self.poolmanager.connection_from_host(
            self.address, host["port"], host["scheme"], {**trust, "server_hostname": name, "assert_hostname": name}
        )
        return pool


class Form(HTMLParser):
    """The first form of a page with its fields as they stand, and what the page complains of.

    Args:
        text: the page.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found = False
        self.action = ""
        self.fields: dict[str, str] = {}
        self.alert = ""
        self._in_alert = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note forms, fields and alerts."""
        attributes = {name: value or "" for name, value in attrs}
        if tag == "form" and not self.found:
            self.found, self.action = True, attributes.get("action", "")
        elif tag == "input" and "name" in attributes:
            self.fields[attributes["name"]] = attributes.get("value", "")
        self._in_alert = attributes.get("role") == "alert" or self._in_alert

    def handle_endtag(self, tag: str) -> None:
        """Note where an alert ends."""
        self._in_alert = self._in_alert and tag != "p"

    def handle_data(self, data: str) -> None:
        """Note what an alert says."""
        if self._in_alert:
            self.alert += data


class Browser:
    """One person's browser, with cookies, without JavaScript.

    Args:
        issuer: URL of Check-in.
        address: IP address to connect to.
        ca_file: PEM of the CA that Check-in's certificate must be from.
    """

    def __init__(self, issuer: str, address: str, ca_file: Path) -> None:
        self.issuer = issuer
        self._session = session(address, ca_file)

    def sign_in(self, url: str, name: str, password: str) -> Page:
        """Open a page and fill in whatever forms come, as a person who signs in and agrees.

        Args:
            url: where to begin: an authorization endpoint, or a device's verification page.
            name: user name.
            password: theirs.

        Returns:
            The page without a form that it comes to, or where Check-in redirects to.

        Raises:
            SignInError: Check-in complains.
        """
        page, given = self._open("GET", url), False
        for _ in range(MOST_PAGES):
            if page.left:
                return page
            form = Form(page.text)
            if form.alert or page.status >= requests.codes.bad:
                raise SignInError(f"Check-in did not let {name} in: {form.alert or f'HTTP {page.status}'}")
            if not form.found:
                return page
            if "password" in form.fields:
                if given:
                    raise SignInError(f"Check-in asked {name} for the password twice.")
                form.fields |= {"username": name, "password": password}
                given = True
            page = self._open("POST", urljoin(page.url, form.action), form.fields)
        raise SignInError(f"Check-in showed {name} more than {MOST_PAGES} pages.")

    def _open(self, method: str, url: str, fields: Mapping[str, str] | None = None) -> Page:
        for _ in range(MOST_PAGES):
            answer = ask(self._session, method, url, fields)
            if not answer.is_redirect:
                return Page(url, answer.status_code, answer.text)
            method, url, fields = "GET", urljoin(url, answer.headers["Location"]), None
            if not url.startswith(f"{self.issuer}/"):
                return Page(url, left=url)
        raise SignInError(f"Check-in redirects in a circle: {url}")


class CommandLine:
    """A public client at the command line, such as EGI's.

    Args:
        issuer: URL of Check-in.
        address: IP address to connect to.
        ca_file: PEM of the CA that Check-in's certificate must be from.
        client: client id.
    """

    def __init__(self, issuer: str, address: str, ca_file: Path, client: str) -> None:
        self.client = client
        self._session = session(address, ca_file)
        self._browser = Browser(issuer, address, ca_file)
        self._metadata: dict[str, Any] = ask(self._session, "GET", f"{issuer}/.well-known/openid-configuration").json()

    def by_code(self, name: str, password: str, scope: str = SCOPES) -> Tokens:
        """Get tokens by the authorization code flow with PKCE, through the login page.

        Raises:
            SignInError: Check-in refuses.
        """
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        question = {
            "response_type": "code", "client_id": self.client, "redirect_uri": REDIRECT, "scope": scope, "state": state,
            "code_challenge": challenge, "code_challenge_method": "S256", "prompt": "consent",
        }  # fmt: skip
        came_to = self._browser.sign_in(f"{self._metadata['authorization_endpoint']}?{urlencode(question)}", name, password)
        answer = {key: values[0] for key, values in parse_qs(urlsplit(came_to.left).query).items()}
        if answer.get("state") != state or "code" not in answer:
            raise SignInError(f"Check-in sent {name} back without a code: {answer.get('error_description', came_to.url)}")
        return self._tokens(
            {"grant_type": "authorization_code", "code": answer["code"], "redirect_uri": REDIRECT, "code_verifier": verifier}
        )

    def by_refresh(self, refresh_token: str) -> Tokens:
        """Get new tokens for a refresh token.

        Raises:
            SignInError: Check-in refuses.
        """
        return self._tokens({"grant_type": "refresh_token", "refresh_token": refresh_token})

    def by_device(self, name: str, password: str, scope: str = SCOPES) -> Tokens:
        """Get tokens by the device flow: the person opens the verification page in their browser, the client polls.

        Raises:
            SignInError: Check-in refuses, or the person is not done in time.
        """
        question = {"client_id": self.client, "scope": scope}
        device = self._answer("POST", self._metadata["device_authorization_endpoint"], question)
        poll = {"grant_type": DEVICE_GRANT, "device_code": device["device_code"]}
        early = self._try_tokens(poll).json().get("error")
        if early != "authorization_pending":
            raise SignInError(f"Check-in should wait for the person at the device flow, and answered {early}.")
        self._browser.sign_in(device["verification_uri_complete"], name, password)
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            answer = self._try_tokens(poll)
            if answer.ok or answer.json().get("error") not in ("authorization_pending", "slow_down"):
                return self._read(answer)
            time.sleep(0.2)
        raise SignInError(f"The device flow of {self.client} did not end within {SECONDS} s of {name}'s consent.")

    def userinfo(self, access_token: str) -> dict[str, Any]:
        """Return what userinfo tells for an access token.

        Raises:
            SignInError: Check-in refuses the token.
        """
        headers = {"Authorization": f"Bearer {access_token}"}
        return self._answer("GET", self._metadata["userinfo_endpoint"], headers=headers)

    def keys(self) -> list[str]:
        """Return the ids of the keys that Check-in publishes, the current one first."""
        return [key["kid"] for key in self._answer("GET", self._metadata["jwks_uri"])["keys"]]

    def _try_tokens(self, question: Mapping[str, str]) -> requests.Response:
        return ask(self._session, "POST", self._metadata["token_endpoint"], {"client_id": self.client, **question})

    def _tokens(self, question: Mapping[str, str]) -> Tokens:
        return self._read(self._try_tokens(question))

    def _read(self, answer: requests.Response) -> Tokens:
        body = answer.json()
        if not answer.ok:
            raise SignInError(f"Check-in gave {self.client} no token: {body.get('error')}, {body.get('error_description')}")
        return Tokens(body["access_token"], body.get("id_token", ""), body.get("refresh_token", ""), body["expires_in"])

    def _answer(
        self, method: str, url: str, fields: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        answer = ask(self._session, method, url, fields, headers)
        if not answer.ok:
            raise SignInError(f"Check-in answered HTTP {answer.status_code} at {urlsplit(url).path}: {answer.text[:200]}")
        return answer.json()  # type: ignore[no-any-return]


def session(address: str, ca_file: Path) -> requests.Session:
    """Return a session that connects to one address, trusts one CA, and takes nothing from the environment."""
    made = requests.Session()
    made.trust_env = False
    made.verify = str(ca_file)
    made.mount("https://", Address(address))
    return made


def ask(
    through: requests.Session,
    method: str,
    url: str,
    fields: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> requests.Response:
    """Make one request, following no redirect.

    Raises:
        SignInError: there is no answer.
    """
    try:
        return through.request(method, url, data=fields, headers=headers, timeout=SECONDS, allow_redirects=False)
    except (requests.RequestException, OSError) as error:
        raise SignInError(f"Check-in did not answer at {url.partition('?')[0]}: {error}") from None


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims of a JWT, without a look at its signature."""
    return _part(token, 1)


def header_of(token: str) -> dict[str, Any]:
    """Return the header of a JWT."""
    return _part(token, 0)


def _part(token: str, number: int) -> dict[str, Any]:
    text = token.split(".")[number]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))  # type: ignore[no-any-return]
