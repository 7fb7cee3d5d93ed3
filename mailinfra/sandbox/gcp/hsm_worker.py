"""One PKCS#11 session on the SoftHSM token, in a process of its own: JSON requests on stdin, answers on stdout.

A process per session because python-pkcs11 calls `C_Initialize(NULL)`, so SoftHSM must not see two threads, and
because a crash in the module then takes no other part of the cloud with it. The process ends with its stdin, so a
cloud that was killed leaves none behind; the token itself lives on disk and the next process opens it again.

Run as `python -m mailinfra.sandbox.gcp.hsm_worker MODULE TOKEN_DIR PIN_FILE`.
"""

import base64
import ctypes
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any, Final

import pkcs11
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.mechanisms import MGF, GCMParams
from pkcs11.util.ec import encode_ecdsa_signature, encode_named_curve_parameters

LABEL: Final = "mailinfra-gcp"
_HASHES: Final[dict[str, tuple[Mechanism, MGF, int, bytes]]] = {
    # hash -> PKCS#11 mechanism, mask generation, length in bytes, DER prefix of its DigestInfo (RFC 8017 9.2 note 1)
    "SHA256": (Mechanism.SHA256, MGF.SHA256, 32, bytes.fromhex("3031300d060960864801650304020105000420")),
    "SHA384": (Mechanism.SHA384, MGF.SHA384, 48, bytes.fromhex("3041300d060960864801650304020205000430")),
    "SHA512": (Mechanism.SHA512, MGF.SHA512, 64, bytes.fromhex("3051300d060960864801650304020305000440")),
}
_CURVES: Final = {"P256": ("secp256r1", ec.SECP256R1()), "P384": ("secp384r1", ec.SECP384R1())}
_GCM_NONCE: Final = 12


def initialise_token(module: str, label: str, so_pin: str) -> None:
    """Makes a token of this label in a free slot (python-pkcs11 has no `C_InitToken`).

    Raises OSError when the module refuses.
    """
    library = ctypes.CDLL(module)

    def call(name: str, *args: Any) -> None:
        function = getattr(library, name)
        function.restype = ctypes.c_ulong
        if code := function(*args):
            raise OSError(f"{module}: {name} answered 0x{code:x}")

    call("C_Initialize", None)
    try:
        count = ctypes.c_ulong(0)
        call("C_GetSlotList", ctypes.c_ubyte(0), None, ctypes.byref(count))
        slots = (ctypes.c_ulong * count.value)()
        call("C_GetSlotList", ctypes.c_ubyte(0), slots, ctypes.byref(count))
        free = ctypes.c_ulong(
            slots[count.value - 1]
        )  # SoftHSM keeps one uninitialised slot, and lists it last
        pin = so_pin.encode()
        call("C_InitToken", free, pin, ctypes.c_ulong(len(pin)), label.encode().ljust(32))
    finally:
        call("C_Finalize", None)


def open_session(module: str, pins: dict[str, str]) -> pkcs11.Session:
    """A logged-in read-write session on the token, which is made at the first call."""
    library = pkcs11.lib(module)
    if not any(token.label == LABEL for token in library.get_tokens()):
        library.finalize()
        initialise_token(module, LABEL, pins["so_pin"])
        library.initialize()
    token = library.get_token(token_label=LABEL)
    if pkcs11.TokenFlag.USER_PIN_INITIALIZED not in token.flags:
        with token.open(rw=True, so_pin=pins["so_pin"]) as officer:
            officer.init_pin(pins["pin"])
    return token.open(rw=True, user_pin=pins["pin"])


class Worker:
    """The operations on keys. `key` is the hex of a key's CKA_ID; `algorithm` is Cloud KMS's name for it."""

    def __init__(self, session: pkcs11.Session) -> None:
        self._session = session
        self._keys: dict[str, Any] = {}

    def generate(self, key: str, algorithm: str) -> str:
        """Makes the key unless it is there already; the PEM of its public half, or "" for a secret key."""
        if not self._find(key, None):
            self._generate(bytes.fromhex(key), algorithm)
        return self.public(key)

    def _generate(self, key_id: bytes, algorithm: str) -> None:
        hidden = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.PRIVATE: True}
        match algorithm.split("_"):
            case ["RSA", "SIGN", _, bits, _]:
                self._session.generate_keypair(
                    KeyType.RSA,
                    int(bits),
                    id=key_id,
                    store=True,
                    capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
                    private_template=hidden,
                )
            case ["EC", "SIGN", curve, _]:
                parameters = self._session.create_domain_parameters(
                    KeyType.EC,
                    {Attribute.EC_PARAMS: encode_named_curve_parameters(_CURVES[curve][0])},
                    local=True,
                )
                parameters.generate_keypair(
                    id=key_id,
                    store=True,
                    capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
                    private_template=hidden,
                )
            case ["GOOGLE", "SYMMETRIC", "ENCRYPTION"]:
                self._session.generate_key(
                    KeyType.AES,
                    256,
                    id=key_id,
                    store=True,
                    capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
                    template=hidden,
                )
            case _:
                raise ValueError(f"no such algorithm: {algorithm}")

    def public(self, key: str) -> str:
        """The public half as PEM (SubjectPublicKeyInfo); "" for a secret key."""
        found = self._find(key, ObjectClass.PUBLIC_KEY)
        if not found:
            return ""
        half = found[0]
        numbers: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
        if half.key_type == KeyType.RSA:
            modulus, exponent = half[Attribute.MODULUS], half[Attribute.PUBLIC_EXPONENT]
            numbers = rsa.RSAPublicNumbers(
                int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")
            ).public_key()
        else:
            point: bytes = half[Attribute.EC_POINT]
            raw = point[2:] if point[1] < 0x80 else point[3:]  # the point comes wrapped in a DER OCTET STRING
            curve = next(c for _, c in _CURVES.values() if len(raw) == 1 + 2 * (c.key_size // 8))
            numbers = ec.EllipticCurvePublicKey.from_encoded_point(curve, raw)
        return numbers.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode()

    def sign(self, key: str, algorithm: str, digest: str) -> str:
        """The signature (base64) over a base64 digest: RSA's octets, or an EC signature in DER (RFC 3279)."""
        value = base64.b64decode(digest)
        mechanism, mgf, length, prefix = _HASHES[algorithm.rsplit("_", 1)[1]]
        if len(value) != length:
            raise ValueError(f"{algorithm} signs a digest of {length} bytes, got {len(value)}")
        private = self._private(key, ObjectClass.PRIVATE_KEY)
        if algorithm.startswith("RSA_SIGN_PKCS1_"):
            signature = private.sign(prefix + value, mechanism=Mechanism.RSA_PKCS)
        elif algorithm.startswith("RSA_SIGN_PSS_"):
            signature = private.sign(
                value, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=(mechanism, mgf, length)
            )
        else:
            signature = encode_ecdsa_signature(private.sign(value, mechanism=Mechanism.ECDSA))
        return base64.b64encode(signature).decode()

    def encrypt(self, key: str, plaintext: str, aad: str) -> str:
        """AES-256-GCM inside the token: base64 of a fresh 96-bit nonce, the ciphertext and the tag."""
        nonce = secrets.token_bytes(_GCM_NONCE)
        secret = self._private(key, ObjectClass.SECRET_KEY)
        sealed = secret.encrypt(
            base64.b64decode(plaintext),
            mechanism=Mechanism.AES_GCM,
            mechanism_param=GCMParams(nonce, base64.b64decode(aad), 128),
        )
        return base64.b64encode(nonce + sealed).decode()

    def decrypt(self, key: str, ciphertext: str, aad: str) -> str:
        """The reverse of `encrypt`. Raises a PKCS#11 error when the text, the key or the AAD is another."""
        sealed = base64.b64decode(ciphertext)
        secret = self._private(key, ObjectClass.SECRET_KEY)
        plain = secret.decrypt(
            sealed[_GCM_NONCE:],
            mechanism=Mechanism.AES_GCM,
            mechanism_param=GCMParams(sealed[:_GCM_NONCE], base64.b64decode(aad), 128),
        )
        return base64.b64encode(plain).decode()

    def random(self, size: str) -> str:
        """That many bytes (base64) from the token's generator."""
        return base64.b64encode(self._session.generate_random(int(size) * 8)).decode()

    def destroy(self, key: str) -> str:
        """Removes every object of the key from the token; a key that is gone already is fine."""
        self._keys.pop(key, None)
        for item in self._find(key, None):
            item.destroy()
        return ""

    def _find(self, key: str, kind: ObjectClass | None) -> list[Any]:
        attributes: dict[Attribute, Any] = {Attribute.ID: bytes.fromhex(key)}
        if kind is not None:
            attributes[Attribute.CLASS] = kind
        return list(self._session.get_objects(attributes))

    def _private(self, key: str, kind: ObjectClass) -> Any:
        if key not in self._keys:
            found = self._find(key, kind)
            if not found:
                raise LookupError(f"the token holds no {kind.name} with the id {key}")
            self._keys[key] = found[0]
        return self._keys[key]


def verify(public_pem: str, algorithm: str, digest: bytes, signature: bytes) -> None:
    """Checks a signature that `Worker.sign` gave, with no part of the token. Raises InvalidSignature."""
    public = serialization.load_pem_public_key(public_pem.encode())
    by_name: dict[str, hashes.HashAlgorithm] = {
        "SHA256": hashes.SHA256(),
        "SHA384": hashes.SHA384(),
        "SHA512": hashes.SHA512(),
    }
    digested = by_name[algorithm.rsplit("_", 1)[1]]
    prehashed = utils.Prehashed(digested)
    if isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, digest, ec.ECDSA(prehashed))
    elif isinstance(public, rsa.RSAPublicKey):
        scheme: Any = (
            padding.PSS(padding.MGF1(digested), digested.digest_size)
            if "_PSS_" in algorithm
            else padding.PKCS1v15()
        )
        public.verify(signature, digest, scheme, prehashed)
    else:
        raise TypeError(f"{type(public).__name__} is no key that Cloud KMS signs with here")


def main(module: str, token_dir: str, pin_file: str) -> None:
    """Answers requests until stdin ends."""
    config = Path(token_dir).parent / "softhsm2.conf"
    os.environ["SOFTHSM2_CONF"] = str(config)
    worker = Worker(open_session(module, json.loads(Path(pin_file).read_text())))
    print(json.dumps({"ready": True}), flush=True)  # noqa: T201 - stdout is the channel
    for line in sys.stdin:
        request: dict[str, str] = json.loads(line)
        operation = request.pop("op")
        try:
            if operation not in {"generate", "public", "sign", "encrypt", "decrypt", "random", "destroy"}:
                raise ValueError(f"no such operation: {operation}")
            answer = {"ok": getattr(worker, operation)(**request)}
        except (ValueError, LookupError, pkcs11.PKCS11Error) as error:
            answer = {"error": str(error) or type(error).__name__, "kind": type(error).__name__}
        print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
