"""Looks for known secrets on a machine's disks and in its journal; runs on hosts, with nothing but Python's own library.

Reads a JSON object from standard input: `secrets`, base64 of each; `places`, folders; `since`, seconds since the epoch: only
what changed after that is read. Prints a JSON list of [number of the secret, path]. A secret is never printed, and never on
the command line.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import zlib

# What looks like a token of the server: none may be left, whoever it was made for. `number` -1 in what is printed. It may be
# the value of a variable, a part of a URL, the end of a sentence, or begin a line of JSON, where the break is `\\n`. A short
# one has a digit (of 24 random characters all but one in seventy have): s.getOwnPropertyDescriptor is a program's. What is
# before it is looked at last: a search that begins with that is five times slower.
TOKEN = re.compile(rb"[sbr]\.(?=[A-Za-z]*[0-9])[A-Za-z0-9]{24}(?![A-Za-z0-9])|(?:b|hv[sbr])\.[A-Za-z0-9_-]{60}")
BEFORE = re.compile(rb"(?:^|[^A-Za-z0-9_-]|\\[nrt])(?:hv)?$")
ANY_TOKEN = -1
GZIP_MEMBER, GZIP = b"\x1f\x8b\x08", 31  # how one begins (RFC 1952: deflated), and what zlib calls the format
JOURNAL = "journal"


def content(path: str) -> bytes:
    """Return what is in a file; of one that was rotated away, also what was before it was compressed."""
    with open(path, "rb") as file:  # noqa: PTH123  # not mapped: one that is cut while it is read would end this program
        text = file.read()
    return text + b"\n" + decompressed(text) if path.endswith(".gz") else text


def decompressed(text: bytes) -> bytes:
    """Return what a text's gzip members hold, each as far as it can be had, whatever lies between them."""
    found, start = b"", text.find(GZIP_MEMBER)
    while start >= 0:
        plain, length = _member(text[start:])
        found += plain
        start = text.find(GZIP_MEMBER, start + length)
    return found


def _member(text: bytes) -> tuple[bytes, int]:
    """Return what the gzip member at the beginning of a text holds, and where to look for the next one."""
    stream = zlib.decompressobj(GZIP)
    try:
        found = stream.decompress(text)
    except zlib.error:  # what came before the damage is lost with it: again, byte after byte
        return _until_damage(text) + b"\n", len(GZIP_MEMBER)
    return found, len(text) - len(stream.unused_data) if stream.eof else len(GZIP_MEMBER)


def _until_damage(text: bytes) -> bytes:
    stream, found = zlib.decompressobj(GZIP), bytearray()
    with contextlib.suppress(zlib.error):
        for place in range(len(text)):
            found += stream.decompress(text[place : place + 1])
    return bytes(found)


def search(text: bytes, secrets: list[bytes]) -> list[int]:
    """Return the numbers of those secrets that a text holds."""
    found = [number for number, secret in enumerate(secrets) if text.find(secret) >= 0]
    return found + ([ANY_TOKEN] if has_token(text) else [])


def has_token(text: bytes) -> bool:
    """Tell whether a text holds what looks like a token."""
    return any(BEFORE.search(text[max(each.start() - 4, 0) : each.start()]) for each in TOKEN.finditer(text))


def files(places: list[str], since: float, apart: tuple[str, ...] = ()) -> list[str]:
    """Return the ordinary files below some folders whose inode changed since then, apart from folders that begin so."""
    found = []
    for place in places:
        for folder, below, names in os.walk(place):
            below[:] = [name for name in below if not os.path.join(folder, name).startswith(apart)]  # noqa: PTH118
            for name in names:
                path = os.path.join(folder, name)  # noqa: PTH118  # a path may hold any bytes
                with contextlib.suppress(OSError):
                    about = os.lstat(path)
                    if about.st_ctime >= since and about.st_size and (about.st_mode & 0o170000) == 0o100000:
                        found.append(path)
    return found


def scan(places: list[str], secrets: list[bytes], since: float, apart: tuple[str, ...] = ()) -> list[tuple[int, str]]:
    """Return which secret is in which file."""
    found = []
    for path in files(places, since, apart):
        with contextlib.suppress(OSError):  # files come and go meanwhile
            found += [(number, path) for number in search(content(path), secrets)]
    return found


def scan_journal(secrets: list[bytes], since: float) -> list[tuple[int, str]]:
    """Return which secrets are in the journal, in any field.

    Raises:
        OSError, CalledProcessError: there is none that can be read.
    """
    subprocess.run(["journalctl", "--sync"], capture_output=True, check=False)
    done = subprocess.run(
        ["journalctl", "--no-pager", "--all", "--output=export", f"--since=@{int(since)}"], capture_output=True, check=True
    )
    return [(number, JOURNAL) for number in search(done.stdout, secrets)]


def main() -> None:
    """Scan this machine as standard input says."""
    asked = json.load(sys.stdin)
    secrets = [base64.b64decode(each) for each in asked["secrets"]]
    found = scan(asked["places"], secrets, asked["since"])
    if asked["journal"]:
        found += scan_journal(secrets, asked["since"])
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
