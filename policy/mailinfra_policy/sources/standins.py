"""Stand-ins for what a cloud makes by itself: public keys of the declared kind, and what follows from them.

A program publishes them in the DNS. Without an update there are none yet; in their place comes a key of the same type
and length, so that the records around it can be judged. No private half exists: the numbers are digits of a hash.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailinfra.sandbox.providers.values import Object
from mailinfra_policy.resource import Resource

Made = Callable[[str], Resource | None]
"""A resource of the program by its id or ARN."""

_AWS_CURVES: Mapping[str, type[ec.EllipticCurve]] = {
    "ECC_NIST_P256": ec.SECP256R1,
    "ECC_NIST_P384": ec.SECP384R1,
    "ECC_NIST_P521": ec.SECP521R1,
}
_GCP_CURVES: Mapping[str, type[ec.EllipticCurve]] = {
    "EC_SIGN_P256_SHA256": ec.SECP256R1,
    "EC_SIGN_P384_SHA384": ec.SECP384R1,
}
_PKCS1 = "RSASSA_PKCS1_V1_5_SHA_256"


def answer(token: str, arguments: Object, made: Made) -> Object | None:
    """A data source's answer about a resource of the program; None where there is none to be made."""
    match token:
        case "aws:kms/getPublicKey:getPublicKey":
            return _aws_key(arguments, made)
        case "gcp:kms/getKMSCryptoKeyVersion:getKMSCryptoKeyVersion":
            return _gcp_key(arguments, made)
        case "gcp:dns/getKeys:getKeys":
            return _gcp_zone_keys(arguments, made)
    return None


def _digits(seed: str, bits: int) -> int:
    return int.from_bytes(hashlib.shake_256(seed.encode()).digest((bits + 7) // 8))


def public_key(seed: str, bits: int = 0, curve: type[ec.EllipticCurve] | None = None) -> bytes:
    """A public key (DER, SubjectPublicKeyInfo): RSA of so many bits, or on a curve; the same for the same seed."""
    if curve is not None:
        half = ec.derive_private_key(_digits(seed, 200) + 1, curve())
        return half.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    modulus = _digits(seed, bits) | 1 << (bits - 1) | 1
    numbers = rsa.RSAPublicNumbers(65537, modulus)
    return numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _pem(key: bytes) -> str:
    text = base64.b64encode(key).decode()
    lines = "\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    return f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n"


def _aws_key(arguments: Object, made: Made) -> Object | None:
    key = made(str(arguments.get("keyId")))
    if key is None or key.props.get("keyUsage") != "SIGN_VERIFY":
        return None
    spec = str(key.props.get("customerMasterKeySpec"))
    rsa_spec = re.fullmatch(r"RSA_(\d+)", spec)
    if rsa_spec:
        public = public_key(key.urn, int(rsa_spec[1]))
    elif spec in _AWS_CURVES:
        public = public_key(key.urn, curve=_AWS_CURVES[spec])
    else:
        return None
    arn = key.outputs.get("arn", "")
    return {
        "arn": arn,
        "customerMasterKeySpec": spec,
        "id": arn,
        "keyId": arguments["keyId"],
        "keyUsage": "SIGN_VERIFY",
        "publicKey": base64.b64encode(public).decode(),
        "publicKeyPem": _pem(public),
        "signingAlgorithms": [_PKCS1] if rsa_spec else [],
        "encryptionAlgorithms": [],
    }


def _gcp_key(arguments: Object, made: Made) -> Object | None:
    key = made(str(arguments.get("cryptoKey")))
    algorithm = key.get("versionTemplate.algorithm") if key else None
    if key is None or not isinstance(algorithm, str):
        return None
    rsa_bits = re.match(r"RSA_SIGN_\w+?_(\d+)_", algorithm)
    if rsa_bits:
        public = public_key(key.urn, int(rsa_bits[1]))
    elif algorithm in _GCP_CURVES:
        public = public_key(key.urn, curve=_GCP_CURVES[algorithm])
    else:
        return None
    version = int(arguments.get("version", 1))
    name = f"{key.id}/cryptoKeyVersions/{version}"
    return {
        "id": f"//cloudkms.googleapis.com/v1/{name}",
        "name": name,
        "cryptoKey": arguments["cryptoKey"],
        "version": version,
        "algorithm": algorithm,
        "protectionLevel": key.get("versionTemplate.protectionLevel") or "SOFTWARE",
        "state": "ENABLED",
        "publicKeys": [{"algorithm": algorithm, "pem": _pem(public)}],
    }


def _gcp_zone_keys(arguments: Object, made: Made) -> Object | None:
    zone = made(str(arguments.get("managedZone")))
    if zone is None or zone.get("dnssecConfig.state") != "on":
        return None
    raw = public_key(zone.urn, curve=ec.SECP256R1)[-64:]
    tag, digest = _digits(zone.urn, 16), hashlib.sha256(raw).hexdigest().upper()
    key = {
        "id": "0",
        "algorithm": "ecdsap256sha256",
        "creationTime": "",
        "description": "",
        "digests": [{"digest": digest, "type": "sha256"}],
        "dsRecord": f"{tag} 13 2 {digest}",
        "isActive": True,
        "keyLength": 256,
        "keyTag": tag,
        "publicKey": base64.b64encode(raw).decode(),
    }
    return {
        "id": f"{zone.id}/dnsKeys",
        "managedZone": arguments["managedZone"],
        "project": str(zone.id).split("/")[1] if "/" in str(zone.id) else "",
        "keySigningKeys": [key],
        "zoneSigningKeys": [],
    }
