#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Check nodes, clocks, threshold and the PGP keys of the operators before a key ceremony."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import arguments, preflight
from ansible.module_utils.egi_secrets.errors import SecretsError

DOCUMENTATION = r"""
---
module: vault_cluster_preflight
short_description: Check nodes, clocks, threshold and PGP keys before a key ceremony
description:
  - Looks at everything that could make an initialisation fail or be regretted, and tells all of it at once.
  - Once the cluster is initialised, a member that is down, clocks that are apart and keys that are broken or expire
    soon are warnings, so that the other members can still be unsealed.
  - Changes nothing. Runs on the controller.
options:
  key_min_days: {description: Days that the key of an operator must stay valid., type: float, default: 90.0}
  max_clock_offset: {description: Seconds that the clocks of two members may be apart., type: float, default: 1.0}
extends_documentation_fragment: [egi_secrets, egi_secrets.operators]
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
"""

EXAMPLES = r"""
- name: Check nodes, clocks, threshold and the PGP keys of the operators
  vault_cluster_preflight:
    nodes:
      - {name: vault-a, url: "https://vault-a.example.org:8200"}
      - {name: vault-b, url: "https://vault-b.example.org:8200", connect_address: 192.0.2.12}
    ca_file: /etc/ssl/certs/ca-certificates.crt
    operators:
      - {name: alice, pgp_key_file: files/pgp/alice.asc}
      - {name: bob, pgp_key_file: files/pgp/bob.asc}
      - {name: carol, pgp_key_file: files/pgp/carol.asc}
    threshold: 2
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
initialized: {description: Whether any node is initialised., returned: always, type: bool}
nodes:
  description: What each node says. Its role is active, standby, sealed, uninitialised or unreachable.
  returned: always
  type: list
  elements: dict
  sample: [{name: vault-a, role: active, initialized: true, sealed: false, cluster_id: 16d4…, version: 2.7.2, problem:
  ""}]
fingerprints: {description: Operator and fingerprint of the primary key., returned: always, type: dict}
failures: {description: What must be mended first., returned: on failure, type: list, elements: str}
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **arguments.CONNECTION,
            **arguments.OPERATORS,
            "key_min_days": {"type": "float", "default": 90.0},
            "max_clock_offset": {"type": "float", "default": 1.0},
        },
        supports_check_mode=True,
    )
    try:
        report = preflight.run(
            arguments.connection(module.params),
            arguments.operators(module.params),
            module.params["threshold"],
            key_min_days=module.params["key_min_days"],
            max_clock_offset=module.params["max_clock_offset"],
        )
    except SecretsError as error:
        module.fail_json(msg=str(error), failures=[str(error)])
    for warning in report.warnings:
        module.warn(warning)
    result = {
        "initialized": report.initialized,
        "nodes": [state.result() for state in report.states],
        "fingerprints": {name: key.fingerprint for name, key in report.keys.items()},
    }
    if report.failures:
        module.fail_json(msg="\n".join(report.failures), failures=report.failures, **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
