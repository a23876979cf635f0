#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Submit the shares that the operator at the keyboard can decrypt to the nodes that are sealed."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import arguments, unseal
from ansible.module_utils.egi_secrets.errors import SecretsError

DOCUMENTATION = r"""
---
module: vault_cluster_unseal
short_description: Submit the shares at hand to sealed nodes, and say what is still missing
description:
  - Decrypts with GnuPG, in memory and only when a node needs it, the shares whose secret key is at hand, and sends
    them to every node that is sealed. Nodes that have not joined the cluster yet join once another one is active, and
    are unsealed then.
  - Too few shares is a good end. V(messages) tells how many are missing, for which node, and who can supply them. The
    next operator's run goes on from there.
  - An attempt that holds a share which is not of this cluster, which anyone who reaches a sealed node can send, is
    started afresh.
  - Runs on the controller.
options:
  join_timeout: {description: Seconds to wait for a node to join., type: float, default: 60.0}
  unseal_timeout: {description: Seconds to wait for a node that has all its shares., type: float, default: 30.0}
  leader_timeout:
    description: Seconds to wait for an active node where a majority is unsealed.
    type: float
    default: 30.0
extends_documentation_fragment: [egi_secrets, egi_secrets.gnupg_homes, egi_secrets.bundle_file, egi_secrets.bundle]
"""

EXAMPLES = r"""
- name: Submit the shares that this keyboard can decrypt
  vault_cluster_unseal:
    nodes: "{{ vault_nodes }}"
    ca_file: /etc/ssl/certs/ca-certificates.crt
    bundle_file: /home/alice/egi-secrets/unseal-bundle.json
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
nodes:
  description: How each node ended.
  returned: always
  type: list
  elements: dict
  sample: [{name: vault-a, role: active, initialized: true, sealed: false, progress: 0, threshold: 2, missing: 0}]
active: {description: Name of the active node. Empty where there is none., returned: always, type: str}
messages:
  description: What is missing, from whom, and what was noticed.
  returned: always
  type: list
  elements: str
failures: {description: What went wrong., returned: on failure, type: list, elements: str}
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **arguments.CONNECTION,
            **arguments.BUNDLE,
            **arguments.GNUPG_HOMES,
            "join_timeout": {"type": "float", "default": 60.0},
            "unseal_timeout": {"type": "float", "default": 30.0},
            "leader_timeout": {"type": "float", "default": 30.0},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        outcome = unseal.run(
            arguments.connection(params),
            arguments.bundle(params, check_mode=module.check_mode),
            params["gnupg_homes"],
            waits=unseal.Waits(params["join_timeout"], params["unseal_timeout"], params["leader_timeout"]),
            check_mode=module.check_mode,
        )
    except SecretsError as error:
        module.fail_json(msg=str(error), failures=[str(error)])
    result = {
        "changed": outcome.changed,
        "nodes": [node.result() for node in outcome.nodes],
        "active": outcome.active,
        "messages": outcome.messages,
        "diff": arguments.diff(
            {node.before.name: node.before.brief() for node in outcome.nodes},
            {node.state.name: node.state.brief() for node in outcome.nodes},
            "seal state",
        ),
    }
    if outcome.failures:
        module.fail_json(msg="\n".join([*outcome.failures, *outcome.messages]), failures=outcome.failures, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
