"""The records: right by the RFCs, each RRset once, and complete when everything is known."""

import base64
import hashlib

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailinfra.fleet import Fleet
from mailinfra.records import (
    DKIM_REVOKED,
    Known,
    Record,
    absolute,
    all_mx_hosts,
    dkim_value,
    mta_sts_id,
    mta_sts_policy,
    resolve,
    role_hosts,
    spf_value,
    static_records,
    steering_provider,
    tlsa_value,
    txt_quoted,
    txt_strings,
)
from tests.fleets import AWS_REGION, STACKS, fleet


def known(one: Fleet) -> Known:
    """Everything that a fleet needs, made up."""
    hosts = [
        f"{group.name}-{n}.{region.region}.nodes.{one.primary_domain}"
        for region in one.regions
        for group in region.groups
        for n in range(1, group.count + 1)
    ]
    zones = [f"{item.label}.mx.{one.primary_domain}" for item in one.dns.steering]
    return Known(
        addresses={
            host: {4: f"198.51.100.{n + 1}", 6: f"2001:db8::{n + 1:x}"} for n, host in enumerate(hosts)
        },
        dkim={
            (r.region, key.serial): f"dkim {r.region}".encode() for r in one.regions for key in one.dkim.keys
        },
        ca={region.region: f"ca {region.region}".encode() for region in one.regions},
        name_servers={zone: ["ns1.provider.test", "ns2.provider.test."] for zone in zones},
        ds={zone: ["1 13 2 " + "AB" * 32] for zone in zones},
    )


def _one(records: tuple[Record, ...], name: str, kind: str) -> tuple[str, ...]:
    found = [record.values for record in records if record.name == name and record.type == kind]
    assert len(found) == 1, (name, kind, found)
    return found[0]


@pytest.fixture(scope="module")
def records() -> tuple[Record, ...]:
    one = fleet()
    return resolve(static_records(one), known(one))


@pytest.mark.parametrize("stack", STACKS)
def test_every_rrset_is_once_and_parses(stack: str) -> None:
    one = fleet(stack)
    whole = resolve(static_records(one), known(one))
    assert len(whole) == len(static_records(one))
    assert len({record.key for record in whole}) == len(whole)
    names = {record.name for record in whole if record.type == "CNAME"}
    assert not [record for record in whole if record.name in names and record.type != "CNAME"]
    for record in whole:
        assert record.name == record.zone or record.name.endswith(f".{record.zone}")
        dns.name.from_text(record.name)
        for value in record.values:
            text = txt_quoted(value) if record.type == "TXT" else value
            dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(record.type), text)


def test_mx_has_equal_primaries_in_every_steering_zone(records: tuple[Record, ...]) -> None:
    assert _one(records, "example.test", "MX") == (
        "10 mx1.aws.mx.example.test.",
        "10 mx1.gcp.mx.example.test.",
        "20 mx2.aws.mx.example.test.",
        "20 mx2.gcp.mx.example.test.",
    )
    assert _one(records, "second.test", "MX") == _one(records, "example.test", "MX")


def test_spf_names_the_egress_nodes_and_nobody_else(records: tuple[Record, ...]) -> None:
    value = "v=spf1 a:egress.eu.example.test a:egress.us.example.test -all"
    assert _one(records, "example.test", "TXT") == (value,)
    assert spf_value(fleet()) == value
    assert _one(records, "out-1.eu-central-1.nodes.example.test", "TXT") == ("v=spf1 a -all",)
    assert _one(records, "edge-1.eu-central-1.nodes.example.test", "TXT") == ("v=spf1 -all",)
    assert set(_one(records, "egress.eu.example.test", "A")) == set(
        _one(records, "out-1.eu-central-1.nodes.example.test", "A")
    )


def test_dkim_is_published_once_and_referred_to(records: tuple[Record, ...]) -> None:
    value = dkim_value(b"dkim eu-central-1")
    assert _one(records, "eu-central-1-1._domainkey.example.test", "TXT") == (value,)
    assert base64.b64decode(value.rpartition("p=")[2]) == b"dkim eu-central-1"
    assert _one(records, "eu-central-1-1._domainkey.second.test", "CNAME") == (
        "eu-central-1-1._domainkey.example.test.",
    )


def test_dkim_by_stage_of_life() -> None:
    keys = [
        {"serial": "4", "stage": "generated"},
        {"serial": "3", "stage": "published"},
        {"serial": "2", "stage": "signing"},
        {"serial": "1", "stage": "retired"},
    ]
    one = fleet(dkim={"keys": keys})
    whole = resolve(static_records(one), known(one))
    names = {record.name for record in whole}
    assert "eu-central-1-4._domainkey.example.test" not in names
    assert _one(whole, "eu-central-1-3._domainkey.example.test", "TXT")[0].startswith("v=DKIM1; k=rsa; p=")
    assert _one(whole, "eu-central-1-2._domainkey.example.test", "TXT")[0].startswith("v=DKIM1; k=rsa; p=")
    assert _one(whole, "eu-central-1-1._domainkey.example.test", "TXT") == (DKIM_REVOKED,)


def test_only_signing_regions_have_a_dkim_record() -> None:
    one = fleet("dr", regions__0__groups__0__roles=["mx", "imap", "egress"])
    names = {record.name for record in static_records(one)}
    assert "eu-north-1-1._domainkey.example.com" not in names
    assert "us-east-2-1._domainkey.example.com" in names


def test_dmarc_and_who_gets_the_reports(records: tuple[Record, ...]) -> None:
    assert _one(records, "_dmarc.second.test", "TXT") == (
        "v=DMARC1; p=reject; sp=reject; adkim=s; aspf=r; rua=mailto:dmarc@example.test",
    )
    assert _one(records, "second.test._report._dmarc.example.test", "TXT") == ("v=DMARC1",)


def test_reports_can_go_elsewhere() -> None:
    one = fleet(authentication={"dmarc_reports": "d@other.example", "tls_reports": "t@other.example"})
    whole = static_records(one)
    assert _one(whole, "_dmarc.example.test", "TXT")[0].endswith("rua=mailto:d@other.example")
    assert _one(whole, "_smtp._tls.example.test", "TXT") == ("v=TLSRPTv1; rua=mailto:t@other.example",)
    assert not [record for record in whole if "_report._dmarc" in record.name]


def test_mta_sts_policy_and_its_id(records: tuple[Record, ...]) -> None:
    one = fleet()
    assert mta_sts_policy(one).split("\r\n") == [
        "version: STSv1",
        "mode: enforce",
        "mx: mx1.aws.mx.example.test",
        "mx: mx1.gcp.mx.example.test",
        "mx: mx2.aws.mx.example.test",
        "mx: mx2.gcp.mx.example.test",
        "max_age: 604800",
        "",
    ]
    assert _one(records, "_mta-sts.second.test", "TXT") == (f"v=STSv1; id={mta_sts_id(one)}",)
    assert mta_sts_id(one).isalnum()
    assert len(mta_sts_id(one)) <= 32
    assert mta_sts_id(one) != mta_sts_id(fleet(authentication={"mta_sts": "testing"}))
    assert _one(records, "mta-sts.second.test", "CNAME") == ("mx1.aws.mx.example.test.",)


def test_mta_sts_can_be_off() -> None:
    one = fleet(authentication={"mta_sts": "off"})
    assert mta_sts_policy(one) == ""
    assert not [record for record in static_records(one) if "mta-sts" in record.name]


def test_tlsa_is_a_trust_anchor_for_each_region_behind_a_name(records: tuple[Record, ...]) -> None:
    value = f"2 1 1 {hashlib.sha256(b'ca us-east-1').hexdigest()}"
    assert tlsa_value(b"ca us-east-1") == value
    mx = _one(records, "_25._tcp.mx1.gcp.mx.example.test", "TLSA")
    assert value in mx
    assert len(mx) == 4
    assert next(r.zone for r in records if r.name.startswith("_25._tcp.mx1.gcp")) == "gcp.mx.example.test"
    imap = _one(records, "_993._tcp.imap.us.example.test", "TLSA")
    assert value in imap
    assert len(imap) == 2


def test_without_dnssec_there_is_no_tlsa_and_no_ds() -> None:
    assert not {record.type for record in static_records(fleet(dns__dnssec=False))} & {"TLSA", "DS"}


def test_delegations(records: tuple[Record, ...]) -> None:
    assert _one(records, "aws.mx.example.test", "NS") == ("ns1.provider.test.", "ns2.provider.test.")
    assert _one(records, "aws.mx.example.test", "DS")[0].startswith("1 13 2 ")
    assert {r.zone for r in records if r.type in ("NS", "DS")} == {"example.test"}


def test_mail_programs_find_the_services(records: tuple[Record, ...]) -> None:
    assert _one(records, "_imaps._tcp.second.test", "SRV") == (
        "0 1 993 imap.eu.example.test.",
        "0 1 993 imap.us.example.test.",
    )
    assert _one(records, "_imap._tcp.example.test", "SRV") == ("0 0 0 .",)


def test_what_is_not_offered_is_said_so() -> None:
    assert _one(static_records(fleet("dev", regions__0__groups__0__roles=["mx", "submission", "imap", "egress"])),
                "_pop3s._tcp.dev.example.com", "SRV") == ("0 0 0 .",)  # fmt: skip


def test_a_host_without_ipv6_has_no_aaaa() -> None:
    one = fleet()
    facts = known(one)
    host = "out-1.us-east-1.nodes.example.test"
    facts = Known(
        {**facts.addresses, host: {4: "198.51.100.77"}}, facts.dkim, facts.ca, facts.name_servers, facts.ds
    )
    whole = resolve(static_records(one), facts)
    assert not [record for record in whole if record.name == host and record.type == "AAAA"]
    assert not [r for r in whole if r.name == "egress.us.example.test" and r.type == "AAAA"]
    assert _one(whole, host, "A") == ("198.51.100.77",)


def test_what_is_not_known_is_an_error() -> None:
    with pytest.raises(KeyError):
        resolve(static_records(fleet()), Known())


def test_a_region_more_changes_no_host_record_of_the_others() -> None:
    before = {r.key: r for r in static_records(fleet()) if ".nodes." in r.name or "_domainkey" in r.name}
    after = {r.key: r for r in static_records(fleet(regions__4=AWS_REGION))}
    assert before.items() <= after.items()


def test_role_hosts_by_zone() -> None:
    from mailinfra.fleet import Role

    assert role_hosts(fleet(), Role.EGRESS, "eu") == ("out-1.eu-central-1.nodes.example.test",)
    assert len(role_hosts(fleet(), Role.EGRESS)) == 2
    assert len(all_mx_hosts(fleet())) == 4


def test_who_serves_which_zone() -> None:
    assert steering_provider(fleet(), "aws.mx.example.test") == "route53"
    assert steering_provider(fleet(), "example.test") is None


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=900))
def test_txt_strings_join_to_the_value_and_survive_the_presentation(value: str) -> None:
    assert "".join(txt_strings(value)) == value
    assert all(len(part) <= 255 for part in txt_strings(value))
    parsed = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.TXT, txt_quoted(value))
    assert b"".join(parsed.strings).decode() == value


def test_a_txt_value_is_ascii() -> None:
    with pytest.raises(ValueError, match="ASCII"):
        txt_strings("é")


def test_a_4096_bit_key_is_cut() -> None:
    value = dkim_value(bytes(550))
    assert len(txt_strings(value)) == 3
    assert absolute("a.test.") == absolute("a.test") == "a.test."
