"""Print, as JSON, what the role needs to know of a host. Argument: the installation directory."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

directory = Path(sys.argv[1])
libc, _, minor = (os.confstr("CS_GNU_LIBC_VERSION") or "").rpartition(".")  # such as "glibc 2.36"
environments = [path for path in directory.glob("*") if path.is_dir() and not path.is_symlink()]
print(
    json.dumps(
        {
            "tags": [f"{sys.version_info.major}.{sys.version_info.minor}", platform.machine(), minor],
            "packages": Path("/usr/lib/postgresql").is_dir() and any(Path("/usr/lib").glob("python3*/ensurepip")),
            "environments": sorted(path.name for path in environments),
            "complete": sorted(path.name for path in environments if (path / "complete").exists()),
        }
    )
)
