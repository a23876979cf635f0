#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Look at what TLS listeners really serve, as their clients see it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import listeners
from ansible.module_utils.egi_secrets.listeners import Listener, Seen

DOCUMENTATION = r"""
---
module: tls_listeners
short_description: Look at what TLS listeners really serve
description:
  - Runs on the controller, or on a host. Connects to every listener under each of its names, verifies what it serves against
    a CA file, and asks it for its health. Reads only, and needs no token.
  - It does not fail for what it finds; C(problems) says what is wrong, for the task that asked to judge.
options:
  listeners:
    description: Which.
    type: list
    elements: dict
    required: true
    suboptions:
      node: {description: "Whose it is, as the inventory has it.", type: str, required: true}
      address: {description: What to connect to., type: str, required: true}
      port: {description: TCP port., type: int, required: true}
      names:
        description: DNS names under which clients come to it; the node's own first.
        type: list
        elements: str
        required: true
  ca_file: {description: "Where this runs, a PEM file with the CAs that clients trust.", type: path}
  ca: {description: "Instead of it what such a file holds.", type: str}
  wanted:
    description: Of nodes, sha256 of the certificate that every listener of theirs should serve.
    type: dict
    default: {}
  patience: {description: Seconds to look again while something is wrong., type: float, default: 0}
attributes:
  check_mode: {support: full}
author: EGI Cloud secret management
"""

EXAMPLES = r"""
- name: Look at what every listener serves
  tls_listeners:
    listeners: "{{ groups['vault'] | map('extract', hostvars) | tls_listeners }}"
    ca_file: "{{ vault_cluster_ca_file }}"
  delegate_to: localhost
  register: seen
"""

RETURN = r"""
problems:
  description: A sentence for each thing that keeps users from a listener.
  returned: success
  type: list
  elements: str
listeners:
  description:
    - "Of each its C(node), C(port), C(certificate) (sha256, serial, issuer, not_before, not_after, days_left; null
      where it does not answer), C(authorities) (sha256 of those of the CA file that vouch for it, whether or not it has
      ended), C(status) of its health, whether it C(serves), and C(errors) by name."
  returned: success
  type: list
  elements: dict
"""

LISTENER: dict[str, dict[str, object]] = {
    "node": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "names": {"type": "list", "elements": "str", "required": True},
}
ARGUMENTS: dict[str, dict[str, object]] = {
    "listeners": {"type": "list", "elements": "dict", "required": True, "options": LISTENER},
    "ca_file": {"type": "path"},
    "ca": {"type": "str"},
    "wanted": {"type": "dict", "default": {}},
    "patience": {"type": "float", "default": 0},
}
PAUSE = 0.2


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, required_one_of=[["ca_file", "ca"]])
    given = module.params
    try:
        ca = given["ca"] or Path(given["ca_file"]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        module.fail_json(msg=f"The CA file {given['ca_file']} cannot be read ({error}): correct vault_cluster_ca_file.")
    asked = [Listener(each["node"], each["address"], each["port"], tuple(each["names"])) for each in given["listeners"]]
    deadline = time.monotonic() + given["patience"]
    with ThreadPoolExecutor(max_workers=max(len(asked), 1)) as pool:
        while True:
            seen: list[Seen] = list(pool.map(lambda listener: listeners.look(listener, ca), asked))
            problems = [each for one in seen for each in listeners.problems(one, given["wanted"].get(one.listener.node))]
            if not problems or time.monotonic() > deadline:
                break
            time.sleep(PAUSE)
    module.exit_json(changed=False, problems=problems, listeners=[each.told() for each in seen])


if __name__ == "__main__":
    main()
