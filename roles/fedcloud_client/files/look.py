"""Prints, as JSON, what the role needs to know of a host.

Arguments: the installation directory; the beginning of the names of our CAs' files; the CAs that the system is to trust,
each in PEM.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

directory, stem, wanted = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
libc, _, minor = (os.confstr("CS_GNU_LIBC_VERSION") or "").rpartition(".")  # such as "glibc 2.36"
python = f"{sys.version_info.major}.{sys.version_info.minor}"
bundle = "".join(Path("/etc/ssl/certs/ca-certificates.crt").read_text().split())
files = sorted(Path("/usr/local/share/ca-certificates").glob(f"{stem}*.crt"))
links = {path.stem for path in Path("/etc/ssl/certs").glob(f"{stem}*.pem")}
expected = {stem if place == 1 else f"{stem}-{place}" for place in range(1, len(wanted) + 1)}


def trusted(certificates: list[str]) -> list[str]:
    """Return those of them that the system trusts."""
    return [text for text in certificates if "".join(text.split()) in bundle]


environments = [path for path in directory.glob("*") if path.is_dir() and not path.is_symlink()]
print(
    json.dumps(
        {
            "python": python,
            "tags": [python, platform.machine(), minor],  # what decides which wheels fit
            "environments": sorted(path.name for path in environments),
            "complete": sorted(path.name for path in environments if (path / "complete").exists()),
            "trust_settled": trusted(wanted) == wanted and links == expected,
            # update-ca-certificates leaves the link to a CA that is gone, and --fresh takes all links away for a moment.
            "trust_leftovers": sorted(links - expected),
            "trusted": trusted([path.read_text() for path in files]),
        }
    )
)
