#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Initialise a cluster with PGP-encrypted shares, or compare the copies of its unseal bundle."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import arguments, initialise, root_token
from ansible.module_utils.egi_secrets.errors import BundleNotWrittenError, SecretsError

DOCUMENTATION = r"""
---
module: vault_cluster_init
short_description: Initialise a cluster with PGP-encrypted shares, and keep its unseal bundle in one piece
description:
  - Where no node is initialised and nobody has an unseal bundle, initialises the first node, every share and the first
    root token encrypted to the PGP key of an operator, and writes the bundle on the controller atomically before it
    returns.
  - Where the cluster is initialised, compares the copies of the bundle, writes that of the controller where it is
    missing or older and mends its mode.
  - Refuses whatever would lose or mix up keys, with the remedy.
  - Runs on the controller.
options:
  cluster_name: {description: "Name of the cluster, kept in the bundle.", type: str, required: true}
  root_token_operator:
    description: The one of O(operators) whom the first root token is encrypted to.
    type: str
    required: true
  node_bundles:
    description: The copies of the bundle on the nodes.
    type: list
    elements: dict
    default: []
    suboptions:
      node: {description: Name of the node., type: str, required: true}
      content: {description: Text of its copy. Empty where it has none., type: str, default: ""}
extends_documentation_fragment: [egi_secrets, egi_secrets.bundle_file, egi_secrets.operators]
"""

EXAMPLES = r"""
- name: Initialise the cluster, or compare the copies of its bundle
  vault_cluster_init:
    nodes: "{{ vault_nodes }}"
    ca_file: /etc/ssl/certs/ca-certificates.crt
    cluster_name: production
    operators: "{{ vault_cluster_operators }}"
    threshold: 2
    root_token_operator: alice
    bundle_file: /home/alice/egi-secrets/unseal-bundle.json
    node_bundles:
      - {node: vault-a, content: ""}
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
bundle:
  description:
    - The unseal bundle as JSON, for the nodes. Nothing in it is in clear. Empty in check mode before there is one.
    - Returned on failure too where it could not be written, since it is the only copy then.
  returned: always
  type: str
bundle_id: {description: SHA-256 over threshold and shares., returned: always, type: str}
root_token:
  description: Whom the first root token is encrypted to, and whether it is C(valid) or C(revoked), or C(none) yet.
  returned: always
  type: dict
  sample: {operator: alice, fingerprint: 3F8E…, state: valid, revoked_at: null}
messages: {description: What was done., returned: always, type: list, elements: str}
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **arguments.CONNECTION,
            **arguments.OPERATORS,
            **arguments.BUNDLE_FILE,
            "cluster_name": {"type": "str", "required": True},
            "root_token_operator": {"type": "str", "required": True, "no_log": False},  # a name
            "node_bundles": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "node": {"type": "str", "required": True},
                    "content": {"type": "str", "default": ""},
                },
            },
        },
        supports_check_mode=True,
    )
    params = module.params
    plan = initialise.Plan(
        params["cluster_name"], arguments.operators(params), params["threshold"], params["root_token_operator"]
    )
    try:
        outcome = initialise.run(
            arguments.connection(params),
            plan,
            params["bundle_file"],
            {each["node"]: each["content"] for each in params["node_bundles"]},
            check_mode=module.check_mode,
        )
    except BundleNotWrittenError as error:
        module.fail_json(msg=str(error), bundle=error.content)
    except SecretsError as error:
        module.fail_json(msg=str(error))
    for warning in outcome.warnings:
        module.warn(warning)
    bundle = outcome.bundle
    module.exit_json(
        changed=outcome.changed,
        bundle=bundle.render() if bundle else "",
        bundle_id=bundle.bundle_id if bundle else "",
        root_token=root_token.state(bundle) if bundle else {"state": "none"},
        messages=outcome.messages,
        diff=arguments.diff(outcome.before, outcome.after, params["bundle_file"]),
    )


if __name__ == "__main__":
    main()
