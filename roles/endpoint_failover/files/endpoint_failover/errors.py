"""What goes wrong at the edges, as sentences that say what to do."""

from __future__ import annotations


class FailoverError(Exception):
    """Ends the program; its text is for the operator."""


class SettingsError(FailoverError):
    """The settings cannot be read, or do not fit together."""


class UnreachableError(FailoverError):
    """A request was not answered.

    Args:
        stage: how far it came: `connect`, `tls`, or `answer` (the request was sent, so it may have been carried out).
        why: in a few words.
    """

    def __init__(self, stage: str, why: str) -> None:
        super().__init__(f"{stage}: {why}")
        self.stage = stage
        self.why = why


class IdentityError(FailoverError):
    """The cluster does not know this checker, or nothing is there to log in with."""
