#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""See to it that the attempt at a root token that is under way is ours, and give it the shares at hand."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets.errors import SecretsError
from ansible.module_utils.egi_secrets.operate import root_attempt

DOCUMENTATION = r"""
---
module: vault_root_attempt
short_description: See to it that the attempt at a root token that is under way is ours, and give it the shares at hand
description:
  - Compares the attempt that the server has with what earlier runs remember (nonce, PGP fingerprint, number of shares).
    Where it is another one it is cancelled, told of, and ours is begun anew.
  - Runs on the active node, against the server's Unix socket. Its action plugin runs on the controller, chooses and decrypts
    the shares there, in memory, and hands them over through the module's standard input, which needs pipelining.
  - The share that completes the attempt is always the recipient's own.
options:
  socket: {description: The server's Unix socket., type: path, required: true}
  attempt_path: {description: "Path of the endpoint of attempts, below /v1/.", type: str, required: true}
  update_path: {description: "Path of the endpoint that takes shares, below /v1/.", type: str, required: true}
  timeout: {description: Seconds for each answer of the server., type: float, default: 5.0}
  operator: {description: Whom the token is for., type: str, required: true}
  cancel: {description: "Cancel the attempt under way instead, whosever it is.", type: bool, default: false}
  records:
    description: What the nodes remember, as JSON. For the action plugin.
    type: list
    elements: str
    default: []
  now:
    description: Time of the node that leads, in seconds since the epoch. For the action plugin; required there.
    type: float
  bundle_file: {description: The unseal bundle on the controller. For the action plugin., type: path}
  bundle:
    description: The bundle as the module vault_cluster_init returned it, for check mode. For the action plugin.
    type: str
    default: ""
  operators:
    description: The share-holders. For the action plugin.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Name of the operator., type: str, required: true}
      pgp_key_file: {description: "File, on the controller, with that one public PGP key.", type: path, required: true}
      shares: {description: Number of shares that this operator holds., type: int, default: 1}
  gnupg_homes:
    description: GnuPG homes with the secret keys at hand. Without any no share is given. For the action plugin.
    type: list
    elements: str
    default: []
  fingerprint: {description: Of the operator's PGP key. From the action plugin., type: str, default: ""}
  pgp_key: {description: "The key, base64. From the action plugin.", type: str, default: ""}
  nonce: {description: Of the attempt that is remembered. From the action plugin., type: str, default: ""}
  given: {description: Indexes of the shares that it has. From the action plugin., type: list, elements: int, default: []}
  earlier: {description: Attempts of our runs before it. From the action plugin., type: list, elements: str, default: []}
  shares:
    description: What to give. From the action plugin alone.
    type: list
    elements: dict
    default: []
    suboptions:
      index: {description: Of the share., type: int, required: true}
      own: {description: Whether it is the recipient's., type: bool, required: true}
      key: {description: The share in clear., type: str, required: true}
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
author: EGI Cloud secret management
"""

EXAMPLES = r"""
- name: Give the shares at hand to our own attempt
  vault_root_attempt:
    socket: /run/openbao/openbao.sock
    attempt_path: sys/generate-root/attempt
    update_path: sys/generate-root/update
    operator: alice
    operators: "{{ vault_cluster_operators }}"
    bundle_file: /home/alice/egi-secrets/unseal-bundle.json
    gnupg_homes: [""]
  become: true
"""

RETURN = r"""
record: {description: "What the next run has to know, as JSON.", returned: success, type: str}
complete: {description: Whether the server has made the token., returned: success, type: bool}
missing: {description: "What is missing, and who can supply it.", returned: success, type: str}
messages: {description: What was found of attempts that are not ours., returned: success, type: list, elements: str}
nonce: {description: Of the attempt., returned: success, type: str}
given: {description: Indexes of the shares that it has., returned: success, type: list, elements: int}
message: {description: "The token, base64 of PGP ciphertext.", returned: success, type: str}
now: {description: "Time of the node, in seconds since the epoch.", returned: success, type: float}
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "socket": {"type": "path", "required": True},
            "attempt_path": {"type": "str", "required": True},
            "update_path": {"type": "str", "required": True},
            "timeout": {"type": "float", "default": 5.0},
            "operator": {"type": "str", "required": True},
            "cancel": {"type": "bool", "default": False},
            "records": {"type": "list", "elements": "str", "default": []},
            "now": {"type": "float"},
            "bundle_file": {"type": "path"},
            "bundle": {"type": "str", "default": ""},
            "operators": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "pgp_key_file": {"type": "path", "required": True},
                    "shares": {"type": "int", "default": 1},
                },
            },
            "gnupg_homes": {"type": "list", "elements": "str", "default": []},
            "fingerprint": {"type": "str", "default": ""},
            "pgp_key": {"type": "str", "default": "", "no_log": False},  # a public key
            "nonce": {"type": "str", "default": ""},
            "given": {"type": "list", "elements": "int", "default": []},
            "earlier": {"type": "list", "elements": "str", "default": []},
            "shares": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "index": {"type": "int", "required": True},
                    "own": {"type": "bool", "required": True},
                    "key": {"type": "str", "required": True, "no_log": True},
                },
            },
        },
        supports_check_mode=True,
    )
    given = module.params
    door = root_attempt.SocketDoor(Path(given["socket"]), given["attempt_path"], given["update_path"], given["timeout"])
    try:
        if given["cancel"]:
            under_way = door.look().started
            if under_way and not module.check_mode:
                door.cancel()
            module.exit_json(changed=under_way)
        if module.check_mode:
            module.exit_json(changed=True)
        wanted = root_attempt.Wanted(
            given["operator"],
            given["fingerprint"],
            given["pgp_key"],
            given["nonce"],
            tuple(given["given"]),
            tuple(root_attempt.Share(share["index"], share["own"], share["key"]) for share in given["shares"]),
            tuple(given["earlier"]),
        )
        outcome = root_attempt.pursue(door, wanted)
    except SecretsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=outcome.changed,
        nonce=outcome.attempt.nonce,
        given=list(outcome.given),
        message=outcome.attempt.message,
        messages=outcome.messages,
        now=root_attempt.now(),
    )


if __name__ == "__main__":
    main()
