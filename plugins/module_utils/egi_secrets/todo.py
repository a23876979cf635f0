"""What needs doing, and the pages that say how."""

from __future__ import annotations

from dataclasses import dataclass

DNS = "docs/dns.md"
FAILOVER = "docs/failover.md"
INDEX = "docs/runbooks/index.md"
REPLACE = "docs/runbooks/replace-site.md"
ROTATE = "docs/runbooks/rotate-tls.md"
UNSEAL = "docs/runbooks/unseal.md"


@dataclass(frozen=True)
class Todo:
    """What needs doing, and the page that says how."""

    what: str
    runbook: str

    def __str__(self) -> str:
        return f"{self.what} See {self.runbook}."
