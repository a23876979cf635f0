#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Have a node that leads hand leadership over."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import arguments
from ansible.module_utils.egi_secrets.errors import SecretsError
from ansible.module_utils.egi_secrets.operate import leadership, session

DOCUMENTATION = r"""
---
module: vault_step_down
short_description: Have a node that leads hand leadership over
description:
  - Where the node leads the cluster, asks it to step down and waits until another one is seen to lead. It is asked again
    where it wins the election. Where another node leads, nothing is done.
  - Runs on the controller.
options:
  node: {description: "The node that is not to lead, by its name in O(nodes).", type: str, required: true}
extends_documentation_fragment: [egi_secrets, egi_secrets.login]
"""

EXAMPLES = r"""
- name: Have another node lead
  vault_step_down:
    nodes: "{{ vault_nodes }}"
    ca_file: /etc/ssl/certs/ca-certificates.crt
    jwt: "{{ lookup('ansible.builtin.env', 'OIDC_ACCESS_TOKEN') }}"
    node: vault-ifca
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
leader: {description: The node that leads now., returned: always, type: str}
attempts: {description: How often the node was asked., returned: always, type: int}
seconds: {description: From the first request until another node was seen to lead., returned: always, type: float}
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={**arguments.CONNECTION, **session.LOGIN, "node": {"type": "str", "required": True}},
        supports_check_mode=True,
    )
    try:
        result = step_down(module.params, check_mode=module.check_mode)
    except SecretsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def step_down(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Run once, and return what the module returns."""
    apis = arguments.connection(params)
    node, _ = session.leader_of(apis)
    if node.name != params["node"] or check_mode:
        return {"changed": node.name == params["node"], "leader": node.name, "attempts": 0, "seconds": 0.0}
    with session.as_operator(params, node) as server:
        done = leadership.hand_over(server, apis, params["node"])
    return {"changed": done.attempts > 0, **asdict(done)}


if __name__ == "__main__":
    main()
