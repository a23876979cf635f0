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
import shutil
import subprocess
import sys

# What looks like a token of the server: none may be left, whoever it was made for. `number` -1 in what is printed.
TOKEN = re.compile(rb"(?<![A-Za-z0-9_.+/=-])(?:hvs|hvb|s|b)\.[A-Za-z0-9]{24}(?:\.[A-Za-z0-9]{5,8})?(?![A-Za-z0-9_.+/=-])")
ANY_TOKEN = -1
JOURNAL = "journal"


def search(text: bytes, secrets: list[bytes]) -> list[int]:
    """Return the numbers of those secrets that a text holds."""
    found = [number for number, secret in enumerate(secrets) if text.find(secret) >= 0]
    return found + ([ANY_TOKEN] if TOKEN.search(text) else [])


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
        # Files come and go meanwhile. Not mapped: one that is cut while it is read would end this program.
        with contextlib.suppress(OSError), open(path, "rb") as file:  # noqa: PTH123
            found += [(number, path) for number in search(file.read(), secrets)]
    return found


def scan_journal(secrets: list[bytes], since: float) -> list[tuple[int, str]]:
    """Return which secrets are in the journal, in any field."""
    if shutil.which("journalctl") is None:
        return []
    done = subprocess.run(
        ["journalctl", "--no-pager", "--all", "--output=export", f"--since=@{int(since)}"], capture_output=True, check=False
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
