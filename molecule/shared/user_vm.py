"""An ordinary account on a VM of the lab, where somebody works with the service as EGI's users do."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from lab import Lab


@dataclass(frozen=True)
class Done:
    """What a shell printed, both streams, and how it ended."""

    code: int
    output: str = field(repr=False)


class Account:
    """A Unix account without any right.

    Args:
        lab: whose host it is on.
        host: that host.
        name: of the account; it is made where there is none.
    """

    def __init__(self, lab: Lab, host: str, name: str = "ada") -> None:
        self.lab = lab
        self.host = host
        self.name = name
        lab.ssh(host, f"id {name} > /dev/null 2>&1 || useradd --create-home --shell /bin/bash {name}")

    def try_run(self, script: str, variables: Mapping[str, str] | None = None, *, login: bool = True) -> Done:
        """Run a shell script in the account's home, up to the first command that fails.

        Args:
            script: what a person would type.
            variables: exported before; like the script they get there by standard input, so no list of processes has them.
            login: in a login shell, as after SSH; otherwise as cron does it.
        """
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in (variables or {}).items())
        whole = f"cd ~ || exit\nexec 2>&1\n{exports}(\nset -e\n{script}\n) < /dev/null\nprintf '\\n%s' $?\n"
        how = (
            f"runuser --login {self.name} --command 'sh -s'"
            if login
            else f"env -i HOME=/home/{self.name} PATH=/usr/bin:/bin /usr/sbin/runuser -u {self.name} -- sh"
        )
        output, _, code = self.lab.ssh(self.host, how, stdin=whole, check=False).rpartition("\n")
        assert code.isdecimal(), f"{self.host}: the shell of {self.name} did not come to its end."
        return Done(int(code), output)

    def run(self, script: str, variables: Mapping[str, str] | None = None, *, login: bool = True) -> str:
        """Run a script that must succeed, and return what it prints; see `try_run`."""
        done = self.try_run(script, variables, login=login)
        assert done.code == 0, f"{self.name} at {self.host}: exit code {done.code}\n{script}\n{done.output[-2000:]}"
        return done.output
