#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Take a snapshot of the cluster, and prove it by restoring it to a throw-away server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import arguments, bundle, products, unseal
from ansible.module_utils.egi_secrets.errors import SecretsError
from ansible.module_utils.egi_secrets.operate import session, snapshot

DOCUMENTATION = r"""
---
module: vault_snapshot
short_description: Take a snapshot of the cluster, and prove it by restoring it
description:
  - Takes a snapshot from the node that leads, keeps it on the controller (mode 0600), and restores it there to a throw-away
    server on loopback, which is removed whatever happens. Where enough shares can be decrypted at this keyboard that server
    is unsealed, and must be the same cluster. What is not proven is not kept, and no older one is removed for it.
  - A snapshot is encrypted as the cluster's data is; a threshold of shares opens it.
  - Runs on the controller.
options:
  product: {description: What the nodes run., type: str, required: true}
  binary: {description: "The server that it is restored to, on the controller.", type: path, required: true}
  directory: {description: Where snapshots are kept., type: path, required: true}
  label: {description: What the file's name begins with., type: str, required: true}
  keep: {description: How many of this label are kept., type: int, default: 10}
extends_documentation_fragment: [egi_secrets, egi_secrets.login, egi_secrets.gnupg_homes, egi_secrets.bundle_file]
"""

EXAMPLES = r"""
- name: Take a snapshot, and prove it
  vault_snapshot:
    nodes: "{{ vault_nodes }}"
    ca_file: /etc/ssl/certs/ca-certificates.crt
    jwt: "{{ lookup('ansible.builtin.env', 'OIDC_ACCESS_TOKEN') }}"
    bundle_file: /home/alice/egi-secrets/unseal-bundle.json
    product: openbao
    binary: /home/alice/egi-secrets/.cache/releases/openbao/2.7.2/bao
    directory: /home/alice/egi-secrets/snapshots
    label: before-upgrade
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
path: {description: The snapshot on the controller., returned: outside check mode, type: str}
size: {description: Its size in bytes., returned: outside check mode, type: int}
index: {description: Last entry of Raft's log that it holds., returned: outside check mode, type: int}
sha256: {description: Its checksum., returned: outside check mode, type: str}
opened: {description: Whether the restored server was unsealed too., returned: outside check mode, type: bool}
missing: {description: Shares that were missing for that., returned: outside check mode, type: int}
seconds: {description: How long the proof took., returned: outside check mode, type: float}
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **arguments.CONNECTION,
            **session.LOGIN,
            **arguments.GNUPG_HOMES,
            **arguments.BUNDLE_FILE,
            "product": {"type": "str", "required": True},
            "binary": {"type": "path", "required": True},
            "directory": {"type": "path", "required": True},
            "label": {"type": "str", "required": True},
            "keep": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    try:
        result = take(module.params, check_mode=module.check_mode)
    except SecretsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def take(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Run once, and return what the module returns."""
    if check_mode:
        return {"changed": True}
    apis = arguments.connection(params)
    kept = bundle.require(params["bundle_file"])
    node, _ = session.leader_of(apis)
    leader = next(api for api in apis if api.node == node)
    with snapshot.draft(Path(params["directory"]).expanduser(), params["label"]) as draft:
        with session.as_operator(params, node) as server:
            draft.download(server)
        proof = snapshot.prove(
            snapshot.Release(products.product_named(params["product"]), Path(params["binary"])),
            draft.path,
            kept,
            unseal.ShareBox(kept.keys, params["gnupg_homes"]),
            leader.seal_status().cluster_id,
        )
        taken = draft.keep(max(params["keep"], 1))
    return {
        "changed": True,
        "path": str(taken.path),
        "size": taken.size,
        "index": taken.index,
        "sha256": taken.sha256,
        "opened": proof.opened,
        "missing": proof.missing,
        "seconds": proof.seconds,
    }


if __name__ == "__main__":
    main()
