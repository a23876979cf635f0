"""The lab's stand-in for EGI Check-in as the stories see it: tokens for people, and a hand on the host."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from lab import Lab
from sign_in import Browser, CommandLine, SignInError, Tokens

HOST = "checkin"
ISSUER = f"https://{HOST}.lab.test/auth/realms/egi"
COMMAND_LINE = "fedcloud-cli"  # the client that EGI's command line is
STRANGER = "other-service"  # a client of somebody else's


class Checkin:
    """Check-in of a lab.

    Args:
        lab: whose.
    """

    issuer = ISSUER

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._where = (ISSUER, lab.addresses[HOST], lab.state / "ca/ca.crt")

    # --- what people and their clients do ------------------------------------------------------------------------------

    @property
    def people(self) -> dict[str, str]:
        """Each person's subject.

        Raises:
            SignInError: the lab has no Check-in.
        """
        return {name: account["subject"] for name, account in self._accounts().items()}

    def token(self, person: str, client: str = COMMAND_LINE) -> str:
        """Return an access token, by the flow that the person would use."""
        return self.tokens(person, client).access

    def tokens(self, person: str, client: str = COMMAND_LINE, **scope: str) -> Tokens:
        """Return all tokens of a sign-in by authorization code with PKCE; `scope=` where not all scopes are wanted."""
        password = self.password(person)
        return self.client(client).by_code(person, password, **scope)

    def device(self, person: str, client: str = COMMAND_LINE) -> Tokens:
        """Return all tokens of a sign-in by the device flow."""
        password = self.password(person)
        return self.client(client).by_device(person, password)

    def refresh(self, tokens: Tokens, client: str = COMMAND_LINE) -> Tokens:
        """Return new tokens for the refresh token among others."""
        return self.client(client).by_refresh(tokens.refresh)

    def authorize(self, url: str, person: str) -> str:
        """Sign in at an authorization URL that a service made, and return where Check-in sends the browser back to."""
        password = self.password(person)
        return Browser(*self._where).sign_in(url, person, password).left

    def password(self, person: str) -> str:
        """Return a person's password.

        Raises:
            SignInError: there is no such person.
        """
        accounts = self._accounts()
        if person not in accounts:
            raise SignInError(f"Nobody is called '{person}' at the lab's Check-in; there are {', '.join(accounts)}.")
        return accounts[person]["password"]

    def client(self, client: str = COMMAND_LINE) -> CommandLine:
        """Return a public client's own view of Check-in."""
        return CommandLine(*self._where, client)

    # --- what tests do to it -------------------------------------------------------------------------------------------

    def sign(self, claims: Mapping[str, Any], header: Mapping[str, Any] | None = None, *, stranger: bool = False) -> str:
        """Return a token with exactly these claims, signed with the current key.

        Args:
            claims: all of them; `sign_in.claims_of` of a real token is what to begin with.
            header: members that replace or add to {"alg": "RS256", "typ": "JWT", "kid": …}; alg may be none or HS256 too.
            stranger: sign with a key that nobody published.
        """
        arguments = ["--header", shlex.quote(json.dumps(dict(header or {}))), *(["--stranger"] if stranger else [])]
        return self.lab.ssh(HOST, f"checkin-sign {' '.join(arguments)}", stdin=json.dumps(dict(claims))).strip()

    def rotate(self, *, drop_old: bool = False) -> None:
        """Make a new signing key the current one; `drop_old` ends the publication of those before it."""
        self.lab.ssh(HOST, "checkin-rotate-keys" + (" --drop-old" if drop_old else ""))

    def set_entitlements(self, person: str, entitlements: Sequence[str] | None) -> list[str] | None:
        """Change what tokens issued from now on say of a person, without a restart.

        Args:
            person: name.
            entitlements: new ones; None leaves the account without the claim.

        Returns:
            Those that they had, in the same form, to give them back.
        """
        accounts: list[dict[str, Any]] = json.loads(self.lab.ssh(HOST, "cat /etc/checkin/people.json"))
        account = next(account for account in accounts if account["name"] == person)
        had: list[str] | None = account.pop("entitlements", None)
        if entitlements is not None:
            account["entitlements"] = list(entitlements)
        place = "/etc/checkin/people.json"
        write = f"install -o root -g checkin -m 0640 /dev/stdin {place}.part && mv {place}.part {place}"
        self.lab.ssh(HOST, write, stdin=json.dumps(accounts, indent=4, sort_keys=True))
        return had

    def stop(self) -> None:
        """Take Check-in down."""
        self.lab.ssh(HOST, "systemctl stop checkin")

    def start(self) -> None:
        """Bring Check-in back; it answers when this returns."""
        self.lab.ssh(HOST, "systemctl start checkin")

    # -------------------------------------------------------------------------------------------------------------------

    def _accounts(self) -> dict[str, dict[str, str]]:
        path = self.lab.state / "checkin/people.json"
        if not path.exists():
            raise SignInError(
                f"LAB_NAME={self.lab.name} names a lab without a Check-in: {path} is missing. `make lab` makes one."
            )
        return {account["name"]: account for account in json.loads(path.read_text())}
