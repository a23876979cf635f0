"""Who made what: policies, roles and groups carry no mark of their maker, so this project keeps a list of its own.

One document a kind in a KV mount (version 2) that only operators reach, written with check-and-set, and before the change
that it tells of: killed in between, the next run finds more listed than there is, which does no harm. Its names are one
text, a line each: OpenBao refuses JSON with more than a thousand strings (max_request_json_strings).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..errors import ReconcileError, RefusedError
from .objects import KINDS, Ident
from .server import Server

SECRETS, VOS = "secrets", "vos"
DOCUMENTS = (*KINDS, VOS, SECRETS)
_BAD_REQUEST = 400
_SCRYPT = {"n": 2**14, "r": 8, "p": 1}


@dataclass
class Ledger:
    """The list as it is on the server.

    Attributes:
        made: names by kind, with those of VOs that have or had a folder.
        hashes: salt and hash of each field that the server never returns, by `kind:name:field`.
        versions: of each document, for check-and-set; 0 where there is none.
    """

    made: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in (*KINDS, VOS)})
    hashes: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    def has(self, ident: Ident) -> bool:
        """Return whether this project made the object."""
        return ident.name in self.made[ident.kind]


def read(server: Server, mount: str) -> Ledger:
    """Read the ledger; it is empty where its mount or document is not there yet."""
    ledger = Ledger()
    found = server.each(DOCUMENTS, lambda document: server.read(_path(mount, document)))
    for document, answer in zip(DOCUMENTS, found, strict=True):
        if not answer:
            continue
        # A document that was deleted has metadata and no data; its version counts all the same.
        ledger.versions[document] = int((answer.get("metadata") or {}).get("version") or 0)
        content = answer.get("data") or {}
        if document == SECRETS:
            ledger.hashes = {str(key): str(value) for key, value in (content.get("hashes") or {}).items()}
        else:
            names = content.get("names") or ""
            ledger.made[document] = set(names.split() if isinstance(names, str) else names)  # once it was a list
    return ledger


def write(
    server: Server, mount: str, ledger: Ledger, made: Mapping[str, Iterable[str]], hashes: Mapping[str, str]
) -> Ledger:
    """Write what differs, and return the ledger as it is then.

    Args:
        server: acts with a token that may write the ledger.
        mount: path of the ledger's mount.
        ledger: as it was read.
        made: names by kind as they should be.
        hashes: as they should be.

    Raises:
        ReconcileError: another run wrote it in between.
    """
    after = Ledger({kind: set(names) for kind, names in made.items()}, dict(hashes), dict(ledger.versions))
    for document in DOCUMENTS:
        content: dict[str, object]
        if document == SECRETS:
            same, content = after.hashes == ledger.hashes, {"hashes": after.hashes}
        else:
            same, content = after.made[document] == ledger.made[document], {"names": "\n".join(sorted(after.made[document]))}
        if same:
            continue
        try:
            answer = server.write(
                _path(mount, document), {"data": content, "options": {"cas": ledger.versions.get(document, 0)}}
            )
        except RefusedError as error:
            if error.status == _BAD_REQUEST and any("check-and-set" in reason for reason in error.reasons):
                raise ReconcileError(
                    f"Somebody else changes the configuration at the same time ({mount}/ledger/{document} was written since "
                    "this run read it): wait until they are done, and run this again."
                ) from None
            raise
        after.versions[document] = int((answer.get("data") or {}).get("version") or 0)
    return after


def hash_of(secret: str) -> str:
    """Return a salted hash by which `matches` knows a secret again (scrypt, RFC 7914)."""
    salt = os.urandom(16)
    return ":".join(base64.b64encode(part).decode() for part in (salt, _scrypt(secret, salt)))


def matches(secret: str, hashed: str) -> bool:
    """Return whether a secret is the one that was hashed."""
    try:
        salt, kept = (base64.b64decode(part, validate=True) for part in hashed.split(":"))
    except ValueError:
        return False
    return hmac.compare_digest(_scrypt(secret, salt), kept)


def _scrypt(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(str(secret).encode(), salt=salt, **_SCRYPT)


def _path(mount: str, document: str) -> str:
    return f"{mount}/data/ledger/{document}"
