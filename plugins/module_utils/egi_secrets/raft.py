"""What is counted on of Raft. Nothing but the standard library: nodes have no other."""

from __future__ import annotations

ELECTION = 15.0  # seconds that an election may take
# Entries that a follower may be behind and still have caught up: a busy cluster is never quite even.
BEHIND = 200
