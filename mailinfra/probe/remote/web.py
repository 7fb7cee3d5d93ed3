"""Fetches over HTTPS from given addresses, the certificate checked for the host's name. Runs on an outside host."""

import http.client
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import Any

AUTHORITIES = "/etc/mailinfra-sandbox/public-authorities.pem"


def fetch(told: dict[str, Any]) -> dict[str, Any]:
    """One document: status, content type and text, or why not."""
    context = ssl.create_default_context(cafile=AUTHORITIES)
    found = {
        "address": told["address"],
        "host": told["host"],
        "status": 0,
        "type": "",
        "text": "",
        "error": "",
    }
    client = http.client.HTTPSConnection(told["host"], context=context, timeout=15)
    try:
        link = socket.create_connection((told["address"], 443), 15)
        client.sock = context.wrap_socket(link, server_hostname=told["host"])
        client.request("GET", told["path"])
        answer = client.getresponse()
        found["status"], found["type"] = answer.status, answer.getheader("Content-Type", "")
        found["text"] = answer.read(65536).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        found["error"] = f"{type(error).__name__}: {error}"
    finally:
        client.close()
    return found


def main(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All documents: `address`, `host`, `path`."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(fetch, told))
