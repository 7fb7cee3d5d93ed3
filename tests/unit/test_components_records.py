"""The zones of the mail domains at each of the three providers, and the records in them."""

import base64
import re
from functools import cache
from typing import Any

import pytest

from mailinfra.plan import FleetPlan, plan
from mailinfra.records import Record, txt_strings
from mailinfra_components import MailRecords
from mailinfra_components.dns import cloudflare_data, route53_value
from mailinfra_components.known import target, value_keys
from tests.declared import Program, declare, public_key
from tests.fleets import AWS_REGION, config, fleet

ACCOUNT = "0123456789abcdef0123456789abcdef"
PARENTS: dict[str, dict[str, str]] = {
    "cloudflare": {"provider": "cloudflare", "account_id": ACCOUNT},
    "route53": {"provider": "route53"},
    "clouddns": {"provider": "clouddns"},
}
LONG = base64.b64encode(bytes(294)).decode()
"""As long as a 2048-bit RSA public key: more than one TXT string."""


def addresses(fleet_plan: FleetPlan) -> dict[str, dict[str, str]]:
    return {
        node.fqdn: {"ipv4": f"198.51.100.{n}", "ipv6": f"2001:db8::{n:x}"}
        for n, node in enumerate(fleet_plan.nodes, start=1)
    }


def servers(provider: str) -> list[str]:
    return [f"ns{n}.{provider}.test." for n in range(1, 5)]


def declared(**changes: Any) -> Program:
    fleet_plan = plan(fleet(**changes))
    zones = [item.zone for item in fleet_plan.steering]
    return declare(
        lambda: MailRecords(
            "dns",
            {
                "fleet": config(**changes),
                "addresses": addresses(fleet_plan),
                "dkim": {key.selector: LONG for key in fleet_plan.dkim_keys},
                "ca": {region.name: public_key(region.name) for region in fleet_plan.regions},
                "name_servers": {zone: servers(zone) for zone in zones},
                "signers": {zone: ["12345 13 2 " + "AB" * 32] for zone in zones},
            },
        )
    )


@cache
def records(parent: str) -> Program:
    return declared(dns__parent=PARENTS[parent])


@cache
def planned() -> tuple[FleetPlan, tuple[Record, ...]]:
    found = plan(fleet())
    return found, tuple(r for r in found.records if r.zone in found.fleet.domains)


def test_cloudflare_has_one_record_for_each_value_and_never_proxies() -> None:
    fleet_plan, expected = planned()
    made = records("cloudflare").of("cloudflare:index/dnsRecord:DnsRecord")
    assert len(made) == sum(len(value_keys(fleet_plan, record)) for record in expected)
    assert {record.inputs["proxied"] for record in made} == {False}
    assert {record.inputs["zoneId"] for record in made} == {
        "dns-example-test-zone-id",
        "dns-second-test-zone-id",
    }
    exchanges = [r.inputs for r in made if r.inputs["type"] == "MX" and r.inputs["name"] == "example.test"]
    assert {r["content"] for r in exchanges} >= {"mx1.aws.mx.example.test", "mx1.gcp.mx.example.test"}
    assert not any(str(r.inputs.get("content", "")).endswith(".") for r in made)
    [signer] = [r.inputs["data"] for r in made if r.inputs["type"] == "DS" and "aws.mx" in r.inputs["name"]]
    assert signer == {"keyTag": 12345, "algorithm": 13, "digestType": 2, "digest": "AB" * 32}


@pytest.mark.parametrize(
    ("parent", "token", "values"),
    [
        ("route53", "aws:route53/record:Record", "records"),
        ("clouddns", "gcp:dns/recordSet:RecordSet", "rrdatas"),
    ],
)
def test_the_other_providers_have_one_set_for_each_name_and_type(
    parent: str, token: str, values: str
) -> None:
    fleet_plan, expected = planned()
    made = records(parent).of(token)
    assert {(r.inputs["name"].rstrip("."), r.inputs["type"]) for r in made} == {
        (record.name.rstrip("."), record.type) for record in expected
    }
    assert len(made) == len(expected)
    counts = {
        (record.name.rstrip("."), record.type): len(value_keys(fleet_plan, record)) for record in expected
    }
    assert {(r.inputs["name"].rstrip("."), r.inputs["type"]): len(r.inputs[values]) for r in made} == counts


@pytest.mark.parametrize("parent", PARENTS)
def test_a_long_dkim_key_arrives_whole(parent: str) -> None:
    token = {
        "cloudflare": "cloudflare:index/dnsRecord:DnsRecord",
        "route53": "aws:route53/record:Record",
        "clouddns": "gcp:dns/recordSet:RecordSet",
    }[parent]
    found = [
        r.inputs
        for r in records(parent).of(token)
        if r.inputs["type"] == "TXT"
        and "_domainkey" in r.inputs["name"]
        and r.inputs["name"].rstrip(".").endswith(".example.test")
    ]
    assert found
    for one in found:
        text = one["content"] if parent == "cloudflare" else one.get("records", one.get("rrdatas"))[0]
        # Route 53's provider puts the outer quotes itself.
        quoted = f'"{text}"' if parent == "route53" else text
        strings = re.findall(r'"([^"]*)"', quoted)
        assert len(strings) > 1
        assert max(map(len, strings)) <= 255
        assert "".join(strings).startswith("v=DKIM1; k=rsa; p=")
        assert "".join(strings).endswith(LONG)


@pytest.mark.parametrize(
    ("provider", "makes", "record", "place"),
    [
        ("cloudflare", "cloudflare:index/zone:Zone", "cloudflare:index/dnsRecord:DnsRecord", "zoneId"),
        ("route53", "aws:route53/zone:Zone", "aws:route53/record:Record", "zoneId"),
        ("clouddns", "gcp:dns/managedZone:ManagedZone", "gcp:dns/recordSet:RecordSet", "managedZone"),
    ],
)
def test_a_zone_that_exists_only_gets_records(provider: str, makes: str, record: str, place: str) -> None:
    parent = {**PARENTS[provider], "existing": {"example.test": "Z0EXISTING"}}
    program = declared(dns__parent=parent)
    assert [zone.name for zone in program.of(makes)] == ["dns-second-test-zone"]
    signing = {"cloudflare:index/zoneDnssec:ZoneDnssec", "aws:route53/hostedZoneDnsSec:HostedZoneDnsSec"}
    assert not [item for token in signing for item in program.of(token) if "example-test" in item.name]
    of_it = [
        item.inputs for item in program.of(record) if item.inputs["name"].rstrip(".").endswith("example.test")
    ]
    assert of_it and {item[place] for item in of_it} == {"Z0EXISTING"}


def test_the_parent_zone_is_signed_at_each_provider() -> None:
    assert records("cloudflare").of("cloudflare:index/zoneDnssec:ZoneDnssec")[0].inputs["status"] == "active"
    route53 = records("route53")
    assert len(route53.of("aws:route53/hostedZoneDnsSec:HostedZoneDnsSec")) == 2
    keys = route53.of("aws:kms/key:Key")
    assert {(k.inputs["region"], k.inputs["customerMasterKeySpec"]) for k in keys} == {
        ("us-east-1", "ECC_NIST_P256")
    }
    for zone in records("clouddns").of("gcp:dns/managedZone:ManagedZone"):
        assert zone.inputs["dnssecConfig"]["state"] == "on"
        assert {spec["algorithm"] for spec in zone.inputs["dnssecConfig"]["defaultKeySpecs"]} == {
            "ecdsap256sha256"
        }


def test_a_value_keeps_its_resource_when_a_region_comes() -> None:
    def by_name(program: Program) -> dict[str, dict[str, Any]]:
        return {r.name: r.inputs for r in program.of("cloudflare:index/dnsRecord:DnsRecord")}

    before = by_name(declared())
    regions = [AWS_REGION, *config()["regions"]]
    after = by_name(declared(regions=regions))
    assert set(before) <= set(after)

    def of_regions(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
        return {name: found[name]["data"] for name in before if found[name]["type"] == "TLSA"}

    assert of_regions(before)
    assert of_regions(after) == of_regions(before)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("10 mx1.example.test.", "mx1.example.test"),
        ("0 1 993 imap.example.test.", "imap.example.test"),
        ("0 0 0 .", "none"),
    ],
)
def test_target(value: str, expected: str) -> None:
    assert target(value) == expected


def test_route53_value_splits_and_leaves_the_outer_quotes() -> None:
    assert route53_value("TXT", "v=spf1 -all") == "v=spf1 -all"
    assert route53_value("TXT", "a" * 300) == "a" * 255 + '""' + "a" * 45
    assert "".join(txt_strings("a" * 300)) == "a" * 300
    assert route53_value("MX", "10 mx.example.test.") == "10 mx.example.test."


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (
            "SRV",
            "0 1 993 imap.example.test.",
            {"priority": 0, "weight": 1, "port": 993, "target": "imap.example.test"},
        ),
        ("SRV", "0 0 0 .", {"priority": 0, "weight": 0, "port": 0, "target": "."}),
        ("TLSA", "2 1 1 abcd", {"usage": 2, "selector": 1, "matching_type": 1, "certificate": "abcd"}),
        ("CAA", '0 issue "ca.test"', {"flags": "0", "tag": "issue", "value": "ca.test"}),
    ],
)
def test_cloudflare_data(kind: str, text: str, expected: dict[str, Any]) -> None:
    assert cloudflare_data(kind, text) == expected
