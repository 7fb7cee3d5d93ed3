"""Mail domains for the tests of the policy rules: the same domain at each of the three DNS services."""

from collections.abc import Sequence
from typing import Any

from mailinfra_policy.resource import Resource
from tests.policy_helpers import resource

CLOUDFLARE = "cloudflare:index/dnsRecord:DnsRecord"
DOMAIN = "example.test"
# An RSA key of 2048 bits made for the tests; nobody holds its private half.
PUBLIC = (
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEApBENErLsZ9zZHVIJ6Dsp1jM0/ZESrjm7aSd8intd2ucMBDYEaou3TSfa"
    "ST7fPDRiK339c2quvWNOmt0mMpGR/L9ZmxdW1/P4niCNYyXMl2PgZ2QfvTlCxz9P3/W8+1GUkvXs0mtTuRS2z2KTg/9b+sJ3WqRF"
    "VXgCaqmu4hagR+0Jr5K8aw1mUT3WzSTlqCtBeikidHdRLv4nJs1QqxIb7ZaNsJh2eL+EFimPvUIV3hz1/fB2jwUi4ExZFk5E2oxy"
    "3ofyI5HYqZ+KRJixWyLzthDhdN7um5koW23MRi3DR8Vkxmr4gb03DGMfe39nxOn06O2bodGz2XBRsnLEuGPsmwIDAQAB"
)
TEXTS = {
    DOMAIN: "v=spf1 a:mx1.example.test a:mx2.example.test -all",
    f"_dmarc.{DOMAIN}": "v=DMARC1; p=reject; sp=reject; rua=mailto:dmarc@example.test",
    f"_mta-sts.{DOMAIN}": "v=STSv1; id=20261123",
    f"_smtp._tls.{DOMAIN}": "v=TLSRPTv1; rua=mailto:tls@example.test",
    f"s1._domainkey.{DOMAIN}": f"v=DKIM1; k=rsa; p={PUBLIC}",
}
POLICY = (
    "version: STSv1\r\nmode: enforce\r\nmx: mx1.example.test\r\nmx: mx2.example.test\r\nmax_age: 604800\r\n"
)
FRANKFURT, IRELAND = "192.0.2.10", "192.0.2.20"


def chunks(text: str) -> list[str]:
    """A TXT value's strings."""
    return [text[start : start + 255] for start in range(0, len(text), 255)]


def address(name: str, region: str, ip: str) -> Resource:
    """A fixed address of AWS in a region."""
    return resource(
        "aws:ec2/eip:Eip",
        name,
        {"region": region},
        outputs={"publicIp": ip, "allocationId": f"eipalloc-{name}"},
    )


MACHINES = [
    address("one", "eu-central-1", FRANKFURT),
    address("two", "eu-west-1", IRELAND),
    *(
        resource(
            "aws:ec2/eipDomainName:EipDomainName",
            f"{name}-reverse",
            {"allocationId": f"eipalloc-{name}", "domainName": f"{host}.{DOMAIN}"},
        )
        for name, host in (("one", "mx1"), ("two", "mx2"))
    ),
]


def route53(name: str, kind: str, values: Sequence[Any], **more: Any) -> Resource:
    """A record set at Route 53; a TXT's strings are parted as its provider wants it."""
    records = ['""'.join(chunks(value)) if kind == "TXT" else value for value in values]
    return resource(
        "aws:route53/record:Record",
        f"{kind}-{name}{more.get('setIdentifier', '')}",
        {"zoneId": "zone-id", "name": name, "type": kind, "ttl": 300, "records": records, **more},
    )


def clouddns(name: str, kind: str, values: Sequence[Any], **more: Any) -> Resource:
    """A record set at Cloud DNS."""
    records = [
        " ".join(f'"{part}"' for part in chunks(value)) if kind == "TXT" else value for value in values
    ]
    return resource(
        "gcp:dns/recordSet:RecordSet",
        f"{kind}-{name}",
        {
            "managedZone": "zone-id",
            "name": f"{name}.",
            "type": kind,
            "ttl": 300,
            "rrdatas": records,
            **more,
        },
    )


def cloudflare(name: str, kind: str, value: Any, type_: str = CLOUDFLARE, **more: Any) -> Resource:
    """A record at Cloudflare; a TXT is quoted."""
    content = " ".join(f'"{part}"' for part in chunks(value)) if kind == "TXT" else value
    return resource(
        type_,
        f"{kind}-{name}-{str(value)[:12]}",
        {"zoneId": "zone-id", "name": name, "type": kind, "ttl": 300, "content": content, **more},
    )


def aws_domain() -> list[Resource]:
    """The domain at Route 53."""
    return [
        *MACHINES,
        resource("aws:route53/zone:Zone", "zone", {"name": DOMAIN}, outputs={"zoneId": "zone-id"}),
        resource(
            "aws:route53/keySigningKey:KeySigningKey",
            "signing",
            {"hostedZoneId": "zone-id", "name": "ksk", "keyManagementServiceArn": "arn"},
        ),
        resource("aws:route53/hostedZoneDnsSec:HostedZoneDnsSec", "signed", {"hostedZoneId": "zone-id"}),
        route53(DOMAIN, "MX", ["10 mx1.example.test.", "10 MX2.example.test"]),
        route53("mx1", "A", [FRANKFURT]),
        route53("mx2.example.test", "A", [IRELAND]),
        route53("mta-sts", "CNAME", ["mx1.example.test"]),
        *(route53(name, "TXT", [text]) for name, text in TEXTS.items()),
        resource("aws:s3/bucketObjectv2:BucketObjectv2", "policy", {"bucket": "site", "content": POLICY}),
    ]


def gcp_domain() -> list[Resource]:
    """The domain at Cloud DNS, on one machine in each of two regions."""
    nodes = [
        resource(
            "gcp:compute/instance:Instance",
            f"node-{host}",
            {
                "zone": f"{region}-b",
                "machineType": "e2-small",
                "networkInterfaces": [
                    {
                        "accessConfigs": [{"natIp": ip, "publicPtrDomainName": f"{host}.{DOMAIN}."}],
                        "ipv6AccessConfigs": [
                            {"externalIpv6": six, "publicPtrDomainName": f"{host}.{DOMAIN}."}
                        ],
                    }
                ],
            },
        )
        for host, region, ip, six in (
            ("mx1", "europe-west3", FRANKFURT, "2001:db8::1"),
            ("mx2", "europe-west4", IRELAND, "2001:db8::2"),
        )
    ]
    return [
        *nodes,
        resource(
            "gcp:dns/managedZone:ManagedZone",
            "zone",
            {"name": "zone", "dnsName": f"{DOMAIN}.", "dnssecConfig": {"state": "on"}},
        ),
        clouddns(DOMAIN, "MX", ["10 mx1.example.test.", "10 mx2.example.test."]),
        clouddns(f"mx1.{DOMAIN}", "A", [FRANKFURT]),
        clouddns(f"mx1.{DOMAIN}", "AAAA", ["2001:db8::1"]),
        clouddns(f"mx2.{DOMAIN}", "A", [IRELAND]),
        clouddns(f"mx2.{DOMAIN}", "AAAA", ["2001:db8::2"]),
        clouddns(f"mta-sts.{DOMAIN}", "A", [FRANKFURT]),
        *(clouddns(name, "TXT", [text]) for name, text in TEXTS.items()),
        resource("gcp:storage/bucketObject:BucketObject", "policy", {"bucket": "site", "content": POLICY}),
    ]


def cloudflare_domain(type_: str = CLOUDFLARE) -> list[Resource]:
    """The domain at Cloudflare, on machines at AWS."""
    return [
        *MACHINES,
        resource("cloudflare:index/zone:Zone", "zone", {"name": DOMAIN}),
        resource(
            "cloudflare:index/zoneDnssec:ZoneDnssec", "signed", {"zoneId": "zone-id", "status": "active"}
        ),
        cloudflare(DOMAIN, "MX", "mx1.example.test", type_, priority=10),
        cloudflare("@", "MX", "mx2.example.test", type_, priority=10),
        cloudflare("mx1", "A", FRANKFURT, type_),
        cloudflare("mx2.example.test", "A", IRELAND, type_),
        cloudflare("mta-sts.example.test", "CNAME", "mx1.example.test", type_),
        *(cloudflare(name, "TXT", text, type_) for name, text in TEXTS.items()),
        resource(
            "cloudflare:index/workersScript:WorkersScript",
            "policy",
            {"scriptName": "sts", "content": f"const policy = `{POLICY}`;"},
        ),
    ]


AWS_DOMAIN = aws_domain()
GCP_DOMAIN = gcp_domain()
CLOUDFLARE_DOMAIN = cloudflare_domain()
OLD_CLOUDFLARE_DOMAIN = cloudflare_domain("cloudflare:index/record:Record")
DOMAINS = (AWS_DOMAIN, GCP_DOMAIN, CLOUDFLARE_DOMAIN, OLD_CLOUDFLARE_DOMAIN)


def without(resources: Sequence[Resource], *names: str) -> list[Resource]:
    """The resources but those of these names."""
    assert {item.name for item in resources} >= set(names), names
    return [item for item in resources if item.name not in names]


def instead(resources: Sequence[Resource], *others: Resource) -> list[Resource]:
    """The resources with some put in the place of those of their names, or added."""
    names = {other.name for other in others}
    return [*(item for item in resources if item.name not in names), *others]
