#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""One table of the live nftables ruleset is what it should be."""

from __future__ import annotations

import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import nft

DOCUMENTATION = r"""
---
module: nft_table
short_description: One table of the live nftables ruleset is what it should be
description:
  - Compares a table in the kernel with its definition, as the kernel would print it, and replaces it in one transaction
    where they differ.
  - Touches no other table and no file; whoever wants the table back after a reboot loads the same definition then.
options:
  family: {description: Address family., type: str, default: inet, choices: [inet, ip, ip6]}
  name: {description: Name of the table., type: str, required: true}
  definition: {description: "The table as nft reads it, from C(table) to the closing brace.", type: str, required: true}
attributes:
  check_mode:
    support: partial
    details: A host without nft is reported as changed; the definition cannot be checked there.
  diff_mode: {support: full}
author: EGI Cloud secret management
"""

EXAMPLES = r"""
- name: Open the cluster port to the peers alone
  nft_table:
    name: openbao_peers
    definition: "{{ lookup('ansible.builtin.template', 'firewall.nft.j2') }}"
"""

RETURN = r"""
table: {description: The table as the kernel prints it when all is done., returned: always, type: str}
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "family": {"type": "str", "default": "inet", "choices": ["inet", "ip", "ip6"]},
            "name": {"type": "str", "required": True},
            "definition": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    definition = module.params["definition"]
    if shutil.which("nft") is None and module.check_mode:
        module.exit_json(changed=True, table="", diff={"before": "", "after": definition})
    try:
        table = nft.Table(module.params["family"], module.params["name"])
        before, after = nft.live(table), nft.normalised(table, definition)
        if before != after and not module.check_mode:
            nft.load(table, definition)
    except nft.NftError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=before != after, table=after, diff={"before": before, "after": after})


if __name__ == "__main__":
    main()
