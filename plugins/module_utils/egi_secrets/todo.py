"""What needs doing, and the pages that say how."""

from __future__ import annotations

from dataclasses import dataclass

CEREMONY = "docs/key-ceremony.md"
DNS = "docs/dns.md"
FAILOVER = "docs/failover.md"
GENERATE_ROOT = "docs/runbooks/generate-root.md"
INDEX = "docs/runbooks/index.md"
REKEY = "docs/runbooks/rekey.md"
REPLACE = "docs/runbooks/replace-site.md"
ROTATE = "docs/runbooks/rotate-tls.md"
STAND_UP = "docs/runbooks/stand-up.md"
UNSEAL = "docs/runbooks/unseal.md"


@dataclass(frozen=True)
class Todo:
    """What needs doing, and the page that says how."""

    what: str
    runbook: str

    def __str__(self) -> str:
        return f"{self.what} See {self.runbook}."
