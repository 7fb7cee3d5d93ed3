"""One interface to the three DNS services: a signed zone that takes record sets in presentation form."""

from collections.abc import Sequence
from typing import Any, Protocol

import pulumi
import pulumi_aws as aws
import pulumi_cloudflare as cloudflare
import pulumi_gcp as gcp

from mailinfra.records import Record, txt_quoted, txt_strings
from mailinfra_components.documents import account_administers, document
from mailinfra_components.options import after, children

Values = pulumi.Input[list[str]]
"""The values of one record set in presentation form: absolute names with final dot, TXT unquoted."""


class DnsZone(Protocol):
    """A zone at one of the providers."""

    name_servers: pulumi.Output[list[str]]
    """Names of the zone's servers, with final dot."""
    signers: pulumi.Output[list[str]]
    """The DS records (RFC 4034 5.3, presentation form) for the parent; empty when the zone is not signed."""

    def add(self, record: Record, values: Values, keys: Sequence[str]) -> list[pulumi.Resource]:
        """Declares one record set. `keys` name its values, one for each, before these are known."""


def zone(
    provider: str,
    name: str,
    apex: str,
    parent: pulumi.Resource,
    *,
    dnssec: bool = True,
    account_id: str = "",
    existing: str = "",
) -> DnsZone:
    """The zone `apex` at `provider` (`cloudflare`, `route53` or `clouddns`), declared under `parent`.

    `existing` is the id (Cloud DNS: the name) of a zone that is there already: records are added to it, and it is
    neither made nor signed nor ever deleted here. Its name servers and signers are then its owner's affair.
    """
    if provider == "cloudflare":
        return CloudflareZone(name, apex, parent, dnssec, account_id, existing)
    return (
        Route53Zone(name, apex, parent, dnssec, existing)
        if provider == "route53"
        else CloudDnsZone(name, apex, parent, dnssec, existing)
    )


def name_server_count(provider: str) -> int:
    """How many name servers a provider gives to a zone."""
    return 2 if provider == "cloudflare" else 4


class CloudflareZone:
    """A zone at Cloudflare: one resource for each value, never proxied."""

    def __init__(
        self, name: str, apex: str, parent: pulumi.Resource, dnssec: bool, account_id: str, existing: str
    ) -> None:
        self.parent, self.name = parent, name
        self.zone_id: pulumi.Input[str] = existing
        self.name_servers, self.signers = nobody(), nobody()
        if existing:
            return
        made = cloudflare.Zone(
            f"{name}-zone", name=apex, type="full", account={"id": account_id}, opts=children(parent)
        )
        self.zone_id, self.name_servers = made.id, made.name_servers.apply(all_absolute)
        if dnssec:
            signed = cloudflare.ZoneDnssec(
                f"{name}-dnssec", zone_id=made.id, status="active", opts=children(parent)
            )
            self.signers = pulumi.Output.all(
                signed.key_tag, signed.algorithm, signed.digest_type, signed.digest
            ).apply(lambda parts: [f"{int(parts[0])} {parts[1]} {parts[2]} {parts[3]}"])

    def add(self, record: Record, values: Values, keys: Sequence[str]) -> list[pulumi.Resource]:
        """Declares one record for each value."""
        known = pulumi.Output.from_input(values)
        return [
            cloudflare.DnsRecord(
                f"{self.name}-{record.key}" + (f"-{key}" if key else ""),
                zone_id=self.zone_id,
                name=record.name.rstrip("."),
                type=record.type,
                ttl=record.ttl,
                proxied=False,
                **cloudflare_content(record.type, nth(known, number)),
                opts=children(self.parent),
            )
            for number, key in enumerate(keys)
        ]


DATA_FIELDS = {
    "DS": ("key_tag", "algorithm", "digest_type", "digest"),
    "TLSA": ("usage", "selector", "matching_type", "certificate"),
    "SRV": ("priority", "weight", "port", "target"),
    "CAA": ("flags", "tag", "value"),
}
"""How Cloudflare names the parts of a record's data, in presentation order."""
NUMBERS = frozenset(
    {
        "key_tag",
        "algorithm",
        "digest_type",
        "usage",
        "selector",
        "matching_type",
        "priority",
        "weight",
        "port",
    }
)


def cloudflare_content(kind: str, value: pulumi.Output[str]) -> dict[str, Any]:
    """The arguments that carry a record's value at Cloudflare: `content`, `priority` or `data`."""
    if kind == "MX":
        return {
            "priority": value.apply(lambda text: float(text.split()[0])),
            "content": value.apply(lambda text: text.split()[1].rstrip(".")),
        }
    if kind in DATA_FIELDS:
        return {"data": value.apply(lambda text: cloudflare_data(kind, text))}
    if kind == "TXT":
        return {"content": value.apply(txt_quoted)}
    return {"content": value.apply(lambda text: text.rstrip("."))}


def cloudflare_data(kind: str, text: str) -> dict[str, Any]:
    """A value's presentation form as Cloudflare's structured data."""
    fields = DATA_FIELDS[kind]
    parts = text.split(maxsplit=len(fields) - 1)
    values: dict[str, Any] = dict(zip(fields, parts, strict=True))
    for key, value in values.items():
        if key in NUMBERS:
            values[key] = float(value)
        elif key == "target":
            values[key] = value.rstrip(".") or "."
        elif key == "value":
            values[key] = value.strip('"')
    return values


class Route53Zone:
    """A public hosted zone at Route 53, signed under a KMS key in us-east-1 as Route 53 demands."""

    def __init__(
        self, name: str, apex: str, parent: pulumi.Resource, dnssec: bool, existing: str = ""
    ) -> None:
        self.parent, self.name = parent, name
        self.zone_id: pulumi.Input[str] = existing
        self.name_servers, self.signers = nobody(), nobody()
        if existing:
            return
        made = aws.route53.Zone(f"{name}-zone", name=apex, force_destroy=False, opts=children(parent))
        self.zone_id, self.name_servers = made.zone_id, made.name_servers.apply(all_absolute)
        if dnssec:
            self.signers = self._sign(name)

    def _sign(self, name: str) -> pulumi.Output[list[str]]:
        account = aws.get_caller_identity_output(
            opts=pulumi.InvokeOutputOptions(parent=self.parent)
        ).account_id
        key = aws.kms.Key(
            f"{name}-ksk",
            region="us-east-1",
            description=f"{name}: DNSSEC key signing key",
            key_usage="SIGN_VERIFY",
            customer_master_key_spec="ECC_NIST_P256",
            deletion_window_in_days=30,
            policy=account.apply(ksk_policy),
            opts=children(self.parent),
        )
        signing = aws.route53.KeySigningKey(
            f"{name}-signing",
            hosted_zone_id=self.zone_id,
            key_management_service_arn=key.arn,
            name="ksk",
            opts=children(self.parent),
        )
        signed = aws.route53.HostedZoneDnsSec(
            f"{name}-dnssec",
            hosted_zone_id=self.zone_id,
            opts=children(self.parent, depends_on=[signing]),
        )
        # The parent must not vouch for the zone before the zone is signed.
        return after(signing.ds_record, [signed]).apply(lambda signer: [signer])

    def add(self, record: Record, values: Values, keys: Sequence[str]) -> list[pulumi.Resource]:
        """Declares one record set."""
        known = pulumi.Output.from_input(values)
        return [
            aws.route53.Record(
                f"{self.name}-{record.key}",
                zone_id=self.zone_id,
                name=record.name.rstrip("."),
                type=record.type,
                ttl=record.ttl,
                records=known.apply(lambda all_: [route53_value(record.type, value) for value in all_]),
                opts=children(self.parent),
            )
        ]


def route53_value(kind: str, value: str) -> str:
    """A value as the provider wants it: it puts the outer quotes of a TXT itself, the inner ones are ours."""
    return '""'.join(txt_strings(value)) if kind == "TXT" else value


def ksk_policy(account: str) -> str:
    """The policy that Route 53 needs on a key signing key (Route 53 Developer Guide, "KMS key permissions required
    for DNSSEC signing")."""
    service = {"Service": "dnssec-route53.amazonaws.com"}
    return document(
        account_administers(account),
        {
            "Sid": "Sign",
            "Effect": "Allow",
            "Principal": service,
            "Action": ["kms:DescribeKey", "kms:GetPublicKey", "kms:Sign"],
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:SourceAccount": account}},
        },
        {
            "Sid": "Grant",
            "Effect": "Allow",
            "Principal": service,
            "Action": "kms:CreateGrant",
            "Resource": "*",
            "Condition": {"Bool": {"kms:GrantIsForAWSResource": "true"}},
        },
    )


class CloudDnsZone:
    """A public managed zone at Cloud DNS, signed with ECDSA P-256."""

    def __init__(
        self, name: str, apex: str, parent: pulumi.Resource, dnssec: bool, existing: str = ""
    ) -> None:
        self.parent, self.name = parent, name
        self.zone_id: pulumi.Input[str] = existing
        self.name_servers, self.signers = nobody(), nobody()
        if existing:
            return
        made = gcp.dns.ManagedZone(
            f"{name}-zone",
            name=name,
            dns_name=absolute(apex),
            description=f"{apex}: mail",
            visibility="public",
            dnssec_config={
                "state": "on" if dnssec else "off",
                "non_existence": "nsec3",
                "default_key_specs": [
                    {"key_type": kind, "algorithm": "ecdsap256sha256", "key_length": 256}
                    for kind in ("keySigning", "zoneSigning")
                ],
            },
            cloud_logging_config={"enable_logging": True},
            opts=children(parent),
        )
        self.zone_id, self.name_servers = made.name, made.name_servers.apply(all_absolute)
        if dnssec:
            keys = gcp.dns.get_keys_output(
                managed_zone=made.name, opts=pulumi.InvokeOutputOptions(parent=parent)
            )
            self.signers = keys.key_signing_keys.apply(
                lambda found: [key.ds_record for key in found if key.is_active and key.ds_record]
            )

    def add(self, record: Record, values: Values, keys: Sequence[str]) -> list[pulumi.Resource]:
        """Declares one record set."""
        known = pulumi.Output.from_input(values)
        return [
            gcp.dns.RecordSet(
                f"{self.name}-{record.key}",
                managed_zone=self.zone_id,
                name=absolute(record.name),
                type=record.type,
                ttl=record.ttl,
                rrdatas=known.apply(
                    lambda all_: [txt_quoted(value) if record.type == "TXT" else value for value in all_]
                ),
                opts=children(self.parent),
            )
        ]


def nth(values: pulumi.Output[list[str]], number: int) -> pulumi.Output[str]:
    """One of the values."""

    def one(known: list[str]) -> str:
        if number >= len(known):
            raise ValueError(
                f"found {len(known)} values ({', '.join(known)}) where more than {number} were planned"
            )
        return known[number]

    return values.apply(one)


def nobody() -> pulumi.Output[list[str]]:
    """No names: an empty list that comes as an output."""
    return pulumi.Output.from_input([])


def all_absolute(names: Sequence[str]) -> list[str]:
    """Names with their final dots."""
    return [absolute(name) for name in names]


def absolute(name: str) -> str:
    """A name with its final dot."""
    return name if name.endswith(".") else f"{name}."
