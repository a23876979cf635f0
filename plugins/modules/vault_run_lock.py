#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Take, renew or give back the lock that a run holds while it changes the service."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import arguments
from ansible.module_utils.egi_secrets.errors import LockedError, SecretsError
from ansible.module_utils.egi_secrets.operate import controller, lock, session
from ansible.module_utils.egi_secrets.raft import ELECTION
from ansible.module_utils.egi_secrets.reconcile.server import Server

DOCUMENTATION = r"""
---
module: vault_run_lock
short_description: Take, renew or give back the lock that a run holds while it changes the service
description:
  - The lock is a lease in the cluster, so that of two operators at once the second is told who holds it and since when. A
    run is known by the process of its C(ansible-playbook), so the same run has it again and again.
  - A lock that ran out, or whose process on this controller is gone, is taken over, with a word about it.
  - In check mode nothing is written, and another's lock is an error all the same.
  - Runs on the controller.
options:
  state:
    description: Whether this run is to have the lock, or who has it is only to be told. What is held is renewed. Giving back
      never fails.
    type: str
    choices: [held, released, told]
    default: held
  lease: {description: "Seconds after which it runs out, unless it is renewed.", type: int, default: 600}
  kept:
    description: The C(version) that this run was given last and has kept since, to have it told when another has had the
      lock meanwhile. 0 takes it anew.
    type: int
    default: 0
  required:
    description: Whether it is an error that nobody can take the lock, for lack of a login or of an active node. Another's
      lock is an error in any case.
    type: bool
    default: true
  take_over:
    description: Label of another run's lock, as the error tells it, that is to be taken since that run is known to be dead.
    type: str
    default: ""
  people: {description: "Operators' names, by the subject that they log in with.", type: dict, default: {}}
extends_documentation_fragment: [egi_secrets, egi_secrets.login]
"""

EXAMPLES = r"""
- name: Take the lock
  vault_run_lock:
    nodes: "{{ vault_nodes }}"
    ca_file: /etc/ssl/certs/ca-certificates.crt
    jwt: "{{ lookup('ansible.builtin.env', 'OIDC_ACCESS_TOKEN') }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
held: {description: "Whether this run has the lock now, or may have it after a failure.", returned: always, type: bool}
version: {description: "What to give as O(kept) next time; 0 without the lock.", returned: always, type: int}
until: {description: "When it runs out, s since the epoch by the cluster's clock, or 0.", returned: always, type: int}
asked: {description: "When it was asked for, s since the epoch by the controller's clock.", returned: always, type: float}
messages: {description: "What the operator should know, a sentence each.", returned: always, type: list, elements: str}
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **arguments.CONNECTION,
            **session.LOGIN,
            "state": {"type": "str", "choices": ["held", "released", "told"], "default": "held"},
            "lease": {"type": "int", "default": 600},
            "kept": {"type": "int", "default": 0},
            "required": {"type": "bool", "default": True},
            "take_over": {"type": "str", "default": ""},
            "people": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    params, asked = module.params, time.time()
    try:
        if params["state"] == "told":
            outcome = tell(params)
        else:
            outcome = (give_back if params["state"] == "released" else take)(params, module.check_mode)
    except SecretsError as error:
        # A run that had the lock may have it still: it is to try to give it back.
        kept = params["kept"]
        module.fail_json(msg=str(error), held=kept > 0, version=kept, until=0, asked=asked, messages=[])
    module.exit_json(
        changed=outcome.before != outcome.after,
        held=outcome.held,
        version=outcome.version,
        until=outcome.until,
        asked=asked,
        messages=list(outcome.messages),
        diff=arguments.diff(told(outcome.before), told(outcome.after), "lock"),
    )


def take(params: dict[str, Any], check_mode: bool) -> lock.Outcome:
    """Take the lock, or renew it."""
    try:
        return _take(params, check_mode)
    except LockedError:
        raise
    except SecretsError as error:
        if params["kept"]:
            raise LockedError(
                f"The lock against a second operator cannot be renewed, so this run stops before its next change: {error} "
                "Run it again: it finishes what it has begun."
            ) from None
        if params["required"]:
            raise LockedError(
                f"The lock against a second operator cannot be had, so nothing is changed: {error} Where the server says "
                "that permission is denied: a VAULT_TOKEN that has ended goes before OIDC_ACCESS_TOKEN (unset VAULT_TOKEN); "
                "otherwise playbooks/deploy/config.yml brings the operators' policy that allows it."
            ) from None
        return lock.Outcome(
            held=False, version=0, messages=(f"Nobody is kept from changing the service at the same time: {error}",)
        )


def _take(params: dict[str, Any], check_mode: bool) -> lock.Outcome:
    # A run that has the lock may ask in the middle of an election; one that has not is told at once.
    node, now = session.leader_of(arguments.connection(params), ELECTION if params["kept"] else 0.0)
    with session.as_operator(params, node) as server:
        return lock.take(
            server,
            this_run(params, server),
            now,
            lease=params["lease"],
            kept=params["kept"],
            take_over=params["take_over"],
            ended=lambda process: controller.ended(process, controller.this_boot()),
            check_mode=check_mode,
        )


def tell(params: dict[str, Any]) -> lock.Outcome:
    """Say who has the lock."""
    node, now = session.leader_of(arguments.connection(params), patience=0.0)
    with session.as_operator(params, node) as server:
        lease = lock.look(server).lease
    return lock.Outcome(held=False, version=0, before=lease, after=lease, messages=(lock.holder(lease, now),))


def give_back(params: dict[str, Any], check_mode: bool) -> lock.Outcome:
    """Give the lock back; where that cannot be, it runs out."""
    try:
        node, _ = session.leader_of(arguments.connection(params), patience=0.0)
        with session.as_operator(params, node) as server:
            return lock.give_back(server, this_run(params, server), check_mode=check_mode)
    except SecretsError as error:
        return lock.Outcome(
            held=False,
            version=0,
            messages=(f"The lock could not be given back and runs out by itself after {params['lease']} s: {error}",),
        )


def this_run(params: dict[str, Any], server: Server) -> lock.Run:
    """Return the run that this module works for."""
    login = str((server.read("auth/token/lookup-self") or {}).get("display_name") or "somebody")
    process, playbook = controller.current()
    known = str(params["people"].get(login.removeprefix(f"{params['login_path']}-")) or login)
    return lock.Run(known, playbook, process)


def told(lease: lock.Lease | None) -> dict[str, Any] | None:
    """Return a lease as a diff shows it."""
    return asdict(lease) if lease else None


if __name__ == "__main__":
    main()
