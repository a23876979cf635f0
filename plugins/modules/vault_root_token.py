#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Exchange the root token that shares made for one that ends by itself, or end it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import arguments, bundle
from ansible.module_utils.egi_secrets.errors import CeremonyError, SecretsError
from ansible.module_utils.egi_secrets.operate import root_grant, root_record, root_shares

DOCUMENTATION = r"""
---
module: vault_root_token
short_description: Exchange the root token that shares made for one that ends by itself, or end it
description:
  - C(present) decrypts with GnuPG, in memory, the root token that the server made, makes with it a token of the same power
    with a time to live, writes that to O(token_file) encrypted to its operator, and revokes the first and what killed runs
    left over. It proves that the server knows the first no more.
  - C(absent) revokes the token that was handed over and proves that it is gone. It leaves O(token_file) to be removed once
    no node remembers the token.
  - Runs on the controller.
options:
  state: {description: What there should be., type: str, choices: [present, absent], default: present}
  records: {description: "What the nodes remember, as JSON.", type: list, elements: str, required: true}
  token_file: {description: "Where the encrypted token is, on the controller.", type: path, required: true}
  operators:
    description: The share-holders. Needed for C(present).
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Name of the operator., type: str, required: true}
      pgp_key_file: {description: "File, on the controller, with that one public PGP key.", type: path, required: true}
      shares: {description: Number of shares that this operator holds., type: int, default: 1}
  ttl: {description: Seconds for which the token is valid., type: int, default: 1800}
extends_documentation_fragment: [egi_secrets, egi_secrets.gnupg_homes, egi_secrets.bundle_file]
"""

EXAMPLES = r"""
- name: Hand the token over
  vault_root_token:
    nodes: "{{ vault_nodes }}"
    ca_file: /etc/ssl/certs/ca-certificates.crt
    bundle_file: /home/alice/egi-secrets/unseal-bundle.json
    token_file: /home/alice/egi-secrets/root-token.asc
    records: ["{{ vault_root_attempt.record }}"]
    operators: "{{ vault_cluster_operators }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
record: {description: "What the nodes are to remember, as JSON. Empty: nothing.", returned: always, type: str}
messages: {description: What was done., returned: always, type: list, elements: str}
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **arguments.CONNECTION,
            **arguments.BUNDLE_FILE,
            **arguments.GNUPG_HOMES,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "records": {"type": "list", "elements": "str", "required": True},
            "token_file": {"type": "path", "required": True},
            "operators": {**arguments.OPERATORS["operators"], "required": False, "default": []},
            "ttl": {"type": "int", "default": 1800},
        },
        supports_check_mode=True,
    )
    try:
        outcome = run(module.params, check_mode=module.check_mode)
    except SecretsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=outcome.changed, record=outcome.record.render() if outcome.record else "", messages=outcome.messages
    )


def run(params: dict[str, Any], *, check_mode: bool) -> root_grant.Outcome:
    """Run once, and return what was done."""
    apis = arguments.connection(params)
    record = root_record.newest(params["records"])
    file = Path(params["token_file"]).expanduser()
    if check_mode:
        return root_grant.Outcome(record, record is not None or file.is_file())
    if params["state"] == "absent":
        return root_grant.discard(apis, record, params["gnupg_homes"], file)
    if record is None or not record.message:
        raise CeremonyError("The server has made no root token yet: shares are missing.")
    kept = bundle.require(params["bundle_file"])
    whom = root_shares.recipient(record.operator, arguments.operators(params), kept)
    place = root_grant.Place(file, params["ttl"])
    return root_grant.grant(apis, record, whom.key, params["gnupg_homes"], place)


if __name__ == "__main__":
    main()
