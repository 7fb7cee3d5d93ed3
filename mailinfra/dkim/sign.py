"""The DKIM-Signature header field (RFC 6376): rsa-sha256 (RFC 8301), relaxed/relaxed, oversigned.

Ed25519 (RFC 8463) is not offered: Cloud KMS makes it in software only, and receivers seldom check it.
"""

import hashlib
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterable

from mailinfra.dkim.canonical import header

# Named once more than they occur, so that none can be added afterwards (RFC 6376 5.4, 8.15).
ALWAYS = (
    b"from", b"to", b"cc", b"subject", b"reply-to", b"in-reply-to", b"references",
    b"mime-version", b"content-type", b"content-transfer-encoding",
)  # fmt: skip
# The same where they occur; where they are missing a relay may rightly add them.
PRESENT = (b"date", b"message-id", b"sender", b"content-disposition", b"content-id", b"content-language")
# Named as often as they occur: mailing lists and resenders may add more.
ADDED = (
    b"list-id", b"list-help", b"list-unsubscribe", b"list-unsubscribe-post", b"list-subscribe", b"list-post",
    b"list-owner", b"list-archive", b"resent-date", b"resent-from", b"resent-sender", b"resent-to",
    b"resent-cc", b"resent-message-id", b"autocrypt", b"openpgp",
)  # fmt: skip
SIGNED = frozenset(ALWAYS + PRESENT + ADDED)
NAME = b"DKIM-Signature"


def fold(words: Iterable[str], width: int = 72) -> str:
    """Return the words joined, with a fold (LF, tab) before each that would pass the width."""
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > width and lines[-1]:
            lines.append("")
        lines[-1] += word
    return "\n\t".join(lines)


def prepare(
    fields: Iterable[tuple[bytes, bytes]],
    body_hash: bytes,
    *,
    domain: str,
    selector: str,
    now: int,
    life: int = 0,
) -> tuple[str, bytes]:
    """Return the value of a DKIM-Signature field that still lacks its signature, and the digest to be signed.

    `fields` are the message's `SIGNED` fields, top to bottom: the name in lower case and the relaxed form
    (`canonical.header`). `now` is Unix time in seconds; After `life` seconds it expires; 0 is never.
    """
    found = defaultdict[bytes, list[bytes]](list)
    for name, line in fields:
        found[name].append(line)
    names, lines = [], []
    for name in (*ALWAYS, *PRESENT, *ADDED):
        here = found.get(name, [])
        names += [name] * (len(here) + (name in ALWAYS or (bool(here) and name in PRESENT)))
        lines += here[::-1]  # the lowest first (5.4.2)
    listed = fold(f"{name.decode()}:" for name in names).removesuffix(":")
    expiry = f" x={now + life};" if life else ""
    value = (
        f"v=1; a=rsa-sha256; c=relaxed/relaxed; d={domain};\n\ts={selector}; t={now};{expiry}\n"
        f"\th={listed};\n\tbh={b64encode(body_hash).decode()};\n\tb="
    )
    lines.append(header(NAME, value.encode()))
    return value, hashlib.sha256(b"\r\n".join(lines)).digest()


def finish(value: str, signature: bytes) -> str:
    """Return the value that `prepare` gave with its signature filled in."""
    text = b64encode(signature).decode()
    return value + fold(text[start : start + 72] for start in range(0, len(text), 72))
