"""Which secrets the lab has, where each may lie in clear, and which of them lie elsewhere."""

from __future__ import annotations

import base64
import json
import shlex
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import scan_for_secrets as scanner
from lab import PROJECT, Lab

CONTROLLER = "controller"
# Where a secret could be left. Not the server's binaries, and not what the kernel pretends.
HOST_PLACES = ["/etc", "/var", "/root", "/home", "/tmp", "/run", "/usr/local", "/srv", "/dev/shm"]
# What tests write for themselves, those of other stories too, and no operator's run does.
TESTS_OWN = (f"{tempfile.gettempdir()}/pytest-of-",)
PROGRAM = Path(scanner.__file__)


@dataclass(frozen=True)
class Secret:
    """A secret.

    Attributes:
        label: what it is called in a report, which never has the value.
        value: as it would lie on a disk.
        homes: how the paths begin where it belongs, on whichever host, or `host:` and that.
    """

    label: str
    value: str
    homes: tuple[str, ...] = ()


def known(lab: Lab, tokens: Iterable[str] = ()) -> list[Secret]:
    """Return the lab's secrets of this moment.

    Args:
        lab: whose.
        tokens: access tokens that runs were given.
    """
    state = str(lab.state)
    found = [Secret(f"access token {number}", token) for number, token in enumerate(tokens) if token]
    if (lab.state / "unseal-bundle.json").exists():
        for number, share in enumerate(lab.clear_shares()):
            found.append(Secret(f"share {number}", share))
            found.append(Secret(f"share {number}, base64", base64.b64encode(bytes.fromhex(share)).decode()))
            found += [Secret(f"share {number}, encoded in a text", each) for each in encoded(share)]
        if "root_token" in lab.bundle():
            found.append(Secret("root token", lab.root_token()))
            found += [Secret("root token, encoded in a text", each) for each in encoded(lab.root_token())]
    for path in (*lab.state.glob("tls/*.key"), *lab.state.glob("ca/*.key")):
        served = [f"{path.stem}:{place}" for place in ("/etc/openbao/tls/", "/etc/checkin/", "/etc/dyndns/")]
        homes = (str(path), *(served if path.parent.name == "tls" else []))
        lines = [line for line in path.read_text().splitlines() if line and not line.startswith("-----")]
        found += [
            Secret(f"{path.name}, line {number}", line, homes) for number, line in enumerate(lines, 1) if len(line) > 20
        ]
    named = (f"{state}/dns/", f"{state}/dyndns/", "/etc/bind/", "/etc/endpoint-failover/", "/var/lib/nsupdate/")
    for path in (*lab.state.glob("dns/*.key"), *lab.state.glob("dyndns/*.secret")):
        found.append(Secret(path.name, path.read_text().strip(), named))
    web = lab.state / "checkin/web-client-secret"
    if web.exists():
        found.append(Secret("web client secret", web.read_text().strip(), (f"{state}/checkin/", "/etc/checkin/")))
    return found


def encoded(value: str) -> list[str]:
    """Return what base64 of any text that holds a value has of it, wherever it begins there."""
    found = []
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + value.encode()).decode().rstrip("=")
        # Characters beside it take bits of what stands before or after.
        found.append(whole[4 if before else 0 : len(whole) - 1])
    return found


# The checkers' own logins, each for its own service account alone.
TOKEN_HOMES = ("/var/lib/endpoint-failover/",)


def misplaced(found: Iterable[tuple[int, str]], secrets: Sequence[Secret], host: str) -> list[str]:
    """Return sentences on those that are not at home.

    Args:
        found: what the scanner printed.
        secrets: those that it was given, in the same order.
        host: where it ran.
    """
    sentences = []
    for number, path in found:
        any_token = number == scanner.ANY_TOKEN
        label, homes = ("a token", TOKEN_HOMES) if any_token else (secrets[number].label, secrets[number].homes)
        if not (path.startswith(homes) or f"{host}:{path}".startswith(homes)):
            sentences.append(f"{host}:{path} holds {label}")
    return sentences


def left(lab: Lab, secrets: Sequence[Secret], since: float, hosts: Sequence[str] = Lab.nodes) -> list[str]:
    """Return where secrets lie that belong elsewhere, on the controller and on hosts.

    Args:
        lab: whose.
        secrets: to look for.
        since: seconds since the epoch; what did not change after it is not read.
        hosts: to look at.
    """
    asked = {"secrets": [base64.b64encode(each.value.encode()).decode() for each in secrets], "since": since}
    mine = [str(lab.state), str(PROJECT / ".cache/ansible"), str(Path.home() / ".ansible")]
    mine += sorted({tempfile.gettempdir(), "/tmp", "/var/tmp", "/var/log", "/dev/shm"})
    values = [each.value.encode() for each in secrets]
    found = misplaced(scanner.scan(mine, values, since, TESTS_OWN), secrets, CONTROLLER)
    command = f"python3 -I -c {shlex.quote(PROGRAM.read_text())}"
    for host in hosts:
        answer = lab.ssh(host, command, stdin=json.dumps({**asked, "places": HOST_PLACES, "journal": True}))
        found += misplaced([(int(number), str(path)) for number, path in json.loads(answer)], secrets, host)
    return found


def now() -> float:
    """Return this moment, for `since`: a little earlier, since file times are the kernel's ticks."""
    return time.time() - 1
