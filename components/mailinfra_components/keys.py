"""MailKeys: the customer-managed keys of one region, in that region's own KMS."""

import base64
from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws
import pulumi_gcp as gcp
from cryptography.hazmat.primitives import serialization

from mailinfra_components.options import after, children, received, tags

DAY = 86_400
"""Seconds."""


class MailKeysArgs(TypedDict):
    """Where the keys are and how long they live."""

    cloud: str
    """`aws` or `gcp`."""
    region: str
    """The cloud's region; the keys never leave it."""
    zone: str
    """The residency zone, as tag or label."""
    rotation_days: NotRequired[int]
    """Days between two rotations of the key at rest (default 365)."""
    deletion_window_days: NotRequired[int]
    """Days that a deleted key can be brought back (default 30)."""


class MailKeys(pulumi.ComponentResource):
    """The keys of one region.

    One symmetric key for everything at rest (disks, buckets, logs), rotated by the KMS itself, and one ECC P-256
    signing key, in the HSM, of the region's certificate authority. DKIM keys are `DkimKeys`' business.
    Who may use a key is granted where the user is declared, never here.
    """

    storage_key: pulumi.Output[str]
    """The key at rest: an AWS KMS key ARN or a Cloud KMS crypto key's resource name."""
    ca_key: pulumi.Output[str]
    """The authority's key: an AWS KMS key ARN or a Cloud KMS crypto key version's resource name."""
    ca_public_key: pulumi.Output[str]
    """The authority's public key: SubjectPublicKeyInfo, DER, base64."""
    key_ring: pulumi.Output[str]
    """The Cloud KMS key ring; empty on AWS."""

    def __init__(self, name: str, args: MailKeysArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("mailinfra:index:MailKeys", name, {}, opts)
        args = received(args)
        rotation = int(args.get("rotation_days", 365))
        window = int(args.get("deletion_window_days", 30))
        if args["cloud"] == "aws":
            self._aws(name, args, rotation, window)
        else:
            self._gcp(name, args, rotation, window)
        self.register_outputs(
            {
                "storage_key": self.storage_key,
                "ca_key": self.ca_key,
                "ca_public_key": self.ca_public_key,
                "key_ring": self.key_ring,
            }
        )

    def _aws(self, name: str, args: MailKeysArgs, rotation: int, window: int) -> None:
        region = args["region"]
        storage = aws.kms.Key(
            f"{name}-storage",
            region=region,
            description=f"{name}: mail data at rest",
            enable_key_rotation=True,
            rotation_period_in_days=rotation,
            deletion_window_in_days=window,
            tags=tags(name, args["zone"]),
            opts=children(self),
        )
        aws.kms.Alias(
            f"{name}-storage-alias",
            region=region,
            name=f"alias/{name}-storage",
            target_key_id=storage.key_id,
            opts=children(self),
        )
        authority = aws.kms.Key(
            f"{name}-ca",
            region=region,
            description=f"{name}: certificate authority of the region's nodes",
            key_usage="SIGN_VERIFY",
            customer_master_key_spec="ECC_NIST_P256",
            deletion_window_in_days=window,
            tags=tags(name, args["zone"]),
            opts=children(self),
        )
        public = aws.kms.get_public_key_output(
            key_id=authority.arn, region=region, opts=pulumi.InvokeOutputOptions(parent=self)
        )
        self.storage_key = storage.arn
        self.ca_key = authority.arn
        self.ca_public_key = public.public_key
        self.key_ring = pulumi.Output.from_input("")

    def _gcp(self, name: str, args: MailKeysArgs, rotation: int, window: int) -> None:
        labels = tags(name, args["zone"])
        # No names of our own: key rings and keys are never deleted at Google, so a name can be used only once.
        ring = gcp.kms.KeyRing(f"{name}-ring", location=args["region"], opts=children(self))
        storage = gcp.kms.CryptoKey(
            f"{name}-storage",
            key_ring=ring.id,
            purpose="ENCRYPT_DECRYPT",
            rotation_period=f"{rotation * DAY}s",
            destroy_scheduled_duration=f"{window * DAY}s",
            version_template={"algorithm": "GOOGLE_SYMMETRIC_ENCRYPTION", "protection_level": "HSM"},
            labels=labels,
            opts=children(self),
        )
        authority = gcp.kms.CryptoKey(
            f"{name}-ca",
            key_ring=ring.id,
            purpose="ASYMMETRIC_SIGN",
            destroy_scheduled_duration=f"{window * DAY}s",
            version_template={"algorithm": "EC_SIGN_P256_SHA256", "protection_level": "HSM"},
            labels=labels,
            opts=children(self),
        )
        self.storage_key = self._agents(name, storage)
        self.ca_key = first_version(authority)
        self.ca_public_key = gcp_public_key(authority, self)
        self.key_ring = ring.id

    def _agents(self, name: str, key: gcp.kms.CryptoKey) -> pulumi.Output[str]:
        """Lets Google's own agents encrypt disks and buckets with the key; gives the key's name once they can."""
        invoke = pulumi.InvokeOutputOptions(parent=self)
        disks = gcp.organizations.get_project_output(opts=invoke).number.apply(
            lambda number: f"service-{number}@compute-system.iam.gserviceaccount.com"
        )
        buckets = gcp.storage.get_project_service_account_output(opts=invoke).email_address
        grants: list[pulumi.Resource] = [
            gcp.kms.CryptoKeyIAMMember(
                f"{name}-storage-{kind}",
                crypto_key_id=key.id,
                role="roles/cloudkms.cryptoKeyEncrypterDecrypter",
                member=agent.apply(lambda email: f"serviceAccount:{email}"),
                opts=children(self),
            )
            for kind, agent in (("disks", disks), ("buckets", buckets))
        ]
        return after(key.id, grants)


def first_version(key: gcp.kms.CryptoKey) -> pulumi.Output[str]:
    """The resource name of an asymmetric key's first version: Cloud KMS never rotates such keys by itself."""
    return key.id.apply(lambda name: f"{name}/cryptoKeyVersions/1")


def gcp_public_key(key: gcp.kms.CryptoKey, parent: pulumi.Resource) -> pulumi.Output[str]:
    """The public half of a Cloud KMS signing key: SubjectPublicKeyInfo, DER, base64."""
    version = gcp.kms.get_kms_crypto_key_version_output(
        crypto_key=key.id, version=1, opts=pulumi.InvokeOutputOptions(parent=parent)
    )
    return version.public_keys.apply(lambda keys: der_base64(keys[0].pem))


def der_base64(pem: str) -> str:
    """A PEM public key as base64 of its DER SubjectPublicKeyInfo (RFC 5280 4.1). ValueError if it is none."""
    key = serialization.load_pem_public_key(pem.encode())
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()
