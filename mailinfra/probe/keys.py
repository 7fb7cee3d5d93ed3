"""Looks for RSA private keys in any bytes, in the forms in which keys leak.

* PEM, also inside JSON or YAML; PKCS#1, PKCS#8 (RFC 8017 A.1.2, RFC 5958) as DER;
* that DER in base64 or base64url wherever it falls, with or without line ends, and in hexadecimal;
* JWK (RFC 7517) and the tools' text forms;
* whatever the container: a prime factor of a known modulus beside that modulus.

What looks like a key is parsed: a private key's numbers must fit together to be called one.
"""

import base64
import binascii
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mailinfra.probe.search import base64_core, spots

Order = Literal["big", "little"]
ORDERS: tuple[Order, ...] = ("big", "little")
VERSION_AND_MODULUS = b"\x02\x01\x00\x02\x82"
"""How every RSAPrivateKey begins after its SEQUENCE: version 0, and an INTEGER of 256 octets or more (RSA 2048 up)."""
REACH_BYTES = 16384
"""How far from a mark a key can begin or end, in its most long-winded form."""
DEPTH = 3
"""How many wrappings (base64, gzip) inside each other are undone."""
PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----(.*?)-----END \1PRIVATE KEY-----", re.DOTALL)
PEM_MARK = b"PRIVATE KEY-----"
TEXT_MARKS = (b"privateExponent:", b"PrivateExponent: ", b"<RSAKeyValue>")
JWK_MARK = b'"kty"'
_BASE64_RUN = re.compile(rb"(?:[A-Za-z0-9+/_-]|\\r|\\n|[\r\n\t ])*={0,2}")
_WRAPPED = re.compile(rb"[A-Za-z0-9+/]{64,}={0,2}")
_HEX_RUN = re.compile(rb"[0-9A-Fa-f:\s]*")
GZIP = b"\x1f\x8b\x08"
UNPACKED_BYTES = 1 << 26


@dataclass(frozen=True)
class FoundKey:
    """A private key that was found. `modulus` is 0 where the key could not be read (encrypted, damaged)."""

    form: str
    modulus: int


def find(data: bytes, moduli: Iterable[int] = ()) -> list[FoundKey]:
    """The RSA private keys in `data`, and anything that gives away the private half of one of `moduli`."""
    return list(dict.fromkeys(_find(data, tuple(moduli))))


def find_wrapped(data: bytes, moduli: Iterable[int] = (), depth: int = DEPTH) -> list[FoundKey]:
    """The same, also inside of base64 and gzip in each other: for documents, not for disks."""
    known = tuple(moduli)
    found = dict.fromkeys(_find(data, known))
    if depth:
        for inner in _unwrapped(data):
            found |= dict.fromkeys(find_wrapped(inner, known, depth - 1))
    return list(found)


def _unwrapped(data: bytes) -> Iterator[bytes]:
    for place in spots(data, GZIP):
        # Whatever follows the stream is no reason not to look into it; nor is an end that is missing.
        stream = zlib.decompressobj(wbits=31)
        try:
            yield stream.decompress(data[place:], UNPACKED_BYTES)
        except zlib.error:
            continue
    for match in _WRAPPED.finditer(data):
        text = match[0]
        try:
            yield base64.b64decode(text + b"=" * (-len(text) % 4))
        except binascii.Error:
            continue


def _find(data: bytes, moduli: tuple[int, ...]) -> Iterator[FoundKey]:
    yield from _pem(data)
    yield from _der(data)
    for shift in range(3):
        for place in spots(data, base64_core(VERSION_AND_MODULUS, shift)):
            yield from _in_base64(data, place)
    for spelled in {VERSION_AND_MODULUS.hex().encode(), VERSION_AND_MODULUS.hex().upper().encode()}:
        for place in spots(data, spelled):
            yield from _in_hex(data, place)
    yield from _text(data)
    for modulus in moduli:
        yield from _factors(data, modulus)


def _pem(data: bytes) -> Iterator[FoundKey]:
    for place in spots(data, PEM_MARK):
        match = PEM.search(data[max(0, place - 64) : place + REACH_BYTES])
        if not match:
            continue
        body = re.sub(rb"\\r|\\n|[^A-Za-z0-9+/=]", b"", match[2])
        if b"ENCRYPTED" in match[0]:
            yield FoundKey("PEM, encrypted", 0)
            continue
        kind = match[1]
        text = b"-----BEGIN %bPRIVATE KEY-----\n%b\n-----END %bPRIVATE KEY-----\n" % (kind, body, kind)
        try:
            key = load_pem_private_key(text, None, unsafe_skip_rsa_key_validation=True)
        except Exception:  # OpenSSH's form, a damaged key, a placeholder: only the first is a key
            if b"OPENSSH" in kind:
                yield FoundKey("PEM of OpenSSH", 0)
            continue
        if isinstance(key, rsa.RSAPrivateKey):
            yield FoundKey("PEM", key.public_key().public_numbers().n)


def _der(data: bytes) -> Iterator[FoundKey]:
    for place in spots(data, VERSION_AND_MODULUS):
        modulus = private_modulus(data[place : place + REACH_BYTES])
        if modulus:
            yield FoundKey("DER", modulus)


def private_modulus(numbers: bytes) -> int:
    """The modulus of the RSAPrivateKey whose INTEGERs begin here, with the version; 0 if it is none."""
    found = []
    place = 0
    for _ in range(6):
        value, place = _integer(numbers, place)
        if place < 0:
            return 0
        found.append(value)
    _, modulus, public, private, first, second = found
    fits = modulus == first * second and first > 1 and second > 1 and public > 1
    # e·d = 1 modulo the order, which p-1 divides.
    return modulus if fits and (public * private) % (first - 1) == 1 else 0


def _integer(data: bytes, place: int) -> tuple[int, int]:
    """An INTEGER in DER and where the next element begins, -1 when there is none."""
    if data[place : place + 1] != b"\x02" or place + 2 > len(data):
        return 0, -1
    length, start = data[place + 1], place + 2
    if length & 0x80:
        octets = length & 0x7F
        length, start = int.from_bytes(data[start : start + octets], "big"), start + octets
    if not length or start + length > len(data):
        return 0, -1
    return int.from_bytes(data[start : start + length], "big"), start + length


def _in_base64(data: bytes, place: int) -> Iterator[FoundKey]:
    """A key whose base64 has a mark at `place`. Where its groups of four begin is not known: all are tried."""
    text = _clean_base64(data[place : place + REACH_BYTES])
    before = _clean_base64(data[max(0, place - 64) : place][::-1], reverse=True)[::-1]
    for back in range(4):
        if back > len(before):
            return
        run = (before[len(before) - back :] if back else b"") + text
        decoded = base64.b64decode(run[: len(run) // 4 * 4], altchars=None, validate=False)
        spot = decoded.find(VERSION_AND_MODULUS, 0, 16)
        if spot >= 0 and (modulus := private_modulus(decoded[spot:])):
            yield FoundKey("base64", modulus)
            return


def _clean_base64(data: bytes, reverse: bool = False) -> bytes:
    """The base64 characters that the data begins with, line ends dropped, in the standard alphabet."""
    if reverse:
        run = re.match(rb"(?:n\\|r\\|[A-Za-z0-9+/_-]|[\r\n\t ])*", data)
        text = re.sub(rb"n\\|r\\|[\r\n\t ]", b"", run[0] if run else b"")
    else:
        run = _BASE64_RUN.match(data)
        text = re.sub(rb"\\r|\\n|[\r\n\t =]", b"", run[0] if run else b"")
    return text.replace(b"-", b"+").replace(b"_", b"/")


def _in_hex(data: bytes, place: int) -> Iterator[FoundKey]:
    run = _HEX_RUN.match(data[place : place + 2 * REACH_BYTES])
    text = re.sub(rb"[:\s]", b"", run[0] if run else b"")
    modulus = private_modulus(bytes.fromhex(text[: len(text) // 2 * 2].decode()))
    if modulus:
        yield FoundKey("hexadecimal", modulus)


def _text(data: bytes) -> Iterator[FoundKey]:
    for mark in TEXT_MARKS:
        for place in spots(data, mark):
            after = data[place + len(mark) : place + len(mark) + 256]
            if mark == b"<RSAKeyValue>":
                if b"<D>" in data[place : place + REACH_BYTES]:
                    yield FoundKey("XML", 0)
            elif re.match(rb"\s*(?:[0-9a-f]{2}:){15}|\s*[A-Za-z0-9+/]{40}", after):
                yield FoundKey("text", 0)
    for place in spots(data, JWK_MARK):
        yield from _jwk(data[max(0, place - REACH_BYTES) : place + REACH_BYTES])


def _jwk(text: bytes) -> Iterator[FoundKey]:
    for match in re.finditer(rb"\{[^{}]*\"kty\"[^{}]*\}", text):
        try:
            key: Any = json.loads(match[0])
        except ValueError:
            continue
        if isinstance(key, Mapping) and key.get("kty") == "RSA" and key.get("d"):
            number = str(key.get("n", ""))
            octets = base64.urlsafe_b64decode(number + "=" * (-len(number) % 4))
            yield FoundKey("JWK", int.from_bytes(octets, "big"))


def _factors(data: bytes, modulus: int) -> Iterator[FoundKey]:
    """A prime of the modulus near the modulus itself, big-endian as everybody writes numbers, or little-endian."""
    size = (modulus.bit_length() + 7) // 8
    for order in ORDERS:
        spelled = modulus.to_bytes(size, order)
        # Its middle: the ends are what containers change.
        middle = spelled[size // 4 : size // 4 + 32]
        for place in spots(data, middle):
            around = data[max(0, place - REACH_BYTES // 4) : place + REACH_BYTES // 4]
            if _has_factor(around, modulus, size // 2, order):
                yield FoundKey(f"a prime beside its modulus ({order}-endian)", modulus)
                return


def _has_factor(data: bytes, modulus: int, size: int, order: Order) -> bool:
    for place in range(len(data) - size + 1):
        low = data[place + size - 1] if order == "big" else data[place]
        high = data[place] if order == "big" else data[place + size - 1]
        # A prime is odd, and half as long as the modulus has its top bit set.
        if not (low & 1 and high & 0x80):
            continue
        value = int.from_bytes(data[place : place + size], order)
        if modulus % value == 0 and 1 < value < modulus:
            return True
    return False
