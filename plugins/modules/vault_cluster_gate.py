#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Wait until the cluster stands well enough for the next node to be restarted."""

from __future__ import annotations

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import arguments
from ansible.module_utils.egi_secrets.errors import SecretsError
from ansible.module_utils.egi_secrets.operate import gate, session

DOCUMENTATION = r"""
---
module: vault_cluster_gate
short_description: Wait until the cluster stands well enough for the next node to be restarted
description:
  - Every member answers and is unsealed, autopilot calls each a healthy voter that has caught up, Raft has no other member,
    the cluster survives the loss of O(tolerance), and nodes that had their turn run what they should.
  - Fails with all that is amiss when it is not so in time. Changes nothing, and does the same in check mode.
  - Runs on the controller.
options:
  versions: {description: Node → version that it must run by now., type: dict, default: {}}
  patience: {description: Seconds to wait at most., type: float, default: 60}
  tolerance: {description: Members that the cluster must be able to lose., type: int, default: 1}
extends_documentation_fragment: [egi_secrets, egi_secrets.login]
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
"""

EXAMPLES = r"""
- name: Wait until the node is a healthy voter again
  vault_cluster_gate:
    nodes: "{{ vault_nodes }}"
    ca_file: /etc/ssl/certs/ca-certificates.crt
    jwt: "{{ lookup('ansible.builtin.env', 'OIDC_ACCESS_TOKEN') }}"
    versions: {vault-infn: 2.7.2}
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
leader: {description: The node that leads., returned: success, type: str}
waited: {description: Seconds that were waited., returned: always, type: float}
problems: {description: "What is amiss, a sentence each.", returned: on failure, type: list, elements: str}
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **arguments.CONNECTION,
            **session.LOGIN,
            "versions": {"type": "dict", "default": {}},
            "patience": {"type": "float", "default": 60.0},
            "tolerance": {"type": "int", "default": 1},
        },
        supports_check_mode=True,
    )
    given: dict[str, Any] = module.params
    began = time.monotonic()
    try:
        apis = arguments.connection(given)
        passed = gate.await_well(given, apis, given["versions"], given["patience"], tolerance=given["tolerance"])
    except SecretsError as error:
        module.fail_json(msg=str(error), problems=[str(error)])
    waited = round(time.monotonic() - began, 2)
    if passed.problems:
        module.fail_json(
            msg=f"The cluster is not as it must be for the next step, after {waited:g} s: {' '.join(passed.problems)}",
            problems=passed.problems,
            waited=waited,
        )
    module.exit_json(changed=False, leader=passed.leader, waited=waited)


if __name__ == "__main__":
    main()
