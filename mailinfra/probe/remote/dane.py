"""Lets OpenSSL check what servers present against TLSA records (RFC 7672), as a sending server does. Runs on an
outside host.
"""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

RESULT = re.compile(r"Verify return code: (\d+) \(([^)]*)\)")
MATCHED = re.compile(r"DANE TLSA (.*)")


def check(told: dict[str, Any]) -> dict[str, Any]:
    """One handshake: whether a record matched and the name is right, by OpenSSL's own verdict."""
    address = f"[{told['address']}]" if ":" in told["address"] else told["address"]
    command = ["openssl", "s_client", "-connect", f"{address}:{told['port']}", "-servername", told["name"]]
    command += ["-dane_tlsa_domain", told["name"], "-verify_return_error"]
    for record in told["records"]:
        # As the resolver prints it, long values are in pieces.
        usage, selector, matching, *value = record.split()
        command += ["-dane_tlsa_rrdata", f"{usage} {selector} {matching} {''.join(value)}"]
    if told["starttls"]:
        command += ["-starttls", "smtp", "-name", "probe.invalid"]
    try:
        done = subprocess.run(
            command,
            input="QUIT\r\n",
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=30,
        )
    except subprocess.TimeoutExpired:
        return {**told, "ok": False, "why": "no answer in 30 s"}
    result, matched = RESULT.search(done.stdout), MATCHED.search(done.stdout)
    ok = done.returncode == 0 and result is not None and result[1] == "0" and matched is not None
    why = matched[1].strip() if ok and matched else ""
    if not ok:
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        why = result[2] if result and result[1] != "0" else (lines or ["no TLSA record matched"])[-1]
    return {**told, "ok": ok, "why": why}


def main(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All handshakes: `address`, `port`, `name`, `records` (TLSA, presentation form), `starttls`."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(check, told))
