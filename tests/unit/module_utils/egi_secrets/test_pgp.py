"""Judging keys and decrypting, with the real gpg in homes of the test's own."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils.egi_secrets.errors import PgpError
from ansible.module_utils.egi_secrets.pgp import Keyrings, load_public_key
from ansible.module_utils.egi_secrets.preflight import Operator, check_keys

from tests.pgp_homes import PgpHome

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture
def home() -> Iterator[PgpHome]:
    made = PgpHome.create()
    try:
        yield made
    finally:
        made.destroy()


def refusal(file: Path) -> str:
    with pytest.raises(PgpError) as refused:
        load_public_key(str(file), NOW)
    return str(refused.value)


@pytest.mark.parametrize(("algorithm", "encryption"), [("ed25519", "cv25519"), ("rsa2048", "rsa2048")])
def test_a_good_key_is_loaded_in_binary(home: PgpHome, tmp_path: Path, algorithm: str, encryption: str) -> None:
    fingerprint = home.make_key("alice", algorithm=algorithm, encryption=encryption)
    key = load_public_key(str(home.export(tmp_path / "alice.asc")), NOW)
    assert key.fingerprint == fingerprint
    assert key.user_id == "alice <alice@test>"
    assert key.binary == home.gpg("--export-options", "export-minimal", "--export", fingerprint)
    days = key.days_left(NOW)
    assert days is not None
    assert 729 < days <= 731


def test_keys_that_nothing_should_be_encrypted_to_are_refused(home: PgpHome, tmp_path: Path) -> None:
    signing = home.make_key("signer", encryption=None)
    assert "cannot encrypt (it has no encryption subkey)" in refusal(home.export(tmp_path / "s.asc", signing))

    good = home.make_key("alice")
    assert "holds 2 public keys" in refusal(home.export(tmp_path / "two.asc", signing, good))

    secret = tmp_path / "secret.asc"
    secret.write_bytes(home.gpg("--armor", "--export-secret-keys", good))
    assert "holds a SECRET key" in refusal(secret)
    secret.write_bytes(home.gpg("--export-secret-subkeys", good))
    assert "holds a SECRET key" in refusal(secret)

    home.revoke(good)
    assert f"holds the revoked key {good}" in refusal(home.export(tmp_path / "revoked.asc", good))

    old = home.make_key("old", expire="seconds=5", extra=("--faked-system-time", "20200101T000000"))
    assert "expired on 2020-01-01" in refusal(home.export(tmp_path / "old.asc", old))

    (tmp_path / "garbage.asc").write_text("no key")
    assert "holds no public key" in refusal(tmp_path / "garbage.asc")
    assert "cannot be read (No such file" in refusal(tmp_path / "missing.asc")


def test_an_expired_encryption_subkey_is_refused(home: PgpHome, tmp_path: Path) -> None:
    fingerprint = home.make_key("alice", encryption=None)
    home.gpg(
        "--pinentry-mode", "loopback", "--passphrase", "", "--quick-add-key", fingerprint, "cv25519", "encr", "seconds=1"
    )
    later = NOW + datetime.timedelta(days=1)
    with pytest.raises(PgpError, match="its encryption subkey is expired or revoked"):
        load_public_key(str(home.export(tmp_path / "alice.asc")), later)


def test_ageing_shared_and_secret_keys_are_told_apart(home: PgpHome, tmp_path: Path) -> None:
    short = home.export(tmp_path / "short.asc", home.make_key("short", expire="30d"))
    good = home.export(tmp_path / "good.asc", home.make_key("good"))
    people = [Operator("a", str(short), 1), Operator("b", str(good), 1), Operator("c", str(good), 1)]
    keys, unfit, wrong = check_keys(people, 90, NOW)
    assert set(keys) == {"a", "b", "c"}
    assert len(unfit) == 1
    assert "expires in 30 days" in unfit[0]
    assert "vault_cluster_key_min_days is 90" in unfit[0]
    assert len(wrong) == 1
    assert "b and c have the same key" in wrong[0]


def test_decrypting_needs_the_secret_key_at_hand(home: PgpHome) -> None:
    fingerprint = home.make_key("alice")
    message = home.gpg("--trust-model", "always", "--recipient", fingerprint, "--encrypt", stdin=b"abc")
    other = PgpHome.create()
    try:
        keyrings = Keyrings.open([str(other.path), str(home.path)])
        assert keyrings.decrypt(message, fingerprint, "share 1").reveal() == "abc"
        with pytest.raises(PgpError, match="in no keyring at hand"):
            Keyrings.open([str(other.path)]).decrypt(message, fingerprint, "share 1")
        with pytest.raises(PgpError, match="could not decrypt share 1"):
            keyrings.decrypt(message[:-9], fingerprint, "share 1")
    finally:
        other.destroy()


def test_a_public_key_alone_or_one_whose_secret_part_is_elsewhere_is_not_at_hand(home: PgpHome) -> None:
    fingerprint = home.make_key("alice")
    grip = [
        line.split(":")[9]
        for line in home.gpg("--list-secret-keys", "--with-colons", "--with-keygrip").decode().splitlines()
        if line.startswith("grp")
    ][1]
    assert Keyrings.open([str(home.path)]).holds(fingerprint)
    (home.path / "private-keys-v1.d" / f"{grip}.key").unlink()
    assert not Keyrings.open([str(home.path)]).holds(fingerprint)


def pinentry(home: PgpHome, answer: str) -> None:
    """Put a pinentry in place that gives one answer, and tells which terminal it was to use."""
    program = home.path / "pinentry"
    program.write_text(
        "#!/bin/sh\necho OK\nwhile read -r line; do\n"
        f'case "$line" in OPTION\\ ttyname*) echo "$line" > {home.path}/tty; echo OK;;\n'
        f"GETPIN) {answer};;\nBYE) echo OK; exit 0;;\n*) echo OK;; esac\ndone\n"
    )
    program.chmod(0o700)
    (home.path / "gpg-agent.conf").write_text(f"pinentry-program {program}\n")


def test_a_passphrase_is_asked_for_by_the_agents_pinentry_on_the_operators_terminal(
    home: PgpHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.path / "gpg-agent.conf").write_text("allow-loopback-pinentry\n")
    fingerprint = home.make_key("alice", passphrase="open sesame")
    message = home.gpg("--trust-model", "always", "--recipient", fingerprint, "--encrypt", stdin=b"abc")
    home.stop_agent()
    monkeypatch.setenv("GPG_TTY", "/dev/pts/77")
    pinentry(home, "echo 'ERR 83886179 Operation cancelled'")
    keyrings = Keyrings.open([str(home.path)])
    with pytest.raises(PgpError, match="GPG_TTY"):
        keyrings.decrypt(message, fingerprint, "share 1")
    home.stop_agent()
    pinentry(home, "echo 'D open sesame'; echo OK")
    assert keyrings.decrypt(message, fingerprint, "share 1").reveal() == "abc"
    assert "/dev/pts/77" in (home.path / "tty").read_text()


def test_a_pinentry_that_nobody_answers_is_not_waited_for_forever(home: PgpHome) -> None:
    fingerprint = home.make_key("alice", passphrase="open sesame")
    message = home.gpg("--trust-model", "always", "--recipient", fingerprint, "--encrypt", stdin=b"abc")
    home.stop_agent()
    pinentry(home, "sleep 30")
    with pytest.raises(PgpError, match=r"did not decrypt share 1 within 0\.5 s"):
        Keyrings.open([str(home.path)]).decrypt(message, fingerprint, "share 1", timeout=0.5)


def test_a_home_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(PgpError, match=r"is no directory: correct vault_cluster_gnupg_homes"):
        Keyrings.open([str(tmp_path / "nowhere")])
