#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Converge directories, files and links in one go."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import host_files

DOCUMENTATION = r"""
---
module: host_files
short_description: Converge directories, files and links in one go
description:
  - Makes a list of paths on the host what it should be in one task instead of one task a file.
  - Every new content is validated before any path is replaced; each path is replaced atomically, with owner and mode set
    before the rename.
  - Follows no symbolic link that somebody else than root made.
options:
  files:
    description: The paths, directories before what lies in them.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: Absolute path., type: str, required: true}
      state:
        description: What the path should be. A directory is removed only when it is empty.
        type: str
        choices: [file, directory, link, absent]
        default: file
      content: {description: Content of a file., type: str}
      secret_content: {description: Content of a file that is never shown in a diff or an error., type: str}
      source:
        description: A file on the host, in a directory that only root writes to, whose content is taken and never shown.
        type: path
      target: {description: What a link points to., type: str}
      owner: {description: User name., type: str, default: root}
      group: {description: Group name., type: str, default: root}
      mode: {description: "Octal mode. Default: 0644 for files, 0755 for directories.", type: str}
      validate:
        description:
          - Commands, each a list of words, that must all accept a private copy of the content; C(%s) stands for its path.
        type: list
        elements: list
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
author: EGI Cloud secret management
"""

EXAMPLES = r"""
- name: Write the server's configuration and its CA
  host_files:
    files:
      - path: /etc/openbao
        state: directory
      - path: /etc/openbao/openbao.hcl
        content: "{{ lookup('ansible.builtin.template', 'openbao.hcl.j2') }}"
        group: openbao
        mode: "0640"
        validate: [[/opt/openbao/current/bao, operator, validate-config, "-config=%s"]]
"""

RETURN = r"""
changed_paths: {description: Paths that differed., returned: always, type: list, elements: str}
unvalidated_paths:
  description: Paths whose checker is not on the host yet; only ever non-empty in check mode.
  returned: always
  type: list
  elements: str
"""


ENTRY = {
    "path": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["file", "directory", "link", "absent"], "default": "file"},
    "content": {"type": "str"},
    "secret_content": {"type": "str", "no_log": True},
    "source": {"type": "path"},
    "target": {"type": "str"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str"},
    "validate": {"type": "list", "elements": "list"},
}


class QuietModule(AnsibleModule):
    """Writes no contents to the host's log.

    Ansible logs every invocation. It masks values that are no_log where it finds them, and does not find those with a line
    break in them, since it logs them quoted: keys would be in the journal in clear.
    """

    def _log_invocation(self) -> None:
        self.log("Invoked for " + ", ".join(str(entry.get("path")) for entry in self.params["files"]))


def main() -> None:
    module = QuietModule(
        argument_spec={"files": {"type": "list", "elements": "dict", "required": True, "options": ENTRY}},
        supports_check_mode=True,
    )
    try:
        changes = host_files.plan([host_files.wanted_from(entry) for entry in module.params["files"]])
        unvalidated = host_files.validate(changes)
        if not module.check_mode:
            if unvalidated:
                module.fail_json(msg=f"No checker on this host for {', '.join(unvalidated)}. Nothing was replaced.")
            host_files.apply(changes)
    except (host_files.HostFileError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(changes),
        changed_paths=[change.wanted.path for change in changes],
        unvalidated_paths=unvalidated,
        diff=[change.diff for change in changes],
    )


if __name__ == "__main__":
    main()
