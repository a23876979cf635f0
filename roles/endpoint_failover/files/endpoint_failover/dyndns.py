"""The DynDNS2 update, and what each answer means.

nsupdate.info says almost everything with HTTP status 200: what counts is the first word of the body. The host secret goes
into one header over verified TLS, and nowhere else.

Source: https://help.dyn.com/remote-access-api/ (return codes); nsupdate.info adds `dnserr` for a name server that it could
not update, after which it refuses the whole domain for 120 s.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from ssl import SSLContext
from urllib.parse import urlencode, urlsplit

from . import __version__
from .errors import UnreachableError
from .model import Consequence, Reply
from .settings import Dyndns
from .wire import Connection, plain

# first word of the body → consequence, and what it means.
ANSWERS = {
    "good": (Consequence.SENT, ""),
    "nochg": (Consequence.UNCHANGED, ""),
    "dnserr": (Consequence.LOCKED, "it could not update the primary DNS server, and refuses the domain for two minutes"),
    "911": (Consequence.RETRY, "it is out of order"),
    "badauth": (Consequence.STOP, "host name or host secret are wrong"),
    "nohost": (Consequence.STOP, "it has no such host, or the host or its domain is not available"),
    "notfqdn": (Consequence.STOP, "the host name is not fully qualified"),
    "numhost": (Consequence.STOP, "too many hosts in one request"),
    "abuse": (Consequence.STOP, "the host is blocked for abuse"),
    "badagent": (Consequence.STOP, "this program is refused"),
    "badsys": (Consequence.STOP, "the request is malformed"),
    "!donator": (Consequence.STOP, "the account may not do this"),
}
OK, UNAUTHORIZED, FORBIDDEN = 200, 401, 403
_TAKEN = (Consequence.SENT, Consequence.UNCHANGED)
_SHOWN = 60


def account_of(dyndns: Dyndns) -> str:
    """Return a fingerprint of the account: another one is tried at once where this one was refused."""
    try:
        secret = Path(dyndns.secret_file).read_bytes()
    except OSError:
        secret = b""
    return hashlib.blake2s(f"{dyndns.url} {dyndns.host} ".encode() + secret, digest_size=8).hexdigest()


def update(dyndns: Dyndns, address: str, context: SSLContext, timeout: float) -> Reply:
    """Ask for a name's address to be changed.

    Args:
        dyndns: where, and as which host.
        address: IPv4 address that the name is to have.
        context: what to trust.
        timeout: s, in all.

    Returns:
        The answer and its consequence. Whether it is true is seen in DNS.
    """
    url = urlsplit(dyndns.url)
    try:
        secret = Path(dyndns.secret_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return Reply(Consequence.STOP, f"the host secret {dyndns.secret_file} cannot be read")
    credentials = base64.b64encode(f"{dyndns.host}:{secret}".encode()).decode()
    headers = {"Authorization": f"Basic {credentials}", "User-Agent": f"endpoint-failover/{__version__}"}
    query = urlencode({"hostname": dyndns.host, "myip": address})
    host, port = url.hostname or "", url.port or 443
    try:
        connection = Connection(dyndns.address or host, port, host, context, timeout)
        answer = connection.request("GET", f"{url.path or '/'}?{query}", headers)
    except UnreachableError as error:
        return Reply(Consequence.RETRY, f"the DynDNS server: {error.why}")
    return read(answer.status, answer.body.decode("utf-8", errors="replace"), address)


def read(status: int, body: str, address: str) -> Reply:
    """Return what an answer means.

    Args:
        status: HTTP status.
        body: what it says.
        address: that was asked for.
    """
    words = plain(body).split()
    first = words[0].lower() if words else ""
    said = f"HTTP {status}, {' '.join(words)[:_SHOWN] or 'nothing'}"
    known = ANSWERS.get(first)
    if status in (UNAUTHORIZED, FORBIDDEN) and (known is None or known[0] is not Consequence.STOP):
        return Reply(Consequence.STOP, f"the DynDNS server refuses us ({said})")
    if known is None or (known[0] in _TAKEN and status != OK):
        return Reply(Consequence.RETRY, f"the DynDNS server's answer is not understood ({said})")
    consequence, meaning = known
    if consequence in _TAKEN:
        if len(words) > 1 and words[1] != address:
            return Reply(Consequence.STOP, f"the DynDNS server set another address than {address} ({said})")
        return Reply(consequence, " ".join(words)[:_SHOWN])
    return Reply(consequence, f"the DynDNS server: {meaning} ({said})")
