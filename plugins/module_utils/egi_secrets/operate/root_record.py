"""What operators' runs of generate-root tell each other: which attempt is ours, and what has become of it.

Kept on every node beside the unseal bundle, root's alone. Nothing in it is a secret: the token itself is PGP ciphertext.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

FORMAT = 1


@dataclass(frozen=True)
class Record:
    """One operator's way to a root token, so far.

    Attributes:
        operator: whom the token is for.
        fingerprint: primary fingerprint of their PGP key, which the server encrypts it to.
        bundle_id: of the keys whose shares are given.
        since: when the first attempt of which no end is known began, seconds since the epoch.
        written: when this was written, seconds since the epoch.
        nonce: the attempt that our runs started; empty where there is none.
        given: indexes of the shares that it was given.
        earlier: attempts that our runs started before that one. A node that leads again still has the one that it had.
        message: the token that the server made, base64 of PGP ciphertext, until it has been exchanged for one that ends.
        accessor: of the token that ends; empty while there is none.
        expires: when that ends, seconds since the epoch.
        unswept: whether tokens of killed runs may be left since then, as not all tokens could be looked through.
        digest: SHA-256 of the file that it was handed over in; empty where an earlier release wrote this.
    """

    operator: str
    fingerprint: str
    bundle_id: str
    since: float
    written: float
    nonce: str = ""
    given: tuple[int, ...] = ()
    earlier: tuple[str, ...] = ()
    message: str = ""
    accessor: str = ""
    expires: float = 0.0
    digest: str = ""
    unswept: bool = False

    def granted(self, now: float) -> bool:
        """Whether a token that ends was handed over, and has not ended by itself."""
        return bool(self.accessor) and self.expires > now

    @property
    def collecting(self) -> bool:
        """Whether the attempt still wants shares."""
        return bool(self.nonce) and not self.message and not self.accessor

    def render(self) -> str:
        """Return it as JSON, the same text for the same content."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2, sort_keys=True) + "\n"


def parse(text: str) -> Record | None:
    """Return the record that a text is; None where it is none, or damaged: what nobody remembers is begun anew."""
    try:
        content = {"earlier": [], "digest": "", "unswept": False, **json.loads(text)}  # older ones have none
        if content.pop("format") != FORMAT or set(content) != {item.name for item in fields(Record)}:
            return None
        content["given"] = tuple(int(index) for index in content["given"])
        content["earlier"] = tuple(str(nonce) for nonce in content["earlier"])
        for name in ("since", "written", "expires"):
            content[name] = float(content[name])
        return Record(**content)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def newest(texts: Iterable[str]) -> Record | None:
    """Return the record that was written last among the copies of all places; None: there is none."""
    found = [record for text in texts if (record := parse(text)) is not None]
    return max(found, key=lambda record: record.written, default=None)
