"""Key material and cloud credentials in text, also where the text is packed (base64, gzip) as user-data is.

Sources: RFC 7468 (PEM), RFC 5208 and 5958 (PKCS #8), RFC 8017 A.1.2 (RSA), RFC 5915 (EC), RFC 7517 (JWK), RFC 9580
(OpenPGP); the AWS IAM identifiers' prefixes
(https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html).
"""

import base64
import binascii
import functools
import re
import zlib

_LIMIT = 8 << 20
"""Bytes that are unpacked at most; what is larger is searched up to there."""

_KINDS = (
    (
        "a private key in PEM",
        re.compile(
            r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:\s|\\[nr]|[A-Za-z0-9-]+: [^\n\\]*)*[A-Za-z0-9+/=]{16}"
        ),
    ),
    (
        "a private key in PEM, base64",
        re.compile(
            # `-----BEGIN`, then `PRIVATE KEY` at each of the three places in a group.
            r"LS0tLS1CRUdJTi[A-Za-z0-9+/\s]{0,32}(?:UFJJVkFURSBLRV|BSSVZBVEUgS0VZ|QUklWQVRFIEtFW)"
        ),
    ),
    (
        "a private key in DER",
        re.compile(
            r"(?<![A-Za-z0-9+/])M(?:"
            # PKCS #8: version 0 or 1, then the algorithm's identifier and an octet string.
            r"[A-Za-z0-9+/]{2,7}I(?:BADANBgkqhkiG9w0BAQEFAAS|BADAQBgcqhkjOPQIBBg|BAQAwBQYDK2Vw)"
            r"|IG[A-Za-z0-9+/]AgEAM(?:BMGByqGSM49AgEGC|BAGByqGSM49AgEG)"
            r"|C4CAQAwBQYDK2V[wx]BCIEI"
            # PKCS #1 RSA and SEC 1 EC keys.
            r"|II[A-Za-z0-9+/]{3}IBAAKC"
            r"|HcCAQEEI|IGkAgEBBD"
            r")"
        ),
    ),
    (
        "a private key as JWK",
        re.compile(
            r'"kty"\s*:\s*"(?:RSA|EC|OKP)"[^{}]*"d"\s*:\s*"[A-Za-z0-9_-]{20}'
            r'|"d"\s*:\s*"[A-Za-z0-9_-]{20}[^{}]*"kty"\s*:\s*"(?:RSA|EC|OKP)"'
            r'|"kty"\s*:\s*"oct"[^{}]*"k"\s*:\s*"[A-Za-z0-9_-]{16}'
        ),
    ),
    ("an AWS access key id", re.compile(r"(?<![A-Za-z0-9+/])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9+/=])")),
    (
        "an AWS secret access key",
        re.compile(
            r"(?i:secret_?-?(?:access_?-?)?key(?:_?-?id)?)[\"'\\]*\s*[:=]\s*[\"'\\]*"
            r"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"
        ),
    ),
    ("a Google API key", re.compile(r"(?<![A-Za-z0-9_-])AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])")),
    ("a Google OAuth secret", re.compile(r"(?<![A-Za-z0-9_-])GOCSPX-[A-Za-z0-9_-]{28}(?![A-Za-z0-9_-])")),
    ("an age identity", re.compile(r"AGE-SECRET-KEY-1[A-Z0-9]{58}")),
)
_PACKED = re.compile(r"[A-Za-z0-9+/\s_-]{64,}={0,2}\s*")


@functools.lru_cache(maxsize=4096)
def kind(text: str) -> str:
    """What key material or credential a text holds, as words; empty where none is found.

    A text that is base64 as a whole (of gzip, or of text) is looked into, twice at most.
    """
    return _kind(text, 2)


def _kind(text: str, depth: int) -> str:
    for name, pattern in _KINDS:
        if pattern.search(text):
            return name
    if depth and (inner := _unpacked(text)):
        return _kind(inner, depth - 1)
    return ""


def _unpacked(text: str) -> str:
    if len(text) < 64 or not _PACKED.fullmatch(text):
        return ""
    plain = re.sub(r"\s", "", text).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        data = base64.b64decode(plain + "=" * (-len(plain) % 4))
    except binascii.Error:
        return ""
    if data[:2] == b"\x1f\x8b":
        try:
            data = zlib.decompressobj(wbits=31).decompress(data, _LIMIT)
        except zlib.error:
            return ""
    return data.decode("latin-1")
