#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Deal the unseal keys of a cluster anew, a step at a time."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import arguments, root_token
from ansible.module_utils.egi_secrets.errors import SecretsError
from ansible.module_utils.egi_secrets.operate import rekey, session
from ansible.module_utils.egi_secrets.products import PRODUCTS, product_named

DOCUMENTATION = r"""
---
module: vault_cluster_rekey
short_description: Deal the unseal keys of a cluster anew, a step at a time
description:
  - Where O(operators), their keys or O(threshold) are not those of the unseal bundle, has the server deal new shares,
    encrypted to the operators, verifies them, and takes them up. The old ones are in force until then.
  - Gives the shares that the keyrings at hand can decrypt, and only to the attempt that a run of this module began. Any
    other is cancelled and told. Too few shares is a good end. V(messages) tells how many are missing and whose.
  - After each step the bundle that it returns belongs on every node, before the next one is gone. Where a step is not
    what comes next, it does nothing.
  - Runs on the controller.
options:
  step:
    description:
      - V(begin) begins an attempt, or finds out how far one has come. V(give) gives old shares to it. V(verify) gives new
        shares, all but the one that puts them in force. V(close) gives that one.
    type: str
    required: true
    choices: [begin, give, verify, close]
  product: {description: What the nodes run., type: str, default: openbao, choices: [openbao, vault]}
  key_min_days: {description: Days that the key of an operator must stay valid., type: float, default: 90.0}
  anew: {description: Deal new shares even where the bundle has what is wanted., type: bool, default: false}
extends_documentation_fragment:
  - egi_secrets
  - egi_secrets.gnupg_homes
  - egi_secrets.bundle_file
  - egi_secrets.operators
  - egi_secrets.login
"""

EXAMPLES = r"""
- name: Begin to deal the keys anew
  vault_cluster_rekey:
    nodes: "{{ vault_nodes }}"
    ca_file: /etc/ssl/certs/ca-certificates.crt
    jwt: "{{ lookup('ansible.builtin.env', 'OIDC_ACCESS_TOKEN') }}"
    operators: "{{ vault_cluster_operators }}"
    threshold: 3
    bundle_file: /home/alice/egi-secrets/unseal-bundle.json
    step: begin
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
bundle: {description: "The unseal bundle as JSON, for the nodes.", returned: always, type: str}
bundle_id: {description: SHA-256 over threshold and shares., returned: always, type: str}
retired:
  description:
    - The bundle that was replaced, as JSON, to be kept on the nodes before V(bundle), which is without its shares.
    - V(begin) returns the one that was replaced last, where that run was cut off. Empty where none was.
  returned: always
  type: str
root_token: {description: As M(vault_cluster_init) has it., returned: always, type: dict}
messages: {description: "What is missing, from whom, and what was noticed.", returned: always, type: list, elements: str}
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **arguments.CONNECTION,
            **arguments.BUNDLE_FILE,
            **arguments.GNUPG_HOMES,
            **arguments.OPERATORS,
            **session.LOGIN,
            "step": {"type": "str", "required": True, "choices": ["begin", "give", "verify", "close"]},
            "product": {"type": "str", "default": "openbao", "choices": list(PRODUCTS)},
            "key_min_days": {"type": "float", "default": 90.0, "no_log": False},
            "anew": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    request = rekey.Request(
        arguments.operators(params),
        params["threshold"],
        params["key_min_days"],
        params["bundle_file"],
        params["gnupg_homes"],
        params["anew"],
    )
    try:
        outcome = rekey.run(
            params,
            product_named(params["product"]),
            arguments.connection(params),
            request,
            params["step"],
            check_mode=module.check_mode,
        )
    except SecretsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=outcome.changed,
        bundle=outcome.bundle.render(),
        bundle_id=outcome.bundle.bundle_id,
        retired=outcome.retired.render() if outcome.retired else "",
        root_token=root_token.state(outcome.bundle),
        messages=outcome.messages,
        diff=arguments.diff(outcome.before.summary(), outcome.bundle.summary(), params["bundle_file"]),
    )


if __name__ == "__main__":
    main()
