#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Give each host of a service what it logs in to the cluster with."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import arguments
from ansible.module_utils.egi_secrets.errors import NoLeaderError, SecretsError
from ansible.module_utils.egi_secrets.operate import service_identity, session

DOCUMENTATION = r"""
---
module: vault_service_identity
short_description: Give each host of a service what it logs in to the cluster with
description:
  - Makes a secret id of the service's AppRole for each host that holds none, or one that the cluster does not know any
    more. Takes back those that no host holds.
  - Returns the new ones for the hosts to store. What a host has stored is not needed here, its accessor is enough.
  - Runs on the controller.
options:
  service: {description: Name of the AppRole., type: str, required: true}
  held:
    description: Of each host the accessor of the secret id that it holds. Empty where it has none.
    type: dict
    required: true
  complete:
    description: Whether O(held) names all hosts of the service. Otherwise nothing is taken back.
    type: bool
    default: false
extends_documentation_fragment: [egi_secrets, egi_secrets.login]
"""

EXAMPLES = r"""
- name: Give each checker an identity
  vault_service_identity:
    nodes: "{{ vault_nodes }}"
    ca_file: /etc/ssl/certs/ca-certificates.crt
    jwt: "{{ lookup('ansible.builtin.env', 'OIDC_ACCESS_TOKEN') }}"
    login_role: configurator
    service: checker
    held: {vault-iisas: "", vault-infn: 84896a0c-1347-aa90-a4f6-aca8b7558780}
  delegate_to: localhost
  run_once: true
  no_log: true
"""

RETURN = r"""
role_id: {description: Id of the AppRole. Empty where O(ignore:not_yet) says why., returned: always, type: str}
issued:
  description: Of each host that lacked one, C(secret_id) and C(accessor).
  returned: always
  type: dict
missing: {description: Hosts that lacked one., returned: always, type: list, elements: str}
revoked: {description: Accessors of those that were taken back., returned: always, type: list, elements: str}
not_yet: {description: Why nothing can be done yet. Empty where it could., returned: always, type: str}
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **arguments.CONNECTION,
            **session.LOGIN,
            "service": {"type": "str", "required": True},
            "held": {"type": "dict", "required": True},
            "complete": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        result = bring(module.params, check_mode=module.check_mode)
    except NoLeaderError as error:
        result = {"changed": False, "role_id": "", "issued": {}, "missing": [], "revoked": [], "not_yet": str(error)}
    except SecretsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def bring(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Run once, and return what the module returns."""
    node, _ = session.leader_of(arguments.connection(params))
    held = {host: str(accessor or "") for host, accessor in params["held"].items()}
    with session.as_operator(params, node) as server:
        done = service_identity.bring(server, params["service"], held, complete=params["complete"], check_mode=check_mode)
    return {
        "changed": bool(done.missing or done.revoked),
        "role_id": done.role_id,
        "issued": {
            host: {"secret_id": each.secret_id.reveal(), "accessor": each.accessor} for host, each in done.issued.items()
        },
        "missing": list(done.missing),
        "revoked": list(done.revoked),
        "not_yet": "",
    }


if __name__ == "__main__":
    main()
