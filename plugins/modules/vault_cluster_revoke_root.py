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
extends_documentation_fragment: [egi_secrets, egi_secrets.gnupg_homes, egi_secrets.bundle_file, egi_secrets.bundle]
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
        argument_spec={**arguments.CONNECTION, **arguments.BUNDLE, **arguments.GNUPG_HOMES},
        supports_check_mode=True,
    )
    params = module.params
    try:
        outcome = root_token.revoke(
            arguments.connection(params),
            arguments.bundle(params, check_mode=module.check_mode),
            params["bundle_file"],
            params["gnupg_homes"],
            check_mode=module.check_mode,
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
