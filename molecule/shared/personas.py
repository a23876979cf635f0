"""Everyone who asks the service for something: people, their lockers, operators and services, each with a way to a token."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from checkin import Checkin
from lab import PROJECT, Answer, Lab

Request = tuple[str, str, Any, str]  # method, path, body, token

NODE = "vault-infn"
REDIRECT = f"https://{NODE}.lab.test:8200/ui/vault/auth/oidc/oidc/callback"


class Personas:
    """How each persona comes by a token. Those that live on are made once; `fresh` makes another.

    Args:
        lab: the lab whose service is asked.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.checkin = Checkin(lab)
        self._tokens: dict[str, str] = {}
        self._makers: dict[str, Callable[[], str]] = {
            "anonymous": lambda: "",
            "ada": lambda: self.login("ada", "personal"),
            "ben": lambda: self.login("ben", "personal"),
            "ada-vo": lambda: self.login("ada", "vo.access.egi.eu"),
            "ben-reader": lambda: self.login("ben", "vo.reading.egi.eu"),
            "ada-writer": lambda: self.login("ada", "vo.reading.egi.eu.writers"),
            "ada-web": lambda: self.web_login("ada"),
            "dan-web": lambda: self.web_login("dan"),
            "locker": lambda: self.locker(self.token("ada")),
            "locker-vo": lambda: self.locker(self.token("ada-vo")),
            "locker-once": lambda: self.locker(self.token("ada"), uses=1),
            "operator": lambda: self.login("alice", "operator"),
            "configurator": lambda: self.login("alice", "configurator"),
            "backup": lambda: self.service("backup"),
            "monitoring": lambda: self.service("monitoring"),
            "checker": lambda: self.service("checker"),
        }

    @property
    def names(self) -> list[str]:
        """All personas."""
        return list(self._makers)

    def token(self, persona: str) -> str:
        """Return the persona's token, the same for as long as this object lives."""
        if persona not in self._tokens:
            self._tokens[persona] = self.fresh(persona)
        return self._tokens[persona]

    def fresh(self, persona: str) -> str:
        """Return a new token of the persona."""
        return self._makers[persona]()

    def try_login(self, jwt: str, role: str = "") -> Answer:
        """Log in with an access token, as the EGI client does."""
        return self.lab.api(NODE, "POST", "auth/jwt/login", {"jwt": jwt, "role": role})

    def login(self, person: str, role: str = "") -> str:
        """Return the token that a person gets at the command line."""
        return _token(self.try_login(self.checkin.token(person), role))

    def try_web_login(
        self, person: str, role: str = "web", *, before_the_answer: Callable[[], None] = lambda: None
    ) -> Answer:
        """Log in as the web UI does, with the authorization code flow.

        Args:
            person: who signs in.
            role: of the web UI's auth method.
            before_the_answer: called when Check-in has sent the browser back, and the server has not asked Check-in yet.
        """
        asked = self.lab.api(NODE, "POST", "auth/oidc/oidc/auth_url", {"role": role, "redirect_uri": REDIRECT})
        assert asked.status == 200, asked
        answer = parse_qs(urlsplit(self.checkin.authorize(asked.body["data"]["auth_url"], person)).query)
        state, code = answer["state"][0], answer["code"][0]
        before_the_answer()
        return self.lab.api(NODE, "GET", f"auth/oidc/oidc/callback?state={state}&code={code}")

    def web_login(self, person: str, role: str = "web") -> str:
        """Return the token that a person gets in the web UI."""
        return _token(self.try_web_login(person, role))

    def locker(self, owner: str, *, uses: int = 1000, ttl: str = "1h") -> str:
        """Return the token of a locker, made as the EGI client makes one."""
        body = {"policies": ["default"], "ttl": ttl, "num_uses": uses, "renewable": False}
        return _token(self.lab.api(NODE, "POST", "auth/token/create", body, token=owner))

    def service(self, name: str) -> str:
        """Return the token of a service, logged in from a node as it would be."""
        role = f"auth/approle/role/{name}"
        operator = self.token("configurator")
        role_id = self.lab.api(NODE, "GET", f"{role}/role-id", token=operator).body["data"]["role_id"]
        secret_id = self.lab.api(NODE, "POST", f"{role}/secret-id", {}, token=operator).body["data"]["secret_id"]
        login: Request = ("POST", "auth/approle/login", {"role_id": role_id, "secret_id": secret_id}, "")
        return _token(self.from_node([[login]])[0][0])

    def from_node(self, chains: list[list[Request]]) -> list[list[Answer]]:
        """Make requests from a node's address, which services are bound to.

        Args:
            chains: requests as (method, path, body, token); those of a chain one after the other, chains side by side.
        """
        task = {"host": f"{self.lab.active()}.lab.test", "port": 8200, "ca": "/etc/openbao/tls/ca.crt", "chains": chains}
        place = "/run/try_requests.py"
        self.lab.ssh(NODE, f"cat > {place}", stdin=(PROJECT / "molecule/shared/try_requests.py").read_text())
        try:
            answers = json.loads(self.lab.ssh(NODE, f"python3 {place}", stdin=json.dumps(task)))
        finally:
            self.lab.ssh(NODE, f"rm {place}")
        return [[Answer(status, body) for status, body in chain] for chain in answers]


def _token(answer: Answer) -> str:
    assert answer.status == 200, f"refused: HTTP {answer.status} {answer.body.get('errors')}"
    return str(answer.body["auth"]["client_token"])
