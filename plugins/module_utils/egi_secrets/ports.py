"""Who listens on a host's TCP ports, read from /proc as root.

A server whose port for users is taken does not start. One whose cluster port is taken does, and may even lead: it reaches
the others, they do not reach it, so autopilot calls them all unhealthy and lets nobody vote.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Json = dict[str, object]

PROC = Path("/proc")
_EVERYWHERE = ipaddress.IPv6Address("::")
_LISTENS = "0A"  # TCP_LISTEN in include/net/tcp_states.h


def listening(address: str, ports: Sequence[int], proc: Path = PROC) -> dict[str, Json | None]:
    """Return who listens on each of some ports, where it is in the way of a server that binds an address.

    Args:
        address: the IP address that the server binds, in brackets or not; the name of a host: all addresses.
        ports: TCP ports.
        proc: where procfs is mounted.

    Returns:
        By port, as text: `pid` and `command` of one that listens there, both null where nothing tells whose the socket is;
        null where nobody listens.
    """
    wanted = _address(address)
    found: dict[int, str] = {}
    for bound, port, inode in _sockets(proc):
        if port in ports and _clash(bound, wanted):
            found.setdefault(port, inode)
    owners = _owners(set(found.values()), proc) if found else {}
    return {str(port): owners.get(found[port], {"pid": None, "command": None}) if port in found else None for port in ports}


def taken(held: Mapping[str, Mapping[str, object] | None], process: Mapping[str, object] | None) -> dict[str, str]:
    """Return the ports that somebody else has, and who.

    Args:
        held: as `listening` returns it.
        process: the server's, with its `pid`; None where it does not run.

    Returns:
        By port: the command and its pid. Ports of which nothing tells whose they are, are not among them.
    """
    own = process["pid"] if process else None
    return {
        port: f"{holder['command']} (pid {holder['pid']})"
        for port, holder in held.items()
        if holder and holder["pid"] is not None and holder["pid"] != own
    }


def _address(text: str) -> Address:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return _EVERYWHERE


def _clash(one: Address, other: Address) -> bool:
    # The wildcard of IPv6 is that of IPv4 too, as Go binds it.
    if _EVERYWHERE in (one, other):
        return True
    return one == other or (one.version == other.version and (one.is_unspecified or other.is_unspecified))


def _sockets(proc: Path) -> Iterator[tuple[Address, int, str]]:
    """Tell address, port and inode of each socket that listens, as proc_net_tcp(5) has them."""
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:  # a kernel without IPv6
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTENS:
                address, _, port = fields[1].partition(":")
                yield _decoded(address), int(port, 16), fields[9]


def _decoded(text: str) -> Address:
    """Read an address: its words of 32 bits, in the byte order of this machine."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    address = ipaddress.ip_address(packed)
    return getattr(address, "ipv4_mapped", None) or address


def _owners(inodes: set[str], proc: Path) -> dict[str, Json]:
    """Return, by inode, the process that has the socket."""
    found: dict[str, Json] = {}
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    for process in proc.glob("[0-9]*"):
        for target in _open(process):
            inode = wanted.get(target)
            if inode is not None and inode not in found:
                found[inode] = {"pid": int(process.name), "command": _command(process)}
        if len(found) == len(inodes):
            break
    return found


def _open(process: Path) -> Iterator[str]:
    try:
        names = list((process / "fd").iterdir())
    except OSError:  # it ended, or is none of ours to see
        return
    for name in names:
        try:
            yield str(name.readlink())
        except OSError:
            continue


def _command(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a process that has ended"
