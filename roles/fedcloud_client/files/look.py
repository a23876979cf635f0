"""Prints, as JSON, what the role needs to know of a host.

Arguments: the installation directory; that of the system's own CAs; that of all CAs it trusts; the beginning of the names of
our files in both; the CAs that the system is to trust, as JSON: the PEM of each by the name of its file.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from pathlib import Path

directory, own, store, stem = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
wanted: dict[str, str] = json.loads(sys.argv[5])
libc, _, minor = (os.confstr("CS_GNU_LIBC_VERSION") or "").rpartition(".")  # such as "glibc 2.36"
python = f"{sys.version_info.major}.{sys.version_info.minor}"
bundle = "".join((store / "ca-certificates.crt").read_text().split())
files = sorted(own.glob(f"{stem}*.crt"))
# In the store, a link by name leads to the file and one by hash to that link. `openssl rehash` keeps one by hash that leads
# nowhere, and no other CA of the same name is found past it.
links = {path: path.readlink().stem for path in sorted(store.iterdir()) if path.is_symlink()}
leftovers = [path for path in files if path.stem not in wanted]
leftovers += [path for path, leads_to in links.items() if leads_to.startswith(stem) and leads_to not in wanted]
# Whom the system was made to trust when it was last settled; until it is again, whom it trusted when that began.
record = own / f"{stem}.record"
recorded = record.read_text() if record.exists() else ""


def trusted(text: str) -> list[str]:
    """Return those certificates of a text that the system trusts, each once."""
    each = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", text, re.DOTALL)
    return [f"{pem}\n" for pem in dict.fromkeys(each) if "".join(pem.split()) in bundle]


# A CA whose file is gone stays in the bundle until update-ca-certificates has run, and links by hash lead astray until they
# are made anew: what is there does not tell that both have happened, the record does.
settled = (
    recorded == "".join(wanted.values())
    and trusted(recorded) == list(wanted.values())
    and not leftovers
    and all((own / f"{name}.crt").exists() and (store / f"{name}.pem").exists() for name in wanted)
)
environments = [path for path in directory.glob("*") if path.is_dir() and not path.is_symlink()]
print(
    json.dumps(
        {
            "python": python,
            "tags": [python, platform.machine(), minor],  # what decides which wheels fit
            "environments": sorted(path.name for path in environments),
            "complete": sorted(path.name for path in environments if (path / "complete").exists()),
            "trust_settled": settled,
            "trust_leftovers": [str(path) for path in leftovers],
            "trusted": trusted("\n".join([recorded, *(path.read_text() for path in files)])),
        }
    )
)
