"""Names and record values, checked and brought into one form.

Whatever a program declares passes through here before it reaches a name server: a value that is not valid for
its type is refused, and what passes is written anew by dnspython, so nothing of the original quoting
survives.
"""

import re
from functools import lru_cache

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

TYPES = frozenset(
    {
        "A",
        "AAAA",
        "CAA",
        "CNAME",
        "DS",
        "HTTPS",
        "MX",
        "NAPTR",
        "NS",
        "OPENPGPKEY",
        "PTR",
        "SMIMEA",
        "SOA",
        "SPF",
    }
    | {"SRV", "SSHFP", "SVCB", "TLSA", "TXT", "URI"}
)
TEXT_TYPES = frozenset({"TXT", "SPF"})
MAX_TTL = 2**31 - 1
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s"]+)', re.DOTALL)


class RefusedError(ValueError):
    """A record that its provider would refuse too. The message names the record and what is allowed."""


def fqdn(name: str) -> str:
    """The name in lower case with its final dot. Raises `RefusedError` if it is no domain name.

    Octal escapes as Route 53 gives them (`\\052` for a leading asterisk) are understood.
    """
    if not isinstance(name, str) or not name.strip():
        raise RefusedError(f"{name!r} is no domain name: it is empty")
    return _fqdn(name)


@lru_cache(maxsize=16_384)  # each change of a zone goes through all its names anew
def _fqdn(name: str) -> str:
    text = re.sub(r"\\([0-3][0-7]{2})", lambda m: chr(int(m.group(1), 8)), name.strip())
    if not re.fullmatch(r"[A-Za-z0-9_*.-]+", text):
        raise RefusedError(
            f"{name!r} is no domain name: only letters, digits, '-', '_', '.' and '*' are allowed"
        )
    try:
        parsed = dns.name.from_text(text)
    except dns.exception.DNSException as error:
        raise RefusedError(f"{name!r} is no domain name: {error}") from error
    return str(parsed.canonicalize().to_text())


def is_below(name: str, zone: str) -> bool:
    """Whether `name` is `zone` or lies below it; both as `fqdn` gives them."""
    return zone in (".", name) or name.endswith("." + zone)


def ancestors(name: str) -> list[str]:
    """The names above `name`, nearest first, without the root: `a.b.test.` gives `b.test.`, `test.`."""
    labels = name.rstrip(".").split(".")
    return [".".join(labels[i:]) + "." for i in range(1, len(labels))]


def ttl_of(value: object, where: str) -> int:
    """A time to live in seconds, 0 to 2^31-1. Raises `RefusedError` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise RefusedError(f"{where}: TTL {value!r} is no number of seconds")
    try:
        seconds = int(value)
    except ValueError as error:
        raise RefusedError(f"{where}: TTL {value!r} is no number of seconds") from error
    if not 0 <= seconds <= MAX_TTL:
        raise RefusedError(f"{where}: TTL {seconds} is outside 0 to {MAX_TTL} seconds")
    return seconds


def rtype_of(value: object, where: str) -> str:
    """A record type that the sandbox serves, upper case. Raises `RefusedError` otherwise."""
    text = str(value).upper()
    if text not in TYPES:
        raise RefusedError(
            f"{where}: record type {value!r} is not served here; allowed are {', '.join(sorted(TYPES))}"
        )
    return text


def _escape(data: bytes) -> str:
    return '"' + "".join(chr(c) if 32 <= c < 127 and c not in b'"\\' else f"\\{c:03d}" for c in data) + '"'


def _unescape(text: str) -> bytes:
    """The octets of a quoted string's inside: `\\DDD` is decimal (RFC 1035 5.1), `\\x` is x."""
    out = bytearray()
    i = 0
    raw = text.encode("utf-8")
    while i < len(raw):
        if raw[i : i + 1] == b"\\" and i + 1 < len(raw):
            digits = raw[i + 1 : i + 4]
            if len(digits) == 3 and digits.isdigit() and int(digits) < 256:
                out.append(int(digits))
                i += 4
            else:
                out.append(raw[i + 1])
                i += 2
        else:
            out.append(raw[i])
            i += 1
    return bytes(out)


def text_strings(value: str, where: str, *, quoted_only: bool) -> str:
    """The strings of a TXT value in zone-file form, each at most 255 octets (RFC 1035 3.3.14).

    With `quoted_only` every string must stand in double quotes, as Route 53 demands; without, bare words are
    strings of their own, as Cloud DNS reads them. Raises `RefusedError` for a string that is too long:
    neither splits it.
    """
    strings: list[bytes] = []
    rest = value.strip()
    while rest:
        match = _STRING.match(rest)
        if match is None or (quoted_only and match.group(1) is None):
            raise RefusedError(
                f"{where}: the TXT value {value[:60]!r} must be one or more strings in double quotes"
            )
        inside = match.group(1) if match.group(1) is not None else match.group(2)
        data = _unescape(inside)
        if len(data) > 255:
            raise RefusedError(
                f"{where}: a TXT string of {len(data)} octets; "
                "at most 255 are allowed, split it into several strings"
            )
        strings.append(data)
        rest = rest[match.end() :].lstrip()
    if not strings:
        raise RefusedError(f"{where}: an empty TXT value; write two double quotes for an empty string")
    return " ".join(_escape(s) for s in strings)


def unquoted(text: str) -> bytes:
    """What a TXT value in zone-file form says: its strings put together."""
    return b"".join(
        _unescape(m.group(1) if m.group(1) is not None else m.group(2)) for m in _STRING.finditer(text)
    )


def text_chunks(value: str) -> str:
    """One text of any length as TXT strings of 255 octets, as Cloudflare writes it."""
    data = value.encode("utf-8")
    return " ".join(_escape(data[i : i + 255]) for i in range(0, max(len(data), 1), 255))


def canonical(rtype: str, value: str, where: str) -> str:
    """The value as a name server writes it. Raises `RefusedError` if it is not valid for the type."""
    if not isinstance(value, str):
        raise RefusedError(f"{where}: the value {value!r} is no text")
    if any(ord(c) < 32 for c in value):
        raise RefusedError(f"{where}: the value {value[:60]!r} has control characters")
    try:
        return _parsed(rtype, value)
    except (dns.exception.DNSException, ValueError, KeyError) as error:
        raise RefusedError(f"{where}: {value[:80]!r} is no valid {rtype} value ({error})") from error


@lru_cache(maxsize=16_384)  # each change of a zone goes through all its values anew
def _parsed(rtype: str, value: str) -> str:
    rdata = dns.rdata.from_text(
        dns.rdataclass.IN, dns.rdatatype.from_text(rtype), value, origin=dns.name.root, relativize=False
    )
    # What cannot go on the wire (a name of 300 octets, a string of 256) is not valid either.
    rdata.to_digestable()
    return str(rdata.to_text())
