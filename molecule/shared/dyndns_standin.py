"""Runs on the DynDNS server's host in its place: answers each request as it is told to, and logs it as the server does.

Usage: dyndns_standin.py ANSWER CERTIFICATE KEY, where ANSWER is a file with JSON {"status": …, "body": …}, read for each
request. Standard library only.
"""

import http.server
import json
import ssl
import sys
import time
from pathlib import Path


class StandIn(http.server.BaseHTTPRequestHandler):
    """One connection."""

    timeout = 10

    def do_GET(self) -> None:
        """Answer as told, and log it."""
        began = time.monotonic()
        answer = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
        body = answer["body"].encode()
        self.send_response(answer["status"])
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        took = (time.monotonic() - began) * 1000
        agent = self.headers.get("User-Agent", "-")
        line = f'{self.client_address[0]} "{self.requestline}" {answer["status"]} {len(body)} {took:.0f}ms "{agent}"'
        print(line, flush=True)

    def log_message(self, *_: object) -> None:
        """Log nothing else."""


class Server(http.server.ThreadingHTTPServer):
    """Serves each connection in a thread of its own."""

    daemon_threads = True
    context: ssl.SSLContext

    def finish_request(self, request: object, client_address: object) -> None:
        """Shake hands, in the connection's own thread: who does not go through with it holds up nobody else."""
        request.settimeout(StandIn.timeout)  # type: ignore[attr-defined]
        super().finish_request(self.context.wrap_socket(request, server_side=True), client_address)  # type: ignore[arg-type]

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that went away."""


def main() -> None:
    server = Server(("0.0.0.0", 443), StandIn)  # noqa: S104  # in place of a server that listens there too
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.serve_forever()


if __name__ == "__main__":
    main()
