#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Keep the certificate and key that a node serves while others are tried, and put them back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import host_files, way_back

DOCUMENTATION = r"""
---
module: tls_way_back
short_description: Keep the certificate and key that a node serves while others are tried, and put them back
description:
  - Keeps the pair on disk where it is what the listeners serve and complete. Otherwise what an earlier run kept stays,
    where that is what they serve, or was about to be put back.
  - Puts the key back before the certificate, so that a run that is cut off between the two loses neither.
  - Contents appear in no argument, result or log.
options:
  state: {description: What is to be done., type: str, choices: [kept, back], required: true}
  certificate:
    description: Absolute path of the server's certificate. Its key lies beside it, with the suffix C(.key).
    type: path
    required: true
  directory: {description: "Where the pair is kept, root's.", type: path, required: true}
  served:
    description: For O(state=kept), sha256 of the certificate that the listeners serve. Empty where nobody knows.
    type: str
    default: ""
  owner: {description: Of all files., type: str, default: root}
  group: {description: "Of all files, but for the server's key.", type: str, default: root}
  key_group: {description: "For O(state=back), whose members may read the server's key.", type: str, default: root}
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
author: EGI Cloud secret management
"""

EXAMPLES = r"""
- name: Keep what the listeners serve, for the way back
  tls_way_back:
    state: kept
    certificate: /etc/openbao/tls/server.crt
    directory: /run/openbao-started-tls
    served: "{{ vault_server_state.tls.served.sha256 }}"
"""

RETURN = r"""
changed_paths: {description: Paths that differed., returned: always, type: list, elements: str}
"""

ARGUMENTS: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "choices": ["kept", "back"], "required": True},
    "certificate": {"type": "path", "required": True},
    "directory": {"type": "path", "required": True},
    "served": {"type": "str", "default": ""},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "key_group": {"type": "str", "default": "root", "no_log": False},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    state, served, owner, group = (module.params[name] for name in ("state", "served", "owner", "group"))
    disk = way_back.pair(Path(module.params["certificate"]))
    kept = way_back.pair(disk.certificate, Path(module.params["directory"]))
    try:
        if state == "kept":
            wanted = way_back.keep(disk, kept, served, owner=owner, group=group)
        else:
            wanted = way_back.back(disk, kept, owner=owner, group=group, key_group=module.params["key_group"])
        changes = host_files.plan(wanted)
        if not module.check_mode:
            host_files.apply(changes)
            if differ := [change.wanted.path for change in host_files.plan(wanted)]:
                module.fail_json(msg=f"{' and '.join(differ)} is not what was written there: look at who else writes it.")
    except (way_back.NoWayBackError, host_files.HostFileError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(changes),
        changed_paths=[change.wanted.path for change in changes],
        diff=[change.diff for change in changes],
    )


if __name__ == "__main__":
    main()
