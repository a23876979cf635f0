"""The search for secrets that were left behind: planted ones are found, and never printed."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import scan_for_secrets as scanner
from secrets_left import PROGRAM, Secret, encoded, misplaced

SHARE = Secret("share 0", "00c0ffee" * 8)
KEY = Secret("server.key, line 1", "MHcCAQEEIplantedplantedplanted", ("/etc/openbao/tls/",))
SECRETS = [SHARE, KEY]
VALUES = [each.value.encode() for each in SECRETS]
TOKEN = "s." + "Abcd1234" * 3


def found(place: Path, since: float = 0.0) -> list[tuple[int, str]]:
    return sorted((number, Path(path).name) for number, path in scanner.scan([str(place)], VALUES, since))


def test_planted_secrets_are_found_wherever_they_lie(tmp_path: Path) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/er/log").write_text(f"x{SHARE.value}y")
    (tmp_path / "binary").write_bytes(b"\0" * 70000 + KEY.value.encode() + b"\xff")
    (tmp_path / "both").write_text(SHARE.value + KEY.value)
    (tmp_path / "none").write_text(SHARE.value[:-1])
    (tmp_path / "empty").write_text("")
    assert found(tmp_path) == [(0, "both"), (0, "log"), (1, "binary"), (1, "both")]


def test_a_token_of_the_server_is_found_though_nobody_knew_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f'{{"client_token": "{TOKEN}"}}')
    (tmp_path / "hmac").write_text(f"hmac-sha256:{TOKEN.replace('.', '')} buss.Abcd1234 words.{'a' * 30}")
    assert found(tmp_path) == [(scanner.ANY_TOKEN, "token")]


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (f"VAULT_TOKEN={TOKEN}", True),
        (f"https://vault/v1/x?token={TOKEN}&y", True),
        (f"It is {TOKEN}.", True),
        (f"/{TOKEN}", True),
        (f'"--token {TOKEN}"', True),
        (json.dumps(f"a\n{TOKEN}\tb"), True),
        (f"{TOKEN}.nsid1", True),
        ("hvs." + "CAESI-x_7" * 9, True),
        ("b.AAAAAQ" + "q_-W3" * 16, True),
        (f"hv{TOKEN}", True),
        (f"class{TOKEN[1:]}", False),
        (f"{TOKEN}5", False),
        ("o=s.getOwnPropertyDescriptor(t)", False),
        ("eyJhbGciOi-b." + "eyJz" * 20, False),
    ],
)
def test_a_token_is_found_in_whatever_it_lies(text: str, is_one: bool) -> None:
    assert scanner.has_token(text.encode()) == is_one


@pytest.mark.parametrize("before", ["", "x", "xy", "xyz"])
def test_a_secret_inside_an_encoded_text_is_found(before: str) -> None:
    whole = base64.b64encode(f"{before}{SHARE.value} and more".encode()).decode()
    assert sum(each in whole for each in encoded(SHARE.value)) == 1


def test_what_was_rotated_away_is_read(tmp_path: Path) -> None:
    (tmp_path / "log.1.gz").write_bytes(gzip.compress(SHARE.value.encode()))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"x" * 9000)[:20] + KEY.value.encode())
    assert found(tmp_path) == [(0, "log.1.gz"), (1, "cut.gz")]


PACKED = gzip.compress(b"x" * 9000 + SHARE.value.encode())
BAD_CRC = PACKED[:-8] + bytes(4) + PACKED[-4:]


@pytest.mark.parametrize(
    ("packed", "secrets"),
    [
        (SHARE.value.encode(), [0]),
        (BAD_CRC, [0]),
        (PACKED[:-8], [0]),
        (PACKED + b"garbage " + KEY.value.encode(), [0, 1]),
        (PACKED + bytes(512), [0]),
        (KEY.value.encode() + PACKED, [0, 1]),
        (BAD_CRC + gzip.compress(KEY.value.encode()), [0, 1]),
        (PACKED[:-8] + gzip.compress(KEY.value.encode()), [0, 1]),
        (gzip.compress(SHARE.value[:9].encode()) + gzip.compress(SHARE.value[9:].encode()), [0]),
        (gzip.compress(b"nothing") + b"\x1f\x8b\x08", []),
    ],
    ids=["plain text", "wrong CRC", "cut", "garbage after", "padded", "garbage before", "good after bad", "good after cut",
         "over two members", "nothing"],
)  # fmt: skip
def test_what_gzip_refuses_is_read_as_far_as_it_goes(tmp_path: Path, packed: bytes, secrets: list[int]) -> None:
    (tmp_path / "log.1.gz").write_bytes(packed)
    assert found(tmp_path) == [(number, "log.1.gz") for number in secrets]


@pytest.mark.parametrize("command", ["exit 1", None])
def test_a_journal_that_cannot_be_read_is_no_clean_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str | None
) -> None:
    if command:
        (tmp_path / "journalctl").write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    with pytest.raises((OSError, subprocess.CalledProcessError)):
        scanner.scan_journal(VALUES, 0.0)


def test_a_nodes_key_is_at_home_on_that_node_alone() -> None:
    key = [Secret("vault-infn.key, line 1", "MHcC", ("/lab/tls/vault-infn.key", "vault-infn:/etc/openbao/tls/"))]
    assert misplaced([(0, "/etc/openbao/tls/server.key")], key, "vault-infn") == []
    assert misplaced([(0, "/lab/tls/vault-infn.key")], key, "controller") == []
    assert misplaced([(0, "/etc/openbao/tls/server.key")], key, "vault-ifca") != []


def test_what_did_not_change_since_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "old").write_text(SHARE.value)
    assert found(tmp_path, since=time.time() + 60) == []
    assert found(tmp_path, since=time.time() - 60) == [(0, "old")]


def test_what_tests_write_for_themselves_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "pytest-of-root/home").mkdir(parents=True)
    (tmp_path / "pytest-of-root/home/profile").write_text(SHARE.value)
    (tmp_path / "ansible").write_text(SHARE.value)
    assert scanner.scan([str(tmp_path)], VALUES, 0.0, (f"{tmp_path}/pytest-of-",)) == [(0, str(tmp_path / "ansible"))]
    assert found(tmp_path) == [(0, "ansible"), (0, "profile")]


def test_a_file_that_is_cut_while_it_is_read_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.write_text("x" * 70_000 + SHARE.value)
    search = scanner.search

    def cut_and_search(text: bytes, secrets: list[bytes]) -> list[int]:
        log.write_text("")
        return search(text, secrets)

    monkeypatch.setattr(scanner, "search", cut_and_search)
    assert found(tmp_path) == [(0, "log")]


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "looked at").mkdir()
    (tmp_path / "secret").write_text(SHARE.value)
    (tmp_path / "looked at/link").symlink_to(tmp_path / "secret")
    assert found(tmp_path / "looked at") == []


def test_it_runs_by_itself_on_a_host_and_prints_no_secret(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(SHARE.value)
    asked = {
        "secrets": [base64.b64encode(value).decode() for value in VALUES],
        "places": [str(tmp_path)],
        "since": 0,
        "journal": False,
    }
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM.read_text()],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [[0, str(tmp_path / "log")]]
    assert SHARE.value not in done.stdout + done.stderr


def test_a_secret_is_at_home_in_its_own_file_and_nowhere_else() -> None:
    both = [(1, "/etc/openbao/tls/server.key"), (1, "/srv/server.key"), (0, "/etc/openbao/tls/server.key"), (-1, "/root/x")]
    said = misplaced(both, SECRETS, "vault-infn")
    assert said == [
        "vault-infn:/srv/server.key holds server.key, line 1",
        "vault-infn:/etc/openbao/tls/server.key holds share 0",
        "vault-infn:/root/x holds a token",
    ]
    assert not any(each.value in "".join(said) for each in SECRETS)


def test_the_checkers_own_token_is_at_home() -> None:
    assert misplaced([(scanner.ANY_TOKEN, "/var/lib/endpoint-failover/token")], SECRETS, "vault-infn") == []
