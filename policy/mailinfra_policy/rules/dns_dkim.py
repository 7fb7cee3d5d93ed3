"""The public keys that receivers check signatures with (RFC 6376, RFC 8301): long enough, and in force."""

import base64
import binascii
import re
from collections.abc import Iterator

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mailinfra_policy.maildns import (
    MailDns,
    RecordSet,
    dns,
    lacking,
    name_of,
    record_set,
    tag_list,
    text_guards,
    undecided,
)
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Context, Control, Finding, Framework, Rule, Severity
from mailinfra_policy.values import UNKNOWN, show

_LABEL = "._domainkey."
_KEYS = {
    "aws:kms/key:Key": "customerMasterKeySpec",
    "gcp:kms/cryptoKey:CryptoKey": "versionTemplate.algorithm",
    "aws:sesv2/emailIdentity:EmailIdentity": "dkimSigningAttributes.nextSigningKeyLength",
    "tls:index/privateKey:PrivateKey": "rsaBits",
}
"""Where each type of key says how long it is; it stands for a public key that is not known yet."""
_BITS = re.compile(r"(?:RSA_|RSA_SIGN_PKCS1_|)(2048|3072|4096)(?:_SHA256|_SHA512|_BIT|)")


def _allowed(bits: int) -> str:
    return f"an RSA key of at least {bits} bits, or an Ed25519 key"


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """A key record holds keys that are long enough."""
    item = record_set(resource)
    if item.kind == "TXT" and item.owner is not UNKNOWN and _LABEL in f"{item.owner}.":
        yield from _text(item, context.stack, context.config.keys.dkim_bits)


def judge_stack(context: Context) -> Iterator[Finding]:
    """Every mail domain has a key, and every alias leads to one."""
    zones, bits = dns(context), context.config.keys.dkim_bits
    good: set[str] = set()
    for item in zones.sets:
        if item.owner is UNKNOWN or _LABEL not in item.owner or item.kind not in ("TXT", "CNAME"):
            continue
        if item.kind == "CNAME":
            faults = [*_alias(item, zones, bits, _allowed(bits))]
            yield from faults
        else:
            # What is not known yet is judged before the record is made; here it counts as a key that is there.
            faults = [fault for fault in _text(item, context.stack, bits) if not fault.unknown]
        if not faults and not all(_revoked(value) for value in item.values):
            good.add(item.owner.partition(_LABEL)[2])
    for domain, sets in zones.domains.items():
        if domain not in good:
            yield from lacking(sets, f"no DKIM key in force below _domainkey.{domain}", _allowed(bits))


def _text(item: RecordSet, stack: Stack, bits: int) -> Iterator[Finding]:
    allowed = _allowed(bits)
    for answer in item.answers:
        if answer.value is UNKNOWN:
            keys = stack.referred(item.resource, answer.path, *_KEYS)
            if not keys:
                yield undecided(item, answer, allowed)
            for key in keys:
                if key_bits(key) < bits:
                    yield Finding(item.resource, answer.path, f"made from {key.type}::{key.name}", allowed)
        elif fault := _fault(answer.value, bits):
            yield Finding(item.resource, answer.path, fault, allowed)


def _alias(item: RecordSet, zones: MailDns, bits: int, allowed: str) -> Iterator[Finding]:
    for answer in item.answers:
        if answer.value is UNKNOWN:
            identities = zones.stack.referred(item.resource, answer.path, *_KEYS)
            if not identities:
                yield undecided(item, answer, allowed)
            for key in identities:
                if key_bits(key) < bits:
                    yield Finding(item.resource, answer.path, f"made from {key.type}::{key.name}", allowed)
        elif not zones.answers(name_of(answer.value), "TXT"):
            yield Finding(
                item.resource, answer.path, f"{answer.value}, which this stack does not hold", allowed
            )


def key_bits(key: Resource) -> int:
    """How long the RSA keys of a key resource are; 0 where it is not known or no key for RSA signatures."""
    if key.type == "aws:kms/key:Key" and key.get("keyUsage") != "SIGN_VERIFY":
        return 0
    path = _KEYS.get(key.type, "")
    value = key.get(path) if path else None
    match = _BITS.fullmatch(str(value)) if isinstance(value, str | int) else None
    return int(match[1]) if match else 0


def _revoked(value: object) -> bool:
    tags = tag_list(value) if isinstance(value, str) else None
    return tags is not None and tags.get("p") == ""


def _fault(text: str, bits: int) -> str:
    """What is wrong with a key record; empty where nothing is (a revoked key is none)."""
    tags = tag_list(text)
    if tags is None or "p" not in tags or ("v" in tags and next(iter(tags)) != "v"):
        return show(text)
    if tags.get("v", "DKIM1") != "DKIM1":
        return f"v={tags['v']}"
    if not tags["p"]:
        return ""
    if "y" in re.split(r"\s*:\s*", tags.get("t", "")):
        return "t=y: receivers treat the mail as not signed"
    if "h" in tags and "sha256" not in re.split(r"\s*:\s*", tags["h"]):
        return f"h={tags['h']}"
    kind = tags.get("k", "rsa")
    try:
        der = base64.b64decode(re.sub(r"\s", "", tags["p"]), validate=True)
    except binascii.Error:
        return f"p={show(tags['p'], 40)}: no base64"
    if kind == "ed25519":
        return "" if len(der) == 32 else f"an Ed25519 key of {len(der)} octets"
    if kind != "rsa":
        return f"k={kind}"
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        return f"p={show(tags['p'], 40)}: no public key"
    if not isinstance(key, rsa.RSAPublicKey):
        return "a key that is not RSA"
    return "" if key.key_size >= bits else f"{key.key_size} bits"


# 1024 bits, made for this list; nobody holds its private half.
_SHORT = (
    "v=DKIM1; k=rsa; p="
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDR2pmhMFXnQECpBcV5CbVuV9z0w/Z24R6X+bjj0Hiuji3GddfdRj4ylk0OLa4E"
    "jnCOAUk6z4ihxFQhEbWaGldw+yUc05vUlO1JCuS8CWLx4WdnuFboREw0A9s+iD4RD0ekiOkb8gW6/c4gPm83tiysYJEtetv5MoqS"
    "jYRq49jgOwIDAQAB"
)

RULE = Rule(
    id="dns-dkim",
    title="DKIM keys are published, in force and long enough",
    severity=Severity.HIGH,
    why="A short key can be factored, and then anyone signs in the domain's name; a missing or broken one makes "
    "genuine mail look forged.",
    mend="Publish the public half of an RSA key of at least 2048 bits at <selector>._domainkey.<domain>, without t=y.",
    controls=(
        Control(Framework.NIST, "Security Recommendation 4-3"),
        Control(Framework.ISO27001, "A.8.24"),
        Control(Framework.SOC2, "CC6.1"),
    ),
    covers=text_guards("v=DKIM1; k=", "v=DKIM1; k=rsa; t=y; p=AAAA", "v=DKIM1; k=rsa; p=AAAA", _SHORT),
    judge=judge,
    judge_stack=judge_stack,
)
