"""Runs on a host of the lab: makes the requests that come on standard input, and prints what each was answered.

Input: JSON {"host": …, "port": …, "ca": …, "chains": [[[method, path, body, token], …], …]}. The requests of a chain are
made one after the other, chains side by side. Output: JSON, a list of lists of [status, JSON body]. Standard library only.
"""

import http.client
import json
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor

TOO_MANY = 429
GAVE_UP = 0


def main() -> None:
    task = json.load(sys.stdin)
    trust = ssl.create_default_context(cafile=task["ca"])

    def run(chain: list[tuple[str, str, object, str]]) -> list[list[object]]:
        connection = http.client.HTTPSConnection(task["host"], task["port"], timeout=20, context=trust)
        return [ask(connection, *request) for request in chain]

    with ThreadPoolExecutor(4) as pool:
        json.dump(list(pool.map(run, task["chains"])), sys.stdout)


def ask(connection: http.client.HTTPSConnection, method: str, path: str, body: object, token: str) -> list[object]:
    headers = {"X-Vault-Token": token} if token else {}
    content = None if body is None else json.dumps(body)
    for _ in range(60):
        connection.request(method, "/v1/" + path, content, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != TOO_MANY:
            break
        time.sleep(0.5)  # the rate limit of one address, which all personas share here
    else:
        return [GAVE_UP, {"errors": ["rate limited for half a minute"]}]
    try:
        told = json.loads(text)
    except ValueError:
        told = {}
    return [answer.status, told if isinstance(told, dict) else {}]


if __name__ == "__main__":
    main()
