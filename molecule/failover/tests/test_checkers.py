"""Checkers on hosts that are not well: clocks that step, and a disk that takes nothing. LONG=1 runs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from lab import wait_for
from rounds import Stage
from watch import await_quiet

pytestmark = pytest.mark.long
CLOCK = "/run/endpoint-failover-clock"
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
STATE = "/var/lib/endpoint-failover"


@contextmanager
def stepping_clock(stage: Stage, node: str) -> Iterator[Callable[[str], None]]:
    """Run a node's checker, and nothing else there, with a wall clock that steps when it is told to.

    Yields:
        What sets it, to an offset such as +3600 (s).
    """
    lab = stage.lab
    lab.ssh(node, f"[ -e {FAKETIME} ] || apt-get install -qq --yes --no-install-recommends libfaketime > /dev/null")
    unit = "checker-with-a-clock-of-its-own"
    environment = {
        "LD_PRELOAD": FAKETIME,
        "FAKETIME_TIMESTAMP_FILE": CLOCK,
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # the kernel's does not step either
    }

    def set_clock(offset: str) -> None:
        lab.ssh(node, f"echo {offset} > {CLOCK}.new && chmod 0644 {CLOCK}.new && mv {CLOCK}.new {CLOCK}")

    stage.checkers.halt(node)
    try:
        set_clock("+0")
        told = " ".join(f"--setenv={name}={value}" for name, value in environment.items())
        lab.ssh(
            node,
            f"systemd-run --quiet --collect --unit={unit} --uid=endpoint-failover --gid=endpoint-failover {told} "
            "sh -c 'while :; do /usr/local/bin/endpoint-failover check; done'",
        )
        wait_for(lambda: stage.checkers.status(node).get("running", False), 30, f"the checker of {node} to run")
        yield set_clock
    finally:
        lab.ssh(node, f"systemctl stop {unit}; rm -f {CLOCK}", check=False)
        stage.checkers.resume(node)


@pytest.mark.parametrize("offset", ["+3600", "-3600", "+86400000"], ids=["an hour on", "an hour back", "years on"])
def test_a_clock_that_steps_moves_nothing_and_keeps_nothing_from_moving(stage: Stage, offset: str) -> None:
    """It may find every certificate to be out of date: one observer that is wrong about all sites is no majority."""
    site, needed = stage.begin()
    other = next(each for each in stage.names[0].candidates if each != site)
    with stepping_clock(stage, f"vault-{other}") as set_clock:
        began = time.monotonic()
        set_clock(offset)
        await_quiet(lambda: not any(stage.changes(began).values()), 12, 14, "the names to stay")
        assert stage.updates(began) == []
        set_clock("+0")
        await_quiet(lambda: not any(stage.changes(began).values()), 5, 7, "the names to stay when it is right again")
        set_clock(offset)
        with stage.faults.killed(f"vault-{site}") as struck:
            settled = stage.await_elsewhere(needed, site, 60)
            ended = time.monotonic()
    one = stage.account(
        f"server killed, a clock {offset} s off", site, struck, ended, needed=needed, dns_after=settled - struck
    )
    assert {name: count for name, count in one.changes.items() if count} == dict.fromkeys(one.needed, 1)


@contextmanager
def read_only_memory(stage: Stage, node: str) -> Iterator[None]:
    """Let a node's checker write nothing into its folder."""
    stage.lab.ssh(node, f"mount --bind {STATE} {STATE} && mount -o remount,ro,bind {STATE}")
    try:
        yield
    finally:
        stage.lab.ssh(node, f"umount -l {STATE}")


def test_a_memory_that_cannot_be_written_keeps_nothing_from_moving(stage: Stage) -> None:
    """All three of them: they go on with what they know, log in anew, and say so."""
    site, needed = stage.begin()
    nodes = list(stage.lab.nodes)
    with read_only_memory(stage, nodes[0]), read_only_memory(stage, nodes[1]), read_only_memory(stage, nodes[2]):
        began = time.monotonic()
        # Over a change of runs: the next one starts from a memory that is old.
        await_quiet(lambda: not any(stage.changes(began).values()), 65, 70, "the names to stay")
        with stage.faults.killed(f"vault-{site}") as struck:
            settled = stage.await_elsewhere(needed, site, 60)
            ended = time.monotonic()
        said = stage.lab.ssh(nodes[0], "journalctl --no-pager -t endpoint-failover --since=-3min")
    one = stage.account("server killed, memories read-only", site, struck, ended, needed=needed, dns_after=settled - struck)
    assert {name: count for name, count in one.changes.items() if count} == dict.fromkeys(one.needed, 1)
    assert "cannot be written" in said
