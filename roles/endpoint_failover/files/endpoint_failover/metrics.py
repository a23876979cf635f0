"""What Prometheus may know, in a file for the node exporter's textfile collector."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from .cycle import Memory
from .decide import is_held
from .model import Answer, Score
from .settings import Settings

INTERVAL = 15.0

HELP = {
    "endpoint_failover_last_check_timestamp_seconds": "When the checker last checked.",
    "endpoint_failover_site_serving": "Whether a site serves: 1, 0, or -1 while that is not known yet.",
    "endpoint_failover_name_at": "Whether the DNS servers that answer agree that the name is at this site.",
    "endpoint_failover_dns_server_answers": "Whether a DNS server answers for a name.",
    "endpoint_failover_site_held": "Whether a site is held.",
    "endpoint_failover_identity_valid": "Whether the cluster knows this checker.",
    "endpoint_failover_alarms": "How many things a person should see to.",
}


def write(file: Path, settings: Settings, memory: Memory, answers: Mapping[str, tuple[Answer, ...]]) -> None:
    """Write the file, all or nothing; everybody may read it.

    Raises:
        OSError: it cannot be written.
    """
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        new.write_text("".join(lines(settings, memory, answers)), encoding="utf-8")
        new.chmod(0o644)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


def lines(settings: Settings, memory: Memory, answers: Mapping[str, tuple[Answer, ...]]) -> Iterator[str]:
    """Yield the lines of the file."""
    told: set[str] = set()
    for metric, labels, value in _samples(settings, memory, answers):
        name = f"endpoint_failover_{metric}"
        if name not in told:
            told.add(name)
            yield f"# HELP {name} {HELP[name]}\n# TYPE {name} gauge\n"
        inner = ",".join(f'{key}="{each}"' for key, each in labels.items())
        yield f"{name}{{{inner}}} {value}\n" if inner else f"{name} {value}\n"


def _samples(
    settings: Settings, memory: Memory, answers: Mapping[str, tuple[Answer, ...]]
) -> Iterator[tuple[str, dict[str, str], float]]:
    yield "last_check_timestamp_seconds", {}, round(time.time(), 3)
    for name in settings.names:
        scores = memory.scores.get(name.name, {})
        for site in settings.sites:
            serving = scores.get(site, Score()).serving
            yield "site_serving", {"name": name.name, "site": site}, -1 if serving is None else int(serving)
    for name in settings.names:
        place = memory.places.get(name.name)
        for site in settings.sites:
            yield "name_at", {"name": name.name, "site": site}, int(place is not None and place.agreed == site)
    for name in settings.names:
        for answer in answers.get(name.name, ()):
            yield "dns_server_answers", {"name": name.name, "server": answer.server}, int(not answer.error)
    cluster_now = time.monotonic() + (memory.cluster_offset or 0.0)
    for site in settings.sites:
        yield "site_held", {"site": site}, int(is_held(site, memory.holds, cluster_now))
    yield "identity_valid", {}, int(not memory.identity)
    yield "alarms", {}, len(memory.alarms)
