#!/usr/bin/python3
"""Judges a received message as an independent receiver does: DKIM by dkimpy and by OpenDKIM, SPF by pyspf,
DMARC.

Runs on an outside host under Debian's python3. Reads the message from a file or standard input, prints one
JSON object. The client's address and HELO are those of the topmost Received field, which the host itself
wrote; the envelope sender is that of Return-Path.

Usage: verify-message [FILE]
"""

import email
import email.policy
import email.utils
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import dkim
import dns.resolver
import spf  # type: ignore[import-not-found]  # Debian's python3-spf, on the machine only

RECEIVED = re.compile(r"from\s+(?P<helo>\S+)\s+\(\S*\s*\[(?:IPv6:)?(?P<address>[0-9a-fA-F.:]+)\]\)")


def signatures(message: bytes) -> list[dict[str, Any]]:
    """Each DKIM signature: domain, selector, algorithm and whether dkimpy finds it valid."""
    found = []
    judge = dkim.DKIM(message)
    fields = [value for name, value in judge.headers if name.lower() == b"dkim-signature"]
    for number, field in enumerate(fields):
        tags = dkim.parse_tag_value(field)
        entry: dict[str, Any] = {
            t: tags.get(k.encode(), b"").decode() for t, k in (("domain", "d"), ("selector", "s"))
        }
        entry["algorithm"] = tags.get(b"a", b"").decode()
        try:
            entry["valid"] = bool(dkim.DKIM(message).verify(idx=number))
            entry["error"] = "" if entry["valid"] else "the signature does not verify"
        except dkim.DKIMException as error:
            entry.update(valid=False, error=str(error))
        found.append(entry)
    return found


def opendkim(message: bytes) -> dict[str, Any]:
    """What OpenDKIM's own verifier says."""
    done = subprocess.run(["opendkim-testmsg"], input=message, capture_output=True, check=False, timeout=60)
    return {"valid": done.returncode == 0, "error": done.stderr.decode(errors="replace").strip()}


def sender_policy(message: email.message.EmailMessage) -> dict[str, Any]:
    """The SPF result of the host that handed the message in."""
    match = RECEIVED.search(" ".join(str(message.get("Received", "")).split()))
    if match is None:
        return {"result": "none", "error": "no address in the topmost Received field", "domain": ""}
    envelope = email.utils.parseaddr(str(message.get("Return-Path", "")))[1]
    address, helo = match["address"], match["helo"]
    result, explanation = spf.check2(i=address, s=envelope or f"postmaster@{helo}", h=helo)
    domain = envelope.rpartition("@")[2] or helo
    return {
        "result": result,
        "error": explanation,
        "domain": domain.lower(),
        "address": address,
        "helo": helo,
    }


def policy_of(domain: str) -> tuple[str, dict[str, str]] | None:
    """The nearest DMARC record at or above a domain, and where it stands (RFC 7489 6.6.3, the organisation
    found by going up)."""
    labels = domain.split(".")
    for start in range(len(labels) - 1):
        name = ".".join(labels[start:])
        try:
            answer = dns.resolver.resolve(f"_dmarc.{name}", "TXT")
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            continue
        for record in answer:
            text = b"".join(record.strings).decode()
            if text.startswith("v=DMARC1"):
                pairs = (part.partition("=") for part in text.split(";") if "=" in part)
                return name, {key.strip(): value.strip() for key, _, value in pairs}
    return None


def aligned(domain: str, author: str, organisation: str, mode: str) -> bool:
    """Whether a domain stands for the author's: equal, or under `r` below the same organisational domain."""
    domain, author = domain.lower(), author.lower()
    if mode == "s" or domain == author:
        return domain == author
    return domain == organisation or domain.endswith("." + organisation)


def judge(raw: bytes) -> dict[str, Any]:
    """The whole verdict."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    author = email.utils.parseaddr(str(message.get("From", "")))[1].rpartition("@")[2].lower()
    # What the host itself put on top when it delivered is no part of what was signed; DKIM reads fields by name.
    signed, policy_sender = signatures(raw), sender_policy(message)
    found = policy_of(author) if author else None
    dmarc: dict[str, Any] = {"domain": author, "policy": None, "dkim_aligned": False, "spf_aligned": False}
    if found is not None:
        where, tags = found
        dmarc["policy"] = tags.get("p", "none")
        dmarc["dkim_aligned"] = any(
            s["valid"] and aligned(s["domain"], author, where, tags.get("adkim", "r")) for s in signed
        )
        dmarc["spf_aligned"] = policy_sender["result"] == "pass" and aligned(
            policy_sender["domain"], author, where, tags.get("aspf", "r")
        )
    dmarc["pass"] = dmarc["dkim_aligned"] or dmarc["spf_aligned"]
    return {"dkim": signed, "opendkim": opendkim(raw), "spf": policy_sender, "dmarc": dmarc}


if __name__ == "__main__":
    data = Path(sys.argv[1]).read_bytes() if len(sys.argv) > 1 else sys.stdin.buffer.read()
    # LF line ends, as a maildir has them, are not what was signed.
    json.dump(judge(re.sub(rb"\r?\n", b"\r\n", data)), sys.stdout, indent=1)
    sys.stdout.write("\n")
