#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Have a cluster encrypt what it writes from now on with a new key."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import arguments
from ansible.module_utils.egi_secrets.errors import SecretsError
from ansible.module_utils.egi_secrets.operate import session
from ansible.module_utils.egi_secrets.products import PRODUCTS, product_named

DOCUMENTATION = r"""
---
module: vault_rotate_key
short_description: Have a cluster encrypt what it writes from now on with a new key
description:
  - Adds a key to the keyring that encrypts the data of the cluster. What is stored already stays readable with the keys
    before it. No share changes, and no node is sealed.
  - Changes something each time that it is run.
  - Runs on the controller.
options:
  product: {description: What the nodes run., type: str, default: openbao, choices: [openbao, vault]}
extends_documentation_fragment: [egi_secrets, egi_secrets.login]
"""

EXAMPLES = r"""
- name: Encrypt with a new key from now on
  vault_rotate_key:
    nodes: "{{ vault_nodes }}"
    ca_file: /etc/ssl/certs/ca-certificates.crt
    jwt: "{{ lookup('ansible.builtin.env', 'OIDC_ACCESS_TOKEN') }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
before: {description: "Term, time and number of encryptions of the key before.", returned: always, type: dict}
after: {description: The same of the key now., returned: always, type: dict}
automatic:
  description: Whether the server does so by itself (C(enabled)), after C(max_operations) or each C(interval).
  returned: always
  type: dict
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **arguments.CONNECTION,
            **session.LOGIN,
            "product": {"type": "str", "default": "openbao", "choices": list(PRODUCTS)},
        },
        supports_check_mode=True,
    )
    try:
        result = rotate(module.params, check_mode=module.check_mode)
    except SecretsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, diff=arguments.diff(result["before"], result["after"], "encryption key"), **result)


def rotate(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Run once, and return what the module returns."""
    paths = product_named(params["product"]).api
    node, _ = session.leader_of(arguments.connection(params))
    with session.as_operator(params, node) as server:

        def key() -> dict[str, Any]:
            told = server.read("sys/key-status") or {}
            return {name: told.get(name) for name in ("term", "install_time", "encryptions")}

        before = key()
        if not check_mode:
            server.write(paths["rotate"], {})
        after = {**before, "term": int(before["term"] or 0) + 1} if check_mode else key()
        told = server.read(paths["rotate_config"]) or {}
        automatic = {name: told.get(name) for name in ("enabled", "max_operations", "interval")}
    return {"before": before, "after": after, "automatic": automatic}


if __name__ == "__main__":
    main()
