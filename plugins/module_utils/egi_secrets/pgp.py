"""GnuPG, driven over pipes: judge operators' public keys, find whose secret key is at hand, decrypt a share.

No cryptography of our own. What is decrypted exists in this process's memory alone. Formats: GnuPG's doc/DETAILS for
the colon listings and the status lines.
"""

from __future__ import annotations

import datetime
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .api import Secret
from .errors import PgpError

# gpg's own work takes milliseconds. A person at a pinentry, or a smart card to be touched, takes longer.
GPG_TIMEOUT = 30.0
PINENTRY_TIMEOUT = 180.0

_DAY = datetime.timedelta(days=1)


@dataclass
class Key:
    """A primary key or subkey as gpg's colon listing has it.

    Args:
        kind: pub, sub (public), sec, ssb (secret).
        validity: gpg's letter: r revoked, e expired, i invalid, d disabled, others usable.
        created: when it was made.
        expires: when it ends, None: never.
        capabilities: lower case letters of this very key (e encrypt, s sign, c certify, a authenticate).
        holder: for secret keys, '+' at hand, '#' not at hand, otherwise a smart card's serial number.
        fingerprint: 40 or 64 hex digits.
        user_id: the first user id; of a primary key only.
        subkeys: of a primary key only.
    """

    kind: str
    validity: str
    created: datetime.datetime
    expires: datetime.datetime | None
    capabilities: str
    holder: str
    fingerprint: str = ""
    user_id: str = ""
    subkeys: list[Key] = field(default_factory=list)

    def usable(self, now: datetime.datetime) -> bool:
        """Whether it is neither revoked, expired nor invalid."""
        return self.validity not in ("r", "e", "i", "d") and (self.expires is None or self.expires > now)

    def encryption_key(self, now: datetime.datetime) -> Key | None:
        """Return the newest usable key that encrypts, which both gpg and the server choose; None: there is none."""
        able = [key for key in self.subkeys if "e" in key.capabilities and key.usable(now)]
        if able:
            return max(able, key=lambda key: key.created)
        return self if "e" in self.capabilities and self.usable(now) else None


@dataclass(frozen=True)
class PublicKey:
    """An operator's public key, fit to encrypt to.

    Args:
        fingerprint: of the primary key.
        user_id: its first user id.
        binary: the key as OpenPGP packets, what sys/init takes (base64 of it).
        expires: when it or its encryption subkey ends, whichever comes first; None: never.
    """

    fingerprint: str
    user_id: str
    binary: bytes
    expires: datetime.datetime | None

    def days_left(self, now: datetime.datetime) -> float | None:
        """Return the days until it expires, None when it never does."""
        return None if self.expires is None else (self.expires - now) / _DAY


def parse_listing(listing: str) -> list[Key]:
    """Return the primary keys of a `--with-colons` listing, subkeys inside them."""
    keys: list[Key] = []
    latest: Key | None = None
    for line in listing.splitlines():
        fields = line.split(":")
        kind = fields[0]
        if kind in ("pub", "sec", "sub", "ssb"):
            latest = Key(
                kind=kind,
                validity=fields[1],
                created=_moment(fields[5]) or datetime.datetime.fromtimestamp(0, datetime.UTC),
                expires=_moment(fields[6]),
                capabilities="".join(letter for letter in fields[11] if letter.islower()),
                holder=fields[14] if len(fields) > 14 else "",  # noqa: PLR2004
            )
            if kind in ("pub", "sec"):
                keys.append(latest)
            elif keys:
                keys[-1].subkeys.append(latest)
        elif kind == "fpr" and latest is not None and not latest.fingerprint:
            latest.fingerprint = fields[9]
        elif kind == "uid" and keys and not keys[-1].user_id:
            keys[-1].user_id = fields[9]
    return keys


def load_public_key(path: str, now: datetime.datetime) -> PublicKey:
    """Return the one public key in a file, after really encrypting to it in a throw-away keyring.

    Args:
        path: file with one armoured or binary OpenPGP public key.
        now: the time to judge expiry at, aware.

    Raises:
        PgpError: the file is unreadable, holds a secret key, no key or several, or a key that is revoked, expired or
            cannot encrypt. The message is the end of a sentence that starts with whose key it is.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise PgpError(
            f"cannot be read ({error.strerror}): put that operator's public key there (gpg --armor --export)"
        ) from None
    with scratch_home() as home:
        shown = _gpg(["--show-keys", "--with-colons", "--with-subkey-fingerprint"], home=home, stdin=content)
        keys = parse_listing(shown.stdout.decode(errors="replace"))
        _refuse_unfit(keys, now)
        key = keys[0]
        _gpg(["--import"], home=home, stdin=content)
        tried = _gpg(["--trust-model", "always", "--recipient", key.fingerprint, "--encrypt"], home=home, stdin=b"trial")
        if tried.returncode != 0 or not tried.stdout:
            raise PgpError(f"cannot encrypt ({_last_line(tried.stderr)}): have the operator export a whole, valid key")
        exported = _gpg(["--export-options", "export-minimal", "--export", key.fingerprint], home=home)
        if not exported.stdout:
            raise PgpError(f"cannot be read by gpg ({_last_line(exported.stderr)}): have the operator export it again")
    encrypting = key.encryption_key(now)
    ends = [each.expires for each in (key, encrypting) if each is not None and each.expires is not None]
    return PublicKey(key.fingerprint, key.user_id, exported.stdout, min(ends, default=None))


def encrypt(content: Secret, key: PublicKey) -> str:
    """Return the armoured message of a secret, encrypted to one key, in memory.

    Raises:
        PgpError: gpg could not.
    """
    with scratch_home() as home:
        _gpg(["--import"], home=home, stdin=key.binary)
        command = ["--trust-model", "always", "--armor", "--recipient", key.fingerprint, "--encrypt"]
        done = _gpg(command, home=home, stdin=content.reveal().encode())
        if done.returncode != 0 or not done.stdout:
            raise PgpError(f"gpg could not encrypt to {key.fingerprint} ({_last_line(done.stderr)}).")
    return done.stdout.decode("ascii")


def _refuse_unfit(keys: list[Key], now: datetime.datetime) -> None:
    if any(each.kind in ("sec", "ssb") for key in keys for each in (key, *key.subkeys)):
        raise PgpError(
            "holds a SECRET key: remove the file, consider that key exposed wherever the file has been, and put the "
            "public key there instead (gpg --armor --export)"
        )
    if len(keys) != 1:
        found = f"{len(keys)} public keys" if keys else "no public key"
        raise PgpError(
            f"holds {found} where exactly one is needed: export that one key (gpg --armor --export <fingerprint>)"
        )
    key = keys[0]
    if key.validity == "r":
        raise PgpError(f"holds the revoked key {key.fingerprint}: put the operator's new key there")
    if key.validity == "e" or (key.expires is not None and key.expires <= now):
        raise PgpError(
            f"holds a key that expired on {_day(key.expires)}: have the operator extend it (gpg --quick-set-expire) "
            "and export it again"
        )
    if not key.usable(now):
        raise PgpError(f"holds the invalid key {key.fingerprint}: have the operator export it again")
    if key.encryption_key(now) is None:
        ended = [sub for sub in key.subkeys if "e" in sub.capabilities]
        why = "its encryption subkey is expired or revoked" if ended else "it has no encryption subkey"
        raise PgpError(
            f"holds a key that cannot encrypt ({why}): have the operator add one (gpg --quick-add-key "
            f"{key.fingerprint} cv25519 encr 2y) and export it again"
        )


@dataclass(frozen=True)
class Keyrings:
    """Where the secret keys at hand are: for each primary fingerprint the GnuPG home that holds it.

    A home of "" is the operator's own: GNUPGHOME or ~/.gnupg, with its agent and smart cards.
    """

    homes: dict[str, str]

    @classmethod
    def open(cls, homes: list[str]) -> Keyrings:
        """List the secret keys of each home; a key on a smart card counts, one whose secret part is elsewhere does not.

        Raises:
            PgpError: a home does not exist, or gpg cannot list it.
        """
        found: dict[str, str] = {}
        for home in homes:
            listed = _gpg(["--list-secret-keys", "--with-colons", "--with-subkey-fingerprint"], home=home, agent=True)
            if listed.returncode != 0:
                raise PgpError(f"gpg cannot list the secret keys of {_home_name(home)}: {_last_line(listed.stderr)}.")
            for key in parse_listing(listed.stdout.decode(errors="replace")):
                if any("e" in each.capabilities and each.holder != "#" for each in (key, *key.subkeys)):
                    found.setdefault(key.fingerprint, home)
        return cls(found)

    def holds(self, fingerprint: str) -> bool:
        """Whether the secret key of this primary fingerprint is at hand."""
        return fingerprint in self.homes

    def decrypt(self, message: bytes, fingerprint: str, what: str, timeout: float = PINENTRY_TIMEOUT) -> Secret:
        """Decrypt one message, in memory.

        gpg runs with --batch, which silences its own questions; a passphrase or PIN is asked for by the agent's
        pinentry all the same, on the terminal that GPG_TTY names or on the desktop.

        Args:
            message: binary OpenPGP message.
            fingerprint: primary fingerprint of the key that it is encrypted to.
            what: what is being decrypted, for messages.
            timeout: seconds for the person at the pinentry.

        Raises:
            PgpError: no such secret key, wrong passphrase, cancelled, card missing, timed out, damaged message.
        """
        home = self.homes.get(fingerprint)
        if home is None:
            raise PgpError(f"The secret key {fingerprint} that {what} is encrypted to is in no keyring at hand.")
        try:
            done = _gpg(["--status-fd", "2", "--decrypt"], home=home, stdin=message, timeout=timeout, agent=True)
        except _TimeOutError:
            raise PgpError(
                f"gpg did not decrypt {what} within {timeout:g} s: answer its pinentry, or unlock the key beforehand. "
                "`export GPG_TTY=$(tty)` lets the pinentry find this terminal."
            ) from None
        if done.returncode != 0 or b"DECRYPTION_OKAY" not in done.stderr or not done.stdout:
            raise PgpError(
                f"gpg could not decrypt {what} with key {fingerprint} ({_last_line(done.stderr)}): insert the smart "
                "card or give the right passphrase; `export GPG_TTY=$(tty)` lets the pinentry find this terminal."
            )
        return Secret(done.stdout.decode("ascii", errors="replace").strip())


class _TimeOutError(PgpError):
    """gpg did not end in time."""


@contextmanager
def scratch_home() -> Iterator[str]:
    """Give a GnuPG home (0700) that is gone afterwards; no agent is started in it."""
    with tempfile.TemporaryDirectory(prefix="egi-pgp-") as home:
        yield home


def _gpg(
    arguments: list[str], *, home: str, stdin: bytes = b"", timeout: float = GPG_TIMEOUT, agent: bool = False
) -> subprocess.CompletedProcess[bytes]:
    command = ["gpg", "--batch", "--no-tty", "--quiet"]
    if home:
        path = Path(home).expanduser()
        if not path.is_dir():
            raise PgpError(f"The GnuPG home {home} is no directory: correct vault_cluster_gnupg_homes.")
        command += ["--homedir", str(path)]
    if not agent:
        command.append("--no-autostart")  # public keys need none, and a throw-away home must not leave one running
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}  # messages that we quote stay in one language
    try:
        return subprocess.run(
            [*command, *arguments], input=stdin, capture_output=True, timeout=timeout, check=False, env=environment
        )
    except FileNotFoundError:
        raise PgpError("gpg is not installed on this controller: apt-get install gnupg.") from None
    except subprocess.TimeoutExpired:
        raise _TimeOutError(
            f"gpg {arguments[0]} did not end within {timeout:g} s: check for a lock left in {_home_name(home)}."
        ) from None


def _last_line(stderr: bytes) -> str:
    lines = [line for line in stderr.decode(errors="replace").splitlines() if line and not line.startswith("[GNUPG:]")]
    return lines[-1].removeprefix("gpg: ") if lines else "gpg gave no reason"


def _home_name(home: str) -> str:
    return home or os.environ.get("GNUPGHOME", "~/.gnupg")


def _moment(stamp: str) -> datetime.datetime | None:
    return datetime.datetime.fromtimestamp(int(stamp), datetime.UTC) if stamp.isdigit() else None


def _day(moment: datetime.datetime | None) -> str:
    return "an unknown day" if moment is None else f"{moment:%Y-%m-%d}"
