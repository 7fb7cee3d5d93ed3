"""DkimKeys: the DKIM keys of one region, made in its HSM and never anywhere else."""

from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws
import pulumi_gcp as gcp

from mailinfra.errors import ConfigError, Problem
from mailinfra_components.keys import DAY, first_version, gcp_public_key
from mailinfra_components.options import children, received, tags


class DkimGeneration(TypedDict):
    """One generation of a region's DKIM key."""

    serial: str
    """The generation's name, unique in the region for ever."""
    selector: str
    """The selector under which its public half is published."""


class DkimKeysArgs(TypedDict):
    """Where the keys are made."""

    cloud: str
    """`aws` or `gcp`."""
    region: str
    """The cloud's region; the keys never leave its HSM."""
    zone: str
    """The residency zone, as tag or label."""
    generations: list[DkimGeneration]
    """The generations to keep: from generated to published, signing and draining."""
    bits: NotRequired[int]
    """RSA modulus length, 2048, 3072 or 4096 (default 2048)."""
    key_ring: NotRequired[pulumi.Input[str]]
    """The Cloud KMS key ring (GCP only)."""
    deletion_window_days: NotRequired[int]
    """Days that a deleted key can be brought back (default 30)."""


class DkimKeys(pulumi.ComponentResource):
    """One RSA key for each generation, with HSM protection and signing as its only use.

    Only public halves come out. Who may sign is granted to the signing nodes' identity, not here.
    """

    public_keys: pulumi.Output[dict[str, str]]
    """Selector to public key: SubjectPublicKeyInfo, DER, base64: the `p=` of RFC 6376 3.6.1."""
    references: pulumi.Output[dict[str, str]]
    """Selector to the key's name in the HSM: a KMS key ARN or a crypto key version's resource name."""

    def __init__(self, name: str, args: DkimKeysArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("mailinfra:index:DkimKeys", name, {}, opts)
        args = received(args)
        bits = int(args.get("bits", 2048))
        window = int(args.get("deletion_window_days", 30))
        public: dict[str, pulumi.Output[str]] = {}
        references: dict[str, pulumi.Output[str]] = {}
        for generation in args["generations"]:
            make = self._aws if args["cloud"] == "aws" else self._gcp
            reference, public_key = make(f"{name}-{generation['serial']}", args, generation, bits, window)
            references[generation["selector"]] = reference
            public[generation["selector"]] = public_key
        self.public_keys = pulumi.Output.all(**public)
        self.references = pulumi.Output.all(**references)
        self.register_outputs({"public_keys": self.public_keys, "references": self.references})

    def _aws(
        self, name: str, args: DkimKeysArgs, generation: DkimGeneration, bits: int, window: int
    ) -> tuple[pulumi.Output[str], pulumi.Output[str]]:
        key = aws.kms.Key(
            name,
            region=args["region"],
            description=f"{name}: DKIM, selector {generation['selector']}",
            key_usage="SIGN_VERIFY",
            customer_master_key_spec=f"RSA_{bits}",
            deletion_window_in_days=window,
            tags=tags(name, args["zone"]),
            opts=children(self),
        )
        public = aws.kms.get_public_key_output(
            key_id=key.arn, region=args["region"], opts=pulumi.InvokeOutputOptions(parent=self)
        )
        return key.arn, public.public_key

    def _gcp(
        self, name: str, args: DkimKeysArgs, generation: DkimGeneration, bits: int, window: int
    ) -> tuple[pulumi.Output[str], pulumi.Output[str]]:
        if "key_ring" not in args:
            raise ConfigError([Problem("key_ring", "nothing", "the region's Cloud KMS key ring")])
        key = gcp.kms.CryptoKey(
            name,
            key_ring=args["key_ring"],
            purpose="ASYMMETRIC_SIGN",
            destroy_scheduled_duration=f"{window * DAY}s",
            version_template={"algorithm": f"RSA_SIGN_PKCS1_{bits}_SHA256", "protection_level": "HSM"},
            labels=tags(name, args["zone"]),
            opts=children(self),
        )
        return first_version(key), gcp_public_key(key, self)
