"""Cloud KMS v1 over the sandbox's token (https://cloud.google.com/kms/docs/reference/rest).

Key rings and keys cannot be deleted, only versions destroyed, as in the real service. Protection level SOFTWARE and
HSM are both served by the token.
"""

import base64
import binascii
import hashlib
import re
import secrets
import struct
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import google_crc32c

from mailinfra.sandbox.gcp.hsm import Hsm, HsmError
from mailinfra.sandbox.gcp.http import ApiError, Request, Router, whole
from mailinfra.sandbox.gcp.identity import Identity, Resource, project_policy
from mailinfra.sandbox.gcp.store import Document, Store, from_timestamp, now, timestamp

SYMMETRIC: Final = "GOOGLE_SYMMETRIC_ENCRYPTION"
ALGORITHMS: Final[dict[str, tuple[str, ...]]] = {
    "ENCRYPT_DECRYPT": (SYMMETRIC,),
    "ASYMMETRIC_SIGN": (
        "RSA_SIGN_PKCS1_2048_SHA256",
        "RSA_SIGN_PKCS1_3072_SHA256",
        "RSA_SIGN_PKCS1_4096_SHA256",
        "RSA_SIGN_PKCS1_4096_SHA512",
        "RSA_SIGN_PSS_2048_SHA256",
        "RSA_SIGN_PSS_3072_SHA256",
        "RSA_SIGN_PSS_4096_SHA256",
        "RSA_SIGN_PSS_4096_SHA512",
        "EC_SIGN_P256_SHA256",
        "EC_SIGN_P384_SHA384",
    ),
}
_LEVELS: Final = ("SOFTWARE", "HSM")
_MAX_PLAINTEXT: Final = 64 * 1024
_MAX_PLAINTEXT_HSM: Final = 8 * 1024  # plaintext and AAD together
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,63}")
_MIN_ROTATION: Final = timedelta(days=1)
_DESTROY_AFTER: Final = timedelta(days=30)


def _crc(data: bytes) -> str:
    return str(google_crc32c.value(data))


def _duration(text: str, field: str) -> timedelta:
    if not re.fullmatch(r"\d+(\.\d+)?s", text):
        raise ApiError(400, f"{field}: a duration such as 7776000s is expected, got {text!r}")
    return timedelta(seconds=float(text[:-1]))


def _bytes(body: Document, field: str) -> bytes:
    try:
        data = base64.b64decode(body.get(field, ""), validate=True)
    except (binascii.Error, TypeError) as error:
        raise ApiError(400, f"Invalid value at '{field}' (TYPE_BYTES), Base64 decoding failed") from error
    wanted = body.get(f"{field}Crc32c")
    if wanted is not None and str(wanted) != _crc(data):
        raise ApiError(400, f"The checksum in field {field}_crc32c did not match the data in field {field}.")
    return data


class Kms:
    """The API's resources and operations. Every public method's names are those of the REST paths."""

    def __init__(self, store: Store, hsm: Hsm, identity: Identity) -> None:
        self._store = store
        self._hsm = hsm
        self._identity = identity

    def routes(self, router: Router) -> None:
        """Adds the API's paths."""
        rings = "/v1/projects/{project}/locations/{location}/keyRings"
        keys = f"{rings}/{{ring}}/cryptoKeys"
        versions = f"{keys}/{{key}}/cryptoKeyVersions"
        router.add("POST", rings, self._create_ring)
        router.add("GET", rings, self._list_rings)
        router.add("GET", f"{rings}/{{ring}}", self._get_ring)
        router.add("POST", keys, self._create_key)
        router.add("GET", keys, self._list_keys)
        router.add("GET", f"{keys}/{{key}}", self._get_key)
        router.add("PATCH", f"{keys}/{{key}}", self._patch_key)
        router.add("POST", f"{keys}/{{key}}:encrypt", self._encrypt)
        router.add("POST", f"{keys}/{{key}}:decrypt", self._decrypt)
        router.add("POST", f"{keys}/{{key}}:updatePrimaryVersion", self._update_primary)
        router.add("POST", versions, self._create_version)
        router.add("GET", versions, self._list_versions)
        router.add("GET", f"{versions}/{{version}}", self._get_version)
        router.add("PATCH", f"{versions}/{{version}}", self._patch_version)
        router.add("GET", f"{versions}/{{version}}/publicKey", self._public_key)
        router.add("POST", f"{versions}/{{version}}:asymmetricSign", self._sign)
        router.add("POST", f"{versions}/{{version}}:destroy", self._destroy)
        router.add("POST", f"{versions}/{{version}}:restore", self._restore)
        router.add("POST", "/v1/projects/{project}/locations/{location}:generateRandomBytes", self._random)
        self._identity.policy_routes(router, f"{rings}/{{ring}}", _ring_resource, "cloudkms.keyRings")
        self._identity.policy_routes(router, f"{keys}/{{key}}", _key_resource, "cloudkms.cryptoKeys")

    # Key rings

    def _create_ring(self, request: Request, project: str, location: str) -> Document:
        ring = request.query.get("keyRingId", "")
        self._identity.require(
            request.principal, "cloudkms.keyRings.create", _location_resource(project, location)
        )
        if not _NAME.fullmatch(ring):
            raise ApiError(400, f"keyRingId {ring!r} must match [a-zA-Z0-9_-]{{1,63}}")
        name = _ring_resource(project, location, ring).name
        with self._store.transaction():
            if self._store.get("keyRing", name):
                raise ApiError(409, f"KeyRing {name} already exists.")
            body = {"name": name, "createTime": timestamp(now())}
            self._store.put("keyRing", name, body)
        return body

    def _list_rings(self, request: Request, project: str, location: str) -> Document:
        resource = _location_resource(project, location)
        self._identity.require(request.principal, "cloudkms.keyRings.list", resource)
        found = [body for _, body in self._store.list("keyRing", f"{resource.name}/keyRings/")]
        return {"keyRings": found, "totalSize": len(found)}

    def _get_ring(self, request: Request, project: str, location: str, ring: str) -> Document:
        resource = _ring_resource(project, location, ring)
        self._identity.require(request.principal, "cloudkms.keyRings.get", resource)
        return self._known("keyRing", resource.name)

    # Keys

    def _create_key(self, request: Request, project: str, location: str, ring: str) -> Document:
        parent = _ring_resource(project, location, ring)
        self._identity.require(request.principal, "cloudkms.cryptoKeys.create", parent)
        self._known("keyRing", parent.name)
        key, body = request.query.get("cryptoKeyId", ""), request.json()
        if not _NAME.fullmatch(key):
            raise ApiError(400, f"cryptoKeyId {key!r} must match [a-zA-Z0-9_-]{{1,63}}")
        purpose = body.get("purpose", "")
        if purpose not in ALGORITHMS:
            raise ApiError(400, f"purpose {purpose!r}: the sandbox has {', '.join(ALGORITHMS)}")
        template = {"protectionLevel": "SOFTWARE", **body.get("versionTemplate", {})}
        if purpose == "ENCRYPT_DECRYPT":
            template.setdefault("algorithm", SYMMETRIC)
        self._check_template(purpose, template)
        name = f"{parent.name}/cryptoKeys/{key}"
        created = now()
        document: Document = {
            "name": name,
            "purpose": purpose,
            "createTime": timestamp(created),
            "versionTemplate": template,
            "labels": body.get("labels", {}),
            "destroyScheduledDuration": body.get(
                "destroyScheduledDuration", f"{int(_DESTROY_AFTER.total_seconds())}s"
            ),
            "nextVersion": 1,
        }
        _duration(document["destroyScheduledDuration"], "destroyScheduledDuration")
        self._set_rotation(document, body)
        with self._store.transaction():
            if self._store.get("cryptoKey", name):
                raise ApiError(409, f"CryptoKey {name} already exists.")
            self._store.put("cryptoKey", name, document)
        if request.query.get("skipInitialVersionCreation", "false").lower() != "true":
            version = self._new_version(name)
            if purpose == "ENCRYPT_DECRYPT":
                self._make_primary(name, version)
        return self._shown_key(name)

    @staticmethod
    def _check_template(purpose: str, template: Document) -> None:
        if template.get("algorithm") not in ALGORITHMS[purpose]:
            raise ApiError(
                400,
                f"versionTemplate.algorithm {template.get('algorithm')!r} does not fit the purpose {purpose}: "
                f"{', '.join(ALGORITHMS[purpose])}",
            )
        if template["protectionLevel"] not in _LEVELS:
            raise ApiError(
                400, f"protectionLevel {template['protectionLevel']!r}: the sandbox has {', '.join(_LEVELS)}"
            )

    @staticmethod
    def _set_rotation(document: Document, body: Document) -> None:
        period = body.get("rotationPeriod")
        if not period:
            document.pop("rotationPeriod", None)
            document.pop("nextRotationTime", None)
            return
        if document["purpose"] != "ENCRYPT_DECRYPT":
            raise ApiError(
                400, f"rotationPeriod is only for ENCRYPT_DECRYPT keys, this one is {document['purpose']}"
            )
        if _duration(period, "rotationPeriod") < _MIN_ROTATION:
            raise ApiError(400, f"rotationPeriod {period}: at least 24 hours (86400s)")
        document["rotationPeriod"] = period
        document["nextRotationTime"] = body.get("nextRotationTime") or timestamp(
            now() + _duration(period, "rotationPeriod")
        )

    def _list_keys(self, request: Request, project: str, location: str, ring: str) -> Document:
        resource = _ring_resource(project, location, ring)
        self._identity.require(request.principal, "cloudkms.cryptoKeys.list", resource)
        names = [name for name, _ in self._store.list("cryptoKey", f"{resource.name}/cryptoKeys/")]
        return {"cryptoKeys": [self._shown_key(name) for name in names], "totalSize": len(names)}

    def _get_key(self, request: Request, **names: str) -> Document:
        resource = _key_resource(**names)
        self._identity.require(request.principal, "cloudkms.cryptoKeys.get", resource)
        return self._shown_key(resource.name)

    def _shown_key(self, name: str) -> Document:
        document = self._rotated(name)
        document.pop("nextVersion")
        if primary := document.pop("primaryVersion", None):
            document["primary"] = self._version(f"{name}/cryptoKeyVersions/{primary}")
        return document

    def _patch_key(self, request: Request, **names: str) -> Document:
        resource = _key_resource(**names)
        self._identity.require(request.principal, "cloudkms.cryptoKeys.update", resource)
        body, mask = request.json(), set(request.query.get("updateMask", "").split(","))
        if (
            unknown := mask
            - {"labels", "rotationPeriod", "nextRotationTime", "versionTemplate"}
            - {f"versionTemplate.{field}" for field in ("algorithm", "protectionLevel")}
        ):
            raise ApiError(400, f"updateMask: {', '.join(sorted(unknown))} cannot be updated")
        with self._store.transaction():
            document = self._known("cryptoKey", resource.name)
            if "labels" in mask:
                document["labels"] = body.get("labels", {})
            if mask & {"rotationPeriod", "nextRotationTime"}:
                self._set_rotation(
                    document,
                    {
                        field: body.get(field) if field in mask else document.get(field)
                        for field in ("rotationPeriod", "nextRotationTime")
                    },
                )
            if any(field.startswith("versionTemplate") for field in mask):
                template = document["versionTemplate"] | body.get("versionTemplate", {})
                self._check_template(document["purpose"], template)
                document["versionTemplate"] = template
            self._store.put("cryptoKey", resource.name, document)
        return self._shown_key(resource.name)

    def _rotated(self, name: str) -> Document:
        """The key's document, after the rotations that are due."""
        document = self._known("cryptoKey", name)
        due = document.get("nextRotationTime")
        if due is None or from_timestamp(due) > now():
            return document
        with self._store.transaction():
            document = self._known("cryptoKey", name)
            due = from_timestamp(document["nextRotationTime"])
            if due > now():
                return document
            period = _duration(document["rotationPeriod"], "rotationPeriod")
            document["nextRotationTime"] = timestamp(due + period * ((now() - due) // period + 1))
            self._store.put("cryptoKey", name, document)
            self._make_primary(name, self._new_version(name))
        return self._known("cryptoKey", name)

    def _make_primary(self, name: str, version: str) -> None:
        with self._store.transaction():
            self._store.put("cryptoKey", name, self._known("cryptoKey", name) | {"primaryVersion": version})

    def _update_primary(self, request: Request, **names: str) -> Document:
        resource = _key_resource(**names)
        self._identity.require(request.principal, "cloudkms.cryptoKeys.update", resource)
        version = str(request.json().get("cryptoKeyVersionId", ""))
        if self._known("cryptoKey", resource.name)["purpose"] != "ENCRYPT_DECRYPT":
            raise ApiError(400, "Only an ENCRYPT_DECRYPT key has a primary version.")
        self._enabled(f"{resource.name}/cryptoKeyVersions/{version}")
        self._make_primary(resource.name, version)
        return self._shown_key(resource.name)

    # Versions

    def _new_version(self, key: str) -> str:
        with self._store.transaction():
            document = self._known("cryptoKey", key)
            number = str(document["nextVersion"])
            self._store.put("cryptoKey", key, document | {"nextVersion": int(number) + 1})
        template = document["versionTemplate"]
        key_id = secrets.token_hex(16)
        pem = self._hsm.generate(key_id, template["algorithm"])
        name = f"{key}/cryptoKeyVersions/{number}"
        created = timestamp(now())
        self._store.put(
            "cryptoKeyVersion",
            name,
            {
                "name": name,
                "state": "ENABLED",
                "protectionLevel": template["protectionLevel"],
                "algorithm": template["algorithm"],
                "createTime": created,
                "generateTime": created,
                "hsm": {"id": key_id, "pem": pem},
            },
        )
        return number

    def _create_version(self, request: Request, **names: str) -> Document:
        resource = _key_resource(**names)
        self._identity.require(request.principal, "cloudkms.cryptoKeyVersions.create", resource)
        number = self._new_version(resource.name)
        return self._version(f"{resource.name}/cryptoKeyVersions/{number}")

    def _list_versions(self, request: Request, **names: str) -> Document:
        resource = _key_resource(**names)
        self._identity.require(request.principal, "cloudkms.cryptoKeyVersions.list", resource)
        self._known("cryptoKey", resource.name)
        found = [
            self._version(name)
            for name, _ in self._store.list("cryptoKeyVersion", f"{resource.name}/cryptoKeyVersions/")
        ]
        if match := re.fullmatch(r"state\s*[:=]\s*\"?(\w+)\"?", request.query.get("filter", "")):
            found = [version for version in found if version["state"] == match[1]]
        found.sort(key=lambda version: int(version["name"].rsplit("/", 1)[1]))
        return {"cryptoKeyVersions": found, "totalSize": len(found)}

    def _get_version(self, request: Request, version: str, **names: str) -> Document:
        resource = _key_resource(**names)
        self._identity.require(request.principal, "cloudkms.cryptoKeyVersions.get", resource)
        return self._version(f"{resource.name}/cryptoKeyVersions/{version}")

    def _patch_version(self, request: Request, version: str, **names: str) -> Document:
        resource = _key_resource(**names)
        self._identity.require(request.principal, "cloudkms.cryptoKeyVersions.update", resource)
        name = f"{resource.name}/cryptoKeyVersions/{version}"
        state = request.json().get("state")
        with self._store.transaction():
            document = self._document(name)
            if state not in {"ENABLED", "DISABLED"} or document["state"] not in {"ENABLED", "DISABLED"}:
                raise ApiError(400, f"{name} cannot go from {document['state']} to {state}.")
            self._store.put("cryptoKeyVersion", name, document | {"state": state})
        return self._version(name)

    def _destroy(self, request: Request, version: str, **names: str) -> Document:
        resource = _key_resource(**names)
        self._identity.require(request.principal, "cloudkms.cryptoKeyVersions.destroy", resource)
        name = f"{resource.name}/cryptoKeyVersions/{version}"
        with self._store.transaction():
            document = self._document(name)
            if document["state"] not in {"ENABLED", "DISABLED"}:
                raise _precondition(
                    f"{name} is {document['state']}: only an enabled or disabled version can go."
                )
            wait = _duration(
                self._known("cryptoKey", resource.name)["destroyScheduledDuration"],
                "destroyScheduledDuration",
            )
            self._store.put(
                "cryptoKeyVersion",
                name,
                document | {"state": "DESTROY_SCHEDULED", "destroyTime": timestamp(now() + wait)},
            )
        return self._version(name)

    def _restore(self, request: Request, version: str, **names: str) -> Document:
        resource = _key_resource(**names)
        self._identity.require(request.principal, "cloudkms.cryptoKeyVersions.restore", resource)
        name = f"{resource.name}/cryptoKeyVersions/{version}"
        with self._store.transaction():
            document = self._document(name)
            if document["state"] != "DESTROY_SCHEDULED":
                raise _precondition(f"{name} is {document['state']}, not DESTROY_SCHEDULED.")
            document.pop("destroyTime")
            self._store.put("cryptoKeyVersion", name, document | {"state": "DISABLED"})
        return self._version(name)

    def sweep(self) -> None:
        """Destroys in the token every version whose time has come."""
        for name, _ in self._store.list("cryptoKeyVersion"):
            self._document(name)

    def _document(self, name: str) -> Document:
        document = self._known("cryptoKeyVersion", name)
        if document["state"] == "DESTROY_SCHEDULED" and from_timestamp(document["destroyTime"]) <= now():
            self._hsm.destroy(document["hsm"]["id"])
            document |= {"state": "DESTROYED", "destroyEventTime": document["destroyTime"], "hsm": {}}
            self._store.put("cryptoKeyVersion", name, document)
        return document

    def _version(self, name: str) -> Document:
        return {field: value for field, value in self._document(name).items() if field != "hsm"}

    def _enabled(self, name: str) -> Document:
        document = self._document(name)
        if document["state"] != "ENABLED":
            raise _precondition(f"{name} is not enabled, current state is: {document['state']}.")
        return document

    def _known(self, kind: str, name: str) -> Document:
        document = self._store.get(kind, name)
        if document is None:
            raise ApiError(404, f"{kind[0].upper()}{kind[1:]} {name} not found.")
        return document

    # Cryptography

    def _public_key(self, request: Request, version: str, **names: str) -> Document:
        resource = _key_resource(**names)
        self._identity.require(request.principal, "cloudkms.cryptoKeyVersions.viewPublicKey", resource)
        document = self._enabled(f"{resource.name}/cryptoKeyVersions/{version}")
        pem = document["hsm"]["pem"]
        if not pem:
            raise ApiError(400, f"{document['name']} is symmetric: it has no public key.")
        return {
            "pem": pem,
            "algorithm": document["algorithm"],
            "pemCrc32c": _crc(pem.encode()),
            "name": document["name"],
            "protectionLevel": document["protectionLevel"],
        }

    def _sign(self, request: Request, version: str, **names: str) -> Document:
        resource = _key_resource(**names)
        self._identity.require(request.principal, "cloudkms.cryptoKeyVersions.useToSign", resource)
        document = self._enabled(f"{resource.name}/cryptoKeyVersions/{version}")
        algorithm = document["algorithm"]
        if algorithm == SYMMETRIC:
            raise ApiError(400, f"{document['name']} is for {SYMMETRIC}, not for signing.")
        body, wanted = request.json(), algorithm.rsplit("_", 1)[1].lower()
        answer: Document = {}
        if ("digest" in body) == ("data" in body):
            raise ApiError(400, "Exactly one of digest and data is needed.")
        if "data" in body:
            digest = hashlib.new(wanted, _bytes(body, "data")).digest()
            answer["verifiedDataCrc32c"] = "dataCrc32c" in body
        else:
            if set(body["digest"]) != {wanted}:
                raise ApiError(
                    400,
                    f"{algorithm} needs a {wanted} digest, got {', '.join(sorted(body['digest'])) or 'none'}.",
                )
            digest = _bytes(
                {"digest": body["digest"][wanted], "digestCrc32c": body.get("digestCrc32c")}, "digest"
            )
            if len(digest) != hashlib.new(wanted).digest_size:
                raise ApiError(
                    400, f"A {wanted} digest has {hashlib.new(wanted).digest_size} bytes, got {len(digest)}."
                )
            answer["verifiedDigestCrc32c"] = "digestCrc32c" in body
        signature = self._use(
            lambda: self._hsm.sign(document["hsm"]["id"], algorithm, base64.b64encode(digest).decode())
        )
        return {
            "signature": signature,
            "signatureCrc32c": _crc(base64.b64decode(signature)),
            **answer,
            "name": document["name"],
            "protectionLevel": document["protectionLevel"],
        }

    def _encrypt(self, request: Request, **names: str) -> Document:
        resource = _key_resource(**names)
        self._identity.require(request.principal, "cloudkms.cryptoKeyVersions.useToEncrypt", resource)
        body = request.json()
        sealed, document = self.seal(
            resource.name, _bytes(body, "plaintext"), _bytes(body, "additionalAuthenticatedData")
        )
        return {
            "name": document["name"],
            "ciphertext": base64.b64encode(sealed).decode(),
            "ciphertextCrc32c": _crc(sealed),
            "verifiedPlaintextCrc32c": "plaintextCrc32c" in body,
            "verifiedAdditionalAuthenticatedDataCrc32c": "additionalAuthenticatedDataCrc32c" in body,
            "protectionLevel": document["protectionLevel"],
        }

    def seal(self, key: str, plaintext: bytes, aad: bytes = b"") -> tuple[bytes, Document]:
        """Encrypts under the key's primary version: the ciphertext and the version's document.

        Raises ApiError 400 for a key of another purpose, without an enabled primary version, or too long a text.
        """
        document = self._rotated(key)
        if document["purpose"] != "ENCRYPT_DECRYPT" or "primaryVersion" not in document:
            raise ApiError(400, f"{key} has no primary version to encrypt with.")
        version = self._enabled(f"{key}/cryptoKeyVersions/{document['primaryVersion']}")
        hsm = version["protectionLevel"] == "HSM"
        if len(plaintext) + (len(aad) if hsm else 0) > (_MAX_PLAINTEXT_HSM if hsm else _MAX_PLAINTEXT):
            raise ApiError(400, "The plaintext is too long: 8 KiB with its AAD for HSM keys, else 64 KiB.")
        sealed = self._use(
            lambda: self._hsm.encrypt(
                version["hsm"]["id"], base64.b64encode(plaintext).decode(), base64.b64encode(aad).decode()
            )
        )
        number = int(version["name"].rsplit("/", 1)[1])
        return struct.pack(">BI", 1, number) + base64.b64decode(sealed), version

    def open(self, key: str, ciphertext: bytes, aad: bytes = b"") -> bytes:
        """The reverse of `seal`. Raises ApiError 400 when text, key or AAD is another, or the version is disabled."""
        if len(ciphertext) < 5 + 12 + 16 or ciphertext[0] != 1:
            raise ApiError(400, "Decryption failed: the ciphertext is invalid.")
        number = struct.unpack(">I", ciphertext[1:5])[0]
        if self._store.get("cryptoKeyVersion", f"{key}/cryptoKeyVersions/{number}") is None:
            raise ApiError(400, "Decryption failed: the ciphertext is of another key.")
        version = self._enabled(f"{key}/cryptoKeyVersions/{number}")
        try:
            plain = self._hsm.decrypt(
                version["hsm"]["id"],
                base64.b64encode(ciphertext[5:]).decode(),
                base64.b64encode(aad).decode(),
            )
        except HsmError as error:
            raise ApiError(
                400, "Decryption failed: verify that 'name' refers to the correct CryptoKey."
            ) from error
        return base64.b64decode(plain)

    def _decrypt(self, request: Request, **names: str) -> Document:
        resource = _key_resource(**names)
        self._identity.require(request.principal, "cloudkms.cryptoKeyVersions.useToDecrypt", resource)
        self._known("cryptoKey", resource.name)
        body = request.json()
        plain = self.open(
            resource.name, _bytes(body, "ciphertext"), _bytes(body, "additionalAuthenticatedData")
        )
        return {"plaintext": base64.b64encode(plain).decode(), "plaintextCrc32c": _crc(plain)}

    def _random(self, request: Request, project: str, location: str) -> Document:
        self._identity.require(
            request.principal, "cloudkms.locations.generateRandomBytes", _location_resource(project, location)
        )
        size = whole(request.json().get("lengthBytes", 0), "lengthBytes")
        if not 8 <= size <= 1024:
            raise ApiError(400, f"lengthBytes {size}: 8 to 1024")
        data = self._use(lambda: self._hsm.random(size))
        return {"data": data, "dataCrc32c": _crc(base64.b64decode(data))}

    @staticmethod
    def _use(operation: Callable[[], str]) -> str:
        try:
            return operation()
        except HsmError as error:
            raise ApiError(503, f"The HSM is not available: {error}") from error


def _precondition(message: str) -> ApiError:
    return ApiError(400, message, status="FAILED_PRECONDITION")


def _location_resource(project: str, location: str) -> Resource:
    name = f"projects/{project}/locations/{location}"
    return Resource(name, "cloudkms.googleapis.com/Location", (project_policy(project),))


def _ring_resource(project: str, location: str, ring: str) -> Resource:
    name = f"projects/{project}/locations/{location}/keyRings/{ring}"
    return Resource(name, "cloudkms.googleapis.com/KeyRing", (name, project_policy(project)))


def _key_resource(project: str, location: str, ring: str, key: str) -> Resource:
    above = _ring_resource(project, location, ring)
    name = f"{above.name}/cryptoKeys/{key}"
    return Resource(name, "cloudkms.googleapis.com/CryptoKey", (name, *above.policies))


def key_resource(name: str) -> Resource:
    """The resource of a key's full name. Raises ApiError 400 when it is none."""
    match = re.fullmatch(r"projects/([^/]+)/locations/([^/]+)/keyRings/([^/]+)/cryptoKeys/([^/]+)", name)
    if match is None:
        raise ApiError(400, f"{name!r} is not the name of a Cloud KMS key")
    return _key_resource(*match.groups())
