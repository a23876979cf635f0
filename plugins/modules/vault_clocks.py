#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Tell how far the clocks of the nodes are ahead of the controller's."""

from __future__ import annotations

import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import arguments
from ansible.module_utils.egi_secrets.errors import SecretsError
from ansible.module_utils.egi_secrets.preflight import measure_clocks

DOCUMENTATION = r"""
---
module: vault_clocks
short_description: Tell how far the clocks of the nodes are ahead of the controller's
description:
  - Asks each node for its time, whole seconds, until the second has ticked over between two answers. Takes about a second.
  - A node that does not answer is left out. Needs no token, changes nothing, and does the same in check mode.
  - Runs on the controller.
extends_documentation_fragment: [egi_secrets]
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
"""

EXAMPLES = r"""
- name: Compare the clocks
  vault_clocks:
    nodes: "{{ vault_nodes }}"
    ca_file: /etc/ssl/certs/ca-certificates.crt
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
clocks:
  description: "Node → how far its clock is ahead of the controller's, s, and by how much that may be wrong."
  returned: always
  type: dict
"""


def main() -> None:
    module = AnsibleModule(argument_spec=dict(arguments.CONNECTION), supports_check_mode=True)
    try:
        # No two clocks are within nothing, so every look is taken.
        _, offsets = measure_clocks(arguments.connection(module.params), 0.0, now=time.time)
    except SecretsError as error:
        module.fail_json(msg=str(error))
    clocks = {name: [round(offset.middle, 3), round(offset.unsure, 3)] for name, offset in offsets.items()}
    module.exit_json(changed=False, clocks=clocks)


if __name__ == "__main__":
    main()
