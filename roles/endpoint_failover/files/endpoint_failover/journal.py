"""Lines to the system's log that never hold up who writes them: syslog(3) waits for as long as nobody reads the log."""

from __future__ import annotations

import os
import socket
import sys
import syslog
import time
from contextlib import suppress

SOCKET = "/dev/log"
_TAG = "endpoint-failover"


def write(priority: int, text: str) -> None:
    """Write a line to the log; to standard error, which cron mails, where the log does not take it at once.

    Args:
        priority: one of syslog's.
        text: a line.
    """
    line = f"<{syslog.LOG_DAEMON | priority}>{time.strftime('%b %e %H:%M:%S')} {_TAG}[{os.getpid()}]: {text}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
            log.setblocking(False)
            log.connect(SOCKET)
            log.send(line.encode())
    except OSError:
        with suppress(OSError):
            sys.stderr.write(f"{text}\n")
