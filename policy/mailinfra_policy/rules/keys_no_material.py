"""No private key and no long-lived credential goes through the program or its state."""

import base64
import gzip
from collections.abc import Iterator, Mapping

from mailinfra_policy.material import kind
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import ANY, Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN, Value, join

_MAKERS = frozenset(
    {
        "aws:iam/accessKey:AccessKey",
        "aws:iam/serviceSpecificCredential:ServiceSpecificCredential",
        "aws:lightsail/keyPair:KeyPair",
        "aws:lightsail/bucketAccessKey:BucketAccessKey",
        "gcp:serviceaccount/key:Key",
        "gcp:storage/hmacKey:HmacKey",
        "gcp:sql/sslCert:SslCert",
        "gcp:projects/apiKey:ApiKey",
        "tls:index/privateKey:PrivateKey",
    }
)
"""Types whose very making puts a secret key into the state."""
_NAMES = frozenset(
    {
        "certificatePrivateKey",
        "diskEncryptionKeyRaw",
        "diskEncryptionKeyRsa",
        "domainSigningPrivateKey",
        "keyMaterialBase64",
        "pemPrivateKey",
        "privateKey",
        "privateKeyPem",
        "privateKeyWo",
        "privateRsaKey",
        "rawKey",
        "rawSecretAccessKey",
        "rsaEncryptedKey",
        "secretAccessKey",
    }
)
"""Inputs that take key material, whatever it looks like."""


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """No maker of secret keys, no input that takes one, no text that holds one.

    A value that is not known yet is judged at the update, before the resource is made.
    """
    if resource.type in _MAKERS:
        yield Finding(
            resource, "", "a resource whose secret key is kept in the state", "an identity without keys"
        )
    yield from _within(resource, resource.props, "")


def _within(resource: Resource, value: Value, at: str) -> Iterator[Finding]:
    if isinstance(value, str):
        if name := kind(value):
            yield Finding(resource, at, name, "no key material")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _within(resource, item, join(at, index))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            place = join(at, key)
            if key in _NAMES and item not in (None, "", {}, []):
                yield Finding(
                    resource, place, "key material", "a key that its HSM makes", unknown=item is UNKNOWN
                )
            else:
                yield from _within(resource, item, place)


_PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"
_LONG = 64
"""Characters from which the mutation run hides a key in a text."""


RULE = Rule(
    id="keys-no-material",
    title="No private key goes through the program or its state",
    severity=Severity.CRITICAL,
    why="What is in an input is in the state, in its backups, in user-data and in every log of an update.",
    mend="Let the KMS make the key, give machines an identity of the cloud's, and pass names of keys only.",
    controls=(
        Control(Framework.GDPR, "Art. 32(1)(a)"),
        Control(Framework.SOC2, "CC6.1"),
        Control(Framework.ISO27001, "A.5.17"),
        Control(Framework.ISO27001, "A.8.24"),
    ),
    covers={
        ANY: (
            Guard(
                ANY,
                wrong=(_PEM, base64.b64encode(gzip.compress(_PEM.encode(), mtime=0)).decode()),
                needed=False,
                opaque=True,
                when=lambda resource, value: len(value) >= _LONG,
            ),
        ),
    },
    judge=judge,
)
