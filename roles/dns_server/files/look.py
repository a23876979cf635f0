"""Tell, as JSON, which zones a DNS server has, and whether it has what the role needs. Reads only."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

kind, zones = sys.argv[1], json.loads(sys.argv[2])
directory = Path("/var/lib/bind" if kind == "primary" else "/var/cache/bind")
key = Path("/etc/bind/operator.key")
print(
    json.dumps(
        {
            "zones": [zone for zone in zones if (directory / f"{zone}.db").is_file()],
            "installed": all(os.access(f"/usr/{path}", os.R_OK) for path in ("sbin/named", "bin/dig", "bin/nsupdate"))
            and any(Path("/usr/lib/python3/dist-packages").glob("dns/query.py")),
            "operator_key": key.read_text(encoding="ascii").strip() if key.is_file() else "",
        }
    )
)
