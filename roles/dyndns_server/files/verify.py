"""Print what the service answers to a stranger, and whether it serves the certificate that it was given. Reads only.

Arguments: its name, its port, the certificate's file.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import sys
from pathlib import Path

name, port, file = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
# Whether others trust the certificate is not this host's to say; which one it is, is.
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
try:
    with socket.create_connection(("127.0.0.1", port), timeout=3) as plain:
        secured = context.wrap_socket(plain, server_hostname=name)
        served = ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True) or b"")
        connection = http.client.HTTPConnection(name, port)
        connection.sock = secured
        connection.request("GET", "/nic/update")
        print(connection.getresponse().read(20).decode(errors="replace"))
        print("given" if file.read_text(encoding="ascii").startswith(served.strip()) else "another certificate")
except OSError as error:
    print(f"no answer: {error}")
