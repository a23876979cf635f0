"""Keeps the service's generic host names at a site that serves: observes, decides with the other sites, moves.

Runs on a node with Debian's python3 and python3-dnspython; nothing else. docs/failover.md says how it decides.
"""

__version__ = "1"
