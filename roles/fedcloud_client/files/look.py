"""Prints, as JSON, what the role needs to know of a host.

Arguments: the installation directory; a CA in PEM, or nothing; the link by which the system trusts a CA of ours.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

directory, ca, trusted = Path(sys.argv[1]), "".join(sys.argv[2].split()), Path(sys.argv[3])
libc, _, minor = (os.confstr("CS_GNU_LIBC_VERSION") or "").rpartition(".")  # such as "glibc 2.36"
python = f"{sys.version_info.major}.{sys.version_info.minor}"
bundle = Path("/etc/ssl/certs/ca-certificates.crt")
environments = [path for path in directory.glob("*") if path.is_dir() and not path.is_symlink()]
print(
    json.dumps(
        {
            "python": python,
            "tags": [python, platform.machine(), minor],  # what decides which wheels fit
            "environments": sorted(path.name for path in environments),
            "complete": sorted(path.name for path in environments if (path / "complete").exists()),
            # update-ca-certificates copies a CA into the bundle, and keeps a link to it until it has seen it go.
            "trust_settled": ca in "".join(bundle.read_text().split()) if ca else not trusted.is_symlink(),
        }
    )
)
