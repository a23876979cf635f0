#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Revoke the first root token of a cluster and prove that it is gone."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import arguments, root_token
from ansible.module_utils.egi_secrets.errors import SecretsError

DOCUMENTATION = r"""
---
module: vault_cluster_revoke_root
short_description: Revoke the first root token and prove that it is gone
description:
  - Decrypts the first root token with GnuPG, in memory, makes sure that it is a root token, revokes it, makes sure
    that the server knows it no more, and marks it as revoked in the bundle.
  - Needs the keyring of the operator whom the token is encrypted to. Does nothing where the bundle says that it is
    revoked.
  - Runs on the controller.
options:
  nodes:
    description: The members of the cluster, in the order in which they are initialised and joined.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Inventory name., type: str, required: true}
      url:
        description: Address of the API, C(https://<fqdn>:<port>). Its certificate must carry that name.
        type: str
        required: true
      connect_address:
        description: IP address to connect to while TLS is verified against the name in O(nodes[].url). Empty resolves
          the name.
        type: str
        default: ""
  ca_file:
    description: PEM file, on the controller, of the authority that signed the certificates of the nodes.
    type: path
    required: true
  timeout:
    description: Seconds to connect, and seconds to wait for each answer.
    type: float
    default: 5.0
  bundle_file:
    description: The copy on the controller of the unseal bundle, which holds PGP ciphertext only.
    type: path
    required: true
  gnupg_homes:
    description:
      - GnuPG homes with the secret keys at hand. An empty string is the operator's own, with its agent and smart cards.
      - A passphrase or PIN is asked for by the agent's pinentry. In a terminal it needs C(export GPG_TTY=$(tty)).
    type: list
    elements: str
    default: [""]
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
author: EGI Cloud secret management
"""

EXAMPLES = r"""
- name: Revoke the first root token
  vault_cluster_revoke_root:
    nodes: "{{ vault_nodes }}"
    ca_file: /etc/ssl/certs/ca-certificates.crt
    bundle_file: /home/alice/egi-secrets/unseal-bundle.json
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
bundle: {description: "The unseal bundle as JSON, for the nodes.", returned: always, type: str}
bundle_id: {description: SHA-256 over threshold and shares., returned: always, type: str}
root_token:
  description: Whom the first root token is encrypted to, and whether it is C(valid) or C(revoked).
  returned: always
  type: dict
  sample: {operator: alice, fingerprint: 3F8E…, state: revoked, revoked_at: "2026-11-22T23:37:44Z"}
messages: {description: What was done., returned: always, type: list, elements: str}
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={**arguments.CONNECTION, **arguments.BUNDLE_FILE, **arguments.GNUPG_HOMES},
        supports_check_mode=True,
    )
    params = module.params
    try:
        outcome = root_token.revoke(
            arguments.connection(params), params["bundle_file"], params["gnupg_homes"], check_mode=module.check_mode
        )
    except SecretsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=outcome.changed,
        bundle=outcome.bundle.render(),
        bundle_id=outcome.bundle.bundle_id,
        root_token=root_token.state(outcome.bundle),
        messages=outcome.messages,
        diff=arguments.diff(
            {"root_token": "valid" if outcome.changed else "revoked"}, {"root_token": "revoked"}, params["bundle_file"]
        ),
    )


if __name__ == "__main__":
    main()
