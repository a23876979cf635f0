#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Say which changes bring Raft's members to those of the inventory, and remove a peer when that is what comes next."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import arguments
from ansible.module_utils.egi_secrets.errors import SecretsError
from ansible.module_utils.egi_secrets.operate import membership, replacing, session

DOCUMENTATION = r"""
---
module: vault_membership
short_description: Say which changes bring Raft's members to those of the inventory, and remove a peer when that comes next
description:
  - Compares Raft's configuration and autopilot's verdicts with the members that the inventory names, and tells one change
    after the other, or fails with what is in the way.
  - With O(act), removes that peer, if its removal is what comes next; it hands leadership over first.
  - Runs on the controller.
options:
  hosts:
    description: The members that the inventory names, by their names in O(nodes).
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Raft node id., type: str, required: true}
      remembers: {description: Whether its disk holds a log of Raft; null where it cannot be reached., type: bool}
  remove: {description: Raft node ids whose removal the operator consents to., type: list, elements: str, default: []}
  wipe: {description: "Whether the disks of these may be emptied, where they are no members.", type: bool, default: false}
  known:
    description: Names and Raft node ids of the inventory's members, and of hosts that it has for those that leave.
    type: list
    elements: str
    default: []
  act: {description: "The peer to remove. Empty only tells.", type: str, default: ""}
  patience: {description: Seconds to wait at most for what passes by itself., type: float, default: 60}
extends_documentation_fragment: [egi_secrets, egi_secrets.login]
"""

EXAMPLES = r"""
- name: See what is to be done
  vault_membership:
    nodes: "{{ vault_nodes }}"
    ca_file: /etc/ssl/certs/ca-certificates.crt
    jwt: "{{ lookup('ansible.builtin.env', 'OIDC_ACCESS_TOKEN') }}"
    hosts: [{name: vault-iisas, remembers: true}, {name: vault-infn, remembers: true}, {name: vault-ifca, remembers: false}]
    remove: [vault-ifca]
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
plan: {description: "All changes, a line each.", returned: always, type: list, elements: str}
next: {description: "C(kind) (empty, step down, remove, add, done) and C(name) of the first.", returned: always, type: dict}
removals: {description: Peers that are going to be removed., returned: always, type: list, elements: str}
changes: {description: "Of each change, whom it is about.", returned: always, type: list, elements: str}
notes: {description: "What of O(remove) is not done, a sentence each.", returned: always, type: list, elements: str}
peers: {description: Raft node ids of all members of Raft., returned: always, type: list, elements: str}
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **arguments.CONNECTION,
            **session.LOGIN,
            "hosts": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"name": {"type": "str", "required": True}, "remembers": {"type": "bool"}},
            },
            "remove": {"type": "list", "elements": "str", "default": []},
            "wipe": {"type": "bool", "default": False},
            "known": {"type": "list", "elements": "str", "default": []},
            "act": {"type": "str", "default": ""},
            "patience": {"type": "float", "default": 60.0},
        },
        supports_check_mode=True,
    )
    try:
        result = change(module.params, check_mode=module.check_mode)
    except SecretsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def change(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Run once, and return what the module returns."""
    wish = membership.Wish(tuple(params["remove"]), params["wipe"], frozenset(params["known"]))
    question = replacing.Question(params, arguments.connection(params), params["hosts"], wish)
    if params["act"] and not check_mode:
        replacing.remove(question, params["act"])
    outlook = replacing.look_ahead(question, 0.0 if params["act"] else params["patience"])
    last = outlook.steps[-1]
    result = {
        "changed": bool(params["act"]),
        "plan": membership.told(outlook.steps),
        "next": asdict(outlook.steps[0]),
        "removals": [step.name for step in outlook.steps if step.kind is membership.Kind.REMOVE],
        "changes": [step.name for step in outlook.steps if step.kind in membership.CHANGES],
        "notes": list(outlook.notes),
        "peers": list(outlook.peers),
    }
    if last.kind is not membership.Kind.DONE and not params["act"]:
        return {"failed": True, "msg": " ".join([last.why, *outlook.notes]), **result}
    return result


if __name__ == "__main__":
    main()
