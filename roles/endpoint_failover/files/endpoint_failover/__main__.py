"""The command line: `endpoint-failover check | status | move | nudge | validate | simulate`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from .errors import FailoverError, SettingsError
from .settings import Rules, Settings, load

SETTINGS = Path("/etc/endpoint-failover/settings.json")
# For so long `status --now` waits for the look that it asked for, s. A site that is down takes one look's timeout.
LOOKS = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code: 0 done, 1 not done, 2 wrong use; `status --nagios` has its own."""
    given = _parser().parse_args(arguments)
    try:
        code: int = given.command(given)
    except FailoverError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="endpoint-failover",
        description="Keeps the service's generic host names at a site that serves. docs/failover.md says how it decides.",
    )
    parser.add_argument("--settings", type=Path, default=SETTINGS, help="settings file (default: %(default)s)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="a run: check every few seconds until the next run takes over; cron's")
    check.add_argument("--dry-run", action="store_true", help="decide, and send no update; beside the run that is under way")
    check.add_argument("--once", action="store_true", help="make a single check")
    check.set_defaults(command=_check)

    status = commands.add_parser("status", help="how things stand")
    form = status.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for scripts")
    form.add_argument("--nagios", action="store_true", help="a Nagios plugin's line and exit code")
    status.add_argument("--now", action="store_true", help="have the run that is under way look at everything first")
    status.set_defaults(command=_status)

    move = commands.add_parser("move", help="have a name moved to a site, with all the same proofs")
    move.add_argument("--to", required=True, metavar="SITE")
    move.add_argument("--name", action="append", metavar="NAME", help="which name; again for more (default: all)")
    move.add_argument("--timeout", type=float, default=45.0, metavar="SECONDS", help="(default: %(default)g)")
    move.set_defaults(command=_move)

    nudge = commands.add_parser("nudge", help="have the run that is under way look at everything now, holds included")
    nudge.set_defaults(command=_nudge)

    reach = commands.add_parser("reach", help="send a request through each name, and say which site answers")
    reach.set_defaults(command=_reach)

    validate = commands.add_parser("validate", help="say whether the settings fit together")
    validate.set_defaults(command=lambda given: 0 if load(given.settings) else 1)

    simulate = commands.add_parser("simulate", help="play a history of faults through the decision, and draw it")
    simulate.add_argument("--history", type=Path, metavar="FILE", help="JSON list of {at, what, who, to}; otherwise random")
    simulate.add_argument("--seed", type=int, default=1, help="of what is random (default: %(default)s)")
    simulate.add_argument("--duration", type=float, default=180.0, metavar="SECONDS", help="(default: %(default)g)")
    simulate.add_argument("--svg", type=Path, metavar="FILE", help="draw it into this file")
    simulate.add_argument("--default-rules", action="store_true", help="the program's intervals, not those of the settings")
    simulate.add_argument("--set", action="append", default=[], metavar="RULE=VALUE", help="such as fall=2; again for more")
    simulate.set_defaults(command=_simulate)
    return parser


def _loaded(given: argparse.Namespace) -> Settings:
    """Return the settings, and become the checker's user where root runs this: it could not read what root leaves behind."""
    settings = load(given.settings)
    with suppress(FileNotFoundError):  # which the command says better
        owner = settings.state_dir.stat()
        if os.geteuid() == 0 and owner.st_uid:
            os.setgroups([])
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)
    return settings


def _check(given: argparse.Namespace) -> int:
    from .lock import Lock  # noqa: PLC0415  # each command loads what it needs
    from .loop import Run  # noqa: PLC0415

    settings = _loaded(given)
    if given.dry_run:
        Run(settings, dry_run=True).go(once=True)
        return 0
    # A nudge that comes before it can be heeded waits: it would end this run.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    with Lock(settings.state_dir) as lock:
        if not lock.take():
            return 0
        run = Run(settings)
        run.heed_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        run.go(once=given.once)
    return 0


def _status(given: argparse.Namespace) -> int:
    from . import status  # noqa: PLC0415

    try:
        found = _looked(_loaded(given)) if given.now else status.report(_loaded(given))
    except FailoverError as error:
        if not given.nagios:
            raise
        sys.stdout.write(f"UNKNOWN: {error}\n")
        return status.UNKNOWN
    if given.nagios:
        code, line = status.nagios(found)
        sys.stdout.write(f"{line}\n")
        return code
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if given.json else status.table(found))
    return 0


def _looked(settings: Settings) -> dict[str, Any]:
    """Have the run that is under way look at everything, and return how things stand, then or where that takes too long."""
    from . import status, wishes  # noqa: PLC0415

    began = time.monotonic()
    asked = wishes.nudge(settings.state_dir)
    while True:
        found, passed = status.report(settings), time.monotonic() - began
        if not asked or _is_since(found, passed) or passed > LOOKS:
            return found
        time.sleep(0.05)


def _is_since(found: Mapping[str, Any], passed: float) -> bool:
    """Whether the check that a report tells of began within so many seconds: an old memory says nothing of now."""
    age: float | None = found["age"]
    return age is not None and age + 0.001 < passed


def _move(given: argparse.Namespace) -> int:
    from . import status, wishes  # noqa: PLC0415

    settings = _loaded(given)
    names = _wanted(settings, given.to, given.name)
    sites = dict.fromkeys(names, given.to)
    began, last = time.monotonic(), ""
    wishes.make(settings.state_dir, sites, given.timeout)
    try:
        while True:
            found, passed = status.report(settings), time.monotonic() - began
            left = [name for name in names if found["names"][name]["at"] != given.to]
            looked = _is_since(found, passed)
            if looked and not left:
                break
            if passed > given.timeout:
                raise FailoverError(_why_not(found, left if looked else [], given.to, given.timeout))
            line = "; ".join(f"{name}: {found['names'][name]['why'] or 'to be looked at'}" for name in left)
            if line and line != last:
                sys.stdout.write(f"{passed:4.0f} s  {line}\n")
                sys.stdout.flush()
                last = line
            if not wishes.read(settings.state_dir).keys() >= set(left):  # the run may just have dropped another wish
                wishes.make(settings.state_dir, sites, given.timeout - passed)
            time.sleep(0.25)
    finally:
        wishes.drop(settings.state_dir, sites)
    took = time.monotonic() - began
    sys.stdout.write(f"{', '.join(names)}: all DNS servers say {given.to} after {took:.1f} s.\n")
    return 0


def _wanted(settings: Settings, site: str, names: Sequence[str] | None) -> list[str]:
    """Return the names that are meant.

    Raises:
        FailoverError: there is no such name, or it may not be at that site.
    """
    known = {name.name: name for name in settings.names}
    strangers = [name for name in names or () if name not in known]
    if strangers:
        raise FailoverError(f"There is no generic name {', '.join(strangers)}: --name is one of {', '.join(known)}.")
    wanted = [known[name] for name in names or known]
    unfit = [f"{name.name} ({', '.join(name.candidates)})" for name in wanted if site not in name.candidates]
    if unfit:
        raise FailoverError(
            f"{site} is no candidate of {'; '.join(unfit)}: --to is one of those, or name others with --name."
        )
    return [name.name for name in wanted]


def _why_not(found: dict[str, object], left: Sequence[str], site: str, seconds: float) -> str:
    names: dict[str, dict[str, str]] = found["names"]  # type: ignore[assignment]
    whys = "; ".join(f"{name}: {names[name]['why'] or 'it was not moved'}" for name in left) or "No check was made meanwhile"
    return f"Not moved to {site} within {seconds:g} s, and no longer tried. {whys}. See endpoint-failover status."


def _nudge(given: argparse.Namespace) -> int:
    from . import wishes  # noqa: PLC0415

    settings = _loaded(given)
    if not wishes.nudge(settings.state_dir):
        raise FailoverError(f"No run of the checker at {settings.observer} is under way: does cron run on this host?")
    return 0


def _reach(given: argparse.Namespace) -> int:
    from .names import ask  # noqa: PLC0415
    from .wire import Connection, trust  # noqa: PLC0415

    settings = _loaded(given)
    context, failed = trust(settings.ca_file), 0
    for name in settings.names:
        answers = [ask(name.name, server, settings.rules.dns_timeout) for server in name.servers]
        addresses = sorted({address for answer in answers for address in answer.addresses})
        for address in addresses:
            site = settings.site_of.get(address, address)
            try:
                answer = Connection(address, name.port, name.name, context, 5.0).request("GET", "/v1/sys/health", {})
            except FailoverError as error:
                failed += 1
                sys.stdout.write(f"{name.name}:{name.port} is at {site} ({address}), which does not answer: {error}\n")
            else:
                sys.stdout.write(f"{name.name}:{name.port} is answered by {site} ({address}): HTTP {answer.status}\n")
        if not addresses:
            failed += 1
            said = "; ".join(f"{answer.server}: {answer.error or 'no record'}" for answer in answers)
            sys.stdout.write(f"{name.name} is nowhere ({said})\n")
    return 1 if failed else 0


def _simulate(given: argparse.Namespace) -> int:
    import random  # noqa: PLC0415

    from . import simulate  # noqa: PLC0415

    rules = Rules() if given.default_rules or not given.settings.exists() else load(given.settings).rules
    settings = simulate.default_settings(rules=_changed(rules, given.set))
    if given.history:
        history = simulate.read_history(given.history)
    else:
        history = simulate.random_history(random.Random(given.seed), given.duration)  # noqa: S311  # no secret
    played = simulate.play(history, settings, given.seed, given.duration)
    sys.stdout.write(simulate.as_text(played))
    if given.svg:
        given.svg.write_text(simulate.as_svg(played), encoding="utf-8")
    return 0


def _changed(rules: Rules, changes: Sequence[str]) -> Rules:
    """Return rules with some of them changed.

    Raises:
        SettingsError: one is unknown, or they do not fit together.
    """
    values: dict[str, Any] = {}
    for change in changes:
        rule, _, value = change.partition("=")
        kind = type(getattr(rules, rule)) if rule in rules.__slots__ else None
        try:
            values[rule] = kind(value) if kind in (int, float) else float("nan")
        except ValueError:
            values[rule] = float("nan")
        if values[rule] != values[rule]:
            raise SettingsError(f"--set {change}: give RULE=VALUE, with a number and one of {', '.join(rules.__slots__)}.")
    changed = replace(rules, **values)
    found = changed.problems()
    if found:
        raise SettingsError("\n".join(found))
    return changed


if __name__ == "__main__":
    sys.exit(main())
