#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Ask a node, on the node, how it stands in its cluster, and wait until there is nothing to wait for."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import standing

DOCUMENTATION = r"""
---
module: vault_cluster_member
short_description: Ask a node how it stands in its cluster, and wait until it is settled
description:
  - Asks the server through its Unix socket, which needs root on the host and no token.
  - An active node is settled when autopilot calls every expected member a healthy voter, a standby when it knows its leader.
    Waiting ends at once on a sealed node, which needs shares and not time.
  - Never fails because of what it finds; that is for whoever compares all members. Does the same in check mode.
options:
  socket: {description: The server's Unix socket., type: path, required: true}
  bundle: {description: The node's copy of the unseal bundle., type: path, required: true}
  expected: {description: Raft node ids of the members., type: list, elements: str, required: true}
  timeout: {description: Seconds to wait at most., type: float, default: 60}
  root_record: {description: "What runs of generate-root remember here. Empty: do not read it.", type: str, default: ""}
  attempt_path:
    description: "Path of the endpoint of attempts at a root token, below /v1/. Empty: do not ask."
    type: str
    default: ""
attributes:
  check_mode: {support: full}
author: EGI Cloud secret management
"""

EXAMPLES = r"""
- name: Wait until the node is settled
  vault_cluster_member:
    socket: /run/openbao/openbao.sock
    bundle: /etc/openbao/unseal-bundle.json
    expected: [vault-iisas, vault-infn, vault-ifca]
"""

RETURN = r"""
server: {description: "Health, seal, leader, autopilot's gauges, applied index.", type: dict, returned: always}
bundle: {description: "The copy's content, uid, gid and mode; null where there is none.", type: dict, returned: always}
settled: {description: Whether there was nothing left to wait for., type: bool, returned: always}
root:
  description: The record of generate-root, the attempt that is under way, and the node's time.
  type: dict
  returned: always
waited: {description: Seconds that were waited., type: float, returned: always}
"""

ARGUMENTS: dict[str, dict[str, object]] = {
    "socket": {"type": "path", "required": True},
    "bundle": {"type": "path", "required": True},
    "expected": {"type": "list", "elements": "str", "required": True},
    "timeout": {"type": "float", "default": 60.0},
    "root_record": {"type": "str", "default": ""},
    "attempt_path": {"type": "str", "default": ""},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    given = module.params
    seen = standing.wait_until_settled(Path(given["socket"]), given["expected"], given["timeout"])
    try:
        bundle = standing.bundle_copy(Path(given["bundle"]))
    except OSError as error:
        module.fail_json(msg=f"The copy of the unseal bundle cannot be read: {error}. Mend or remove it, and run again.")
    module.exit_json(
        changed=False,
        server=seen.server,
        bundle=bundle,
        settled=seen.settled,
        waited=round(seen.waited, 2),
        root=standing.root_attempt(Path(given["socket"]), given["attempt_path"], given["root_record"]),
    )


if __name__ == "__main__":
    main()
