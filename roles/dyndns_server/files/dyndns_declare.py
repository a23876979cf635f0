"""Bring domains, hosts and host secrets to what is declared, and print what was done and found, as JSON.

The declaration comes on standard input, since it holds secrets. With the argument --check nothing is changed.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import django

django.setup()

from django.contrib.auth.hashers import check_password  # noqa: E402 - needs django.setup()
from django.contrib.auth.models import User  # noqa: E402
from django.db import transaction  # noqa: E402
from nsupdate.main.models import Domain, Host  # noqa: E402

ALGORITHM = "HMAC_SHA512"
FLAGS = {"available": True, "abuse": False, "abuse_blocked": False}


class UndoneError(Exception):
    """Undoes what was done."""


def set_fields(thing: Any, fields: dict[str, Any]) -> bool:  # noqa: ANN401
    """Set fields that differ, and return whether any did."""
    differing = {name: value for name, value in fields.items() if getattr(thing, name) != value}
    for name, value in differing.items():
        setattr(thing, name, value)
    if differing or thing.pk is None:
        thing.save()
    return bool(differing)


def declare(given: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return what was changed, and what a person should know."""
    changed: list[str] = []
    notes: list[str] = []
    owner, made = User.objects.get_or_create(username="inventory")
    if made:
        owner.set_unusable_password()
        owner.save()
    for each in given["domains"]:
        domain = Domain.objects.filter(name=each["name"]).first()
        fields = {
            "nameserver_ip": each["primary"],
            "nameserver2_ip": each.get("secondary") or None,
            "nameserver_update_secret": given["update_keys"][each["name"]],
            "nameserver_update_algorithm": ALGORITHM,
            "public": False,
        }
        if domain is None:
            # The service itself sets it to not available for two minutes when it could not update the primary.
            domain = Domain(name=each["name"], created_by=owner, available=True)
            changed.append(f"domain {each['name']}")
            set_fields(domain, fields)
        elif set_fields(domain, fields):
            changed.append(f"settings of domain {each['name']}")
        for name in each["hosts"]:
            label = name.removesuffix("." + each["name"])
            host = Host.objects.filter(name=label, domain=domain).first()
            if host is None:
                host = Host(name=label, domain=domain, created_by=owner)
                host.generate_secret(given["secrets"][name])
                changed.append(f"host {name}")
            elif not check_password(given["secrets"][name], host.update_secret):
                host.generate_secret(given["secrets"][name])
                changed.append(f"secret of {name}")
            flagged = [flag for flag, wanted in FLAGS.items() if getattr(host, flag) != wanted]
            if flagged and given["clear_flags"]:
                set_fields(host, FLAGS)
                changed.append(f"flags of {name}")
            elif flagged:
                notes.append(
                    f"{name} is blocked ({', '.join(flagged)}; {host.client_result_msg}): see why, and run this with "
                    "dyndns_server_clear_flags=true."
                )
    declared = {name for each in given["domains"] for name in each["hosts"]}
    strangers = sorted(str(host.get_fqdn()) for host in Host.objects.all() if str(host.get_fqdn()) not in declared)
    if strangers:
        notes.append(f"Hosts that the inventory does not declare, left alone: {', '.join(strangers)}.")
    return changed, notes


def main() -> None:
    """Read the declaration, and print what came of it."""
    given = json.load(sys.stdin)
    changed: list[str] = []
    notes: list[str] = []
    try:
        with transaction.atomic():
            changed, notes = declare(given)
            if "--check" in sys.argv:
                raise UndoneError
    except UndoneError:
        pass
    print(json.dumps({"changed": changed, "notes": notes}))


if __name__ == "__main__":
    main()
