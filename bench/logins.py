"""What logins leave behind, until and after they expire: leases, entities, sizes of files, and the server's memory."""

from __future__ import annotations

import time
from typing import Any

from bench.service import Service, declaration, service

PEOPLE = 100
TTL = 60  # seconds that a login lives
LEASES = "sys/leases/lookup/auth/jwt/login"


def measure_logins(logins: int) -> list[dict[str, Any]]:
    """Log in so many times, wait until all have expired, three times over; print and return a row for each moment."""
    rows: list[dict[str, Any]] = []
    with service() as one:
        content = declaration(one, 10)
        for role in content["roles"]:
            if role["name"] == "personal":
                role["settings"] = {**role["settings"], "token_ttl": f"{TTL}s"}
        one.configured.run(content).succeeded()
        print("moment               seconds   leases  entities  database MB  Raft log MB  audit MB  memory MB", flush=True)
        _note(one, rows, "nobody yet", 0)
        for turn in ("first", "second", "third"):
            _note(one, rows, f"{turn} logins", _log_in(one, logins))
            _note(one, rows, f"{turn} all expired", _wait_until_expired(one))
    return rows


def _log_in(one: Service, logins: int) -> float:
    client = one.configured.client()
    tokens = [one.configured.provider.token(f"{number:064x}@egi.eu") for number in range(PEOPLE)]
    start = time.monotonic()
    client.each(
        range(logins), lambda number: client.write("auth/jwt/login", {"jwt": tokens[number % PEOPLE], "role": "personal"})
    )
    return time.monotonic() - start


def _wait_until_expired(one: Service) -> float:
    client, start = one.configured.client(), time.monotonic()
    while client.names(LEASES):
        assert time.monotonic() - start < 20 * TTL, "logins do not expire"
        time.sleep(1)  # as often as it can be told from the figures
    return time.monotonic() - start


def _note(one: Service, rows: list[dict[str, Any]], moment: str, seconds: float) -> None:
    client, (database, log) = one.configured.client(), one.stored()
    row = {
        "moment": moment,
        "seconds": round(seconds, 1),
        "leases": len(client.names(LEASES)),
        "entities": len(client.names("identity/entity/id")),
        "database_mb": round(database, 1),
        "log_mb": round(log, 1),
        "audit_mb": round(one.audit.stat().st_size / 1e6, 1),
        "memory_mb": round(one.memory()),
    }
    rows.append(row)
    print(
        f"{moment:20} {row['seconds']:7.1f}  {row['leases']:7}  {row['entities']:8}  {row['database_mb']:11.1f}  "
        f"{row['log_mb']:11.1f}  {row['audit_mb']:8.1f}  {row['memory_mb']:9}",
        flush=True,
    )
