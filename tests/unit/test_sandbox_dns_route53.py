"""Route 53's record sets: what its API gives becomes what its documentation says is answered."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailinfra.sandbox.dns.rdata import RefusedError
from mailinfra.sandbox.dns.route53 import probe_key, probe_of, record_key, translate
from mailinfra.sandbox.dns.translate import Probe, RRset, Translated
from tests.dns_helpers import Resolver

ZONE = "aws.mx.example.test."
CHECKS: dict[str, dict[str, Any]] = {
    f"hc{i}": {
        "Type": "TCP",
        "IPAddress": f"192.0.2.{i}",
        "Port": 25,
        "RequestInterval": 10,
        "FailureThreshold": 3,
    }
    for i in range(1, 6)
}


def record(address: str, name: str = "mx1", **fields: Any) -> dict[str, Any]:
    return {
        "Name": f"{name}.{ZONE}",
        "Type": "A",
        "TTL": 60,
        "ResourceRecords": [{"Value": address}],
        **fields,
    }


def alias(target: str, name: str = "mx1", *, evaluate: bool = True, **fields: Any) -> dict[str, Any]:
    to = {"DNSName": f"{target}.{ZONE}", "HostedZoneId": "Z1", "EvaluateTargetHealth": evaluate}
    return {"Name": f"{name}.{ZONE}", "Type": "A", "AliasTarget": to, **fields}


def translated(*records: dict[str, Any], checks: dict[str, dict[str, Any]] = CHECKS) -> Translated:
    return translate(ZONE, records, checks)


def content(result: Translated, name: str = "mx1") -> str:
    found = [r for r in result.rrsets if r.name == f"{name}.{ZONE}"]
    assert len(found) == 1
    assert found[0].rtype == "LUA"
    return found[0].contents[0]


def down(*checks: str) -> tuple[str, ...]:
    return tuple(probe_key(c) for c in checks)


def test_a_simple_record_set_is_plain_records() -> None:
    txt = {
        "Name": f"t.{ZONE}",
        "Type": "TXT",
        "TTL": 300,
        "ResourceRecords": [{"Value": '"v=DKIM1; " "p=AA"'}],
    }
    result = translated(record("192.0.2.1"), txt)
    assert result.rrsets == [
        RRset(f"mx1.{ZONE}", "A", 60, ("192.0.2.1",)),
        RRset(f"t.{ZONE}", "TXT", 300, ('"v=DKIM1; " "p=AA"',)),
    ]
    assert result.probes == {}


def test_soa_and_name_servers_of_the_zone_are_the_name_servers_own() -> None:
    soa = {"Name": ZONE, "Type": "SOA", "TTL": 900, "ResourceRecords": [{"Value": "ns.x. h.x. 1 2 3 4 5"}]}
    ns = {"Name": ZONE, "Type": "NS", "TTL": 900, "ResourceRecords": [{"Value": "ns-1.awsdns-01.test."}]}
    child = {
        "Name": f"sub.{ZONE}",
        "Type": "NS",
        "TTL": 900,
        "ResourceRecords": [{"Value": "ns1.other.test"}],
    }
    assert translated(soa, ns, child).rrsets == [RRset(f"sub.{ZONE}", "NS", 900, ("ns1.other.test.",))]


def test_weights_and_the_health_of_each_set(tmp_path: Path) -> None:
    rule = content(
        result := translated(
            record("192.0.2.1", SetIdentifier="a", Weight=70, HealthCheckId="hc1"),
            record("192.0.2.2", SetIdentifier="b", Weight=30, HealthCheckId="hc2"),
        )
    )
    resolver = Resolver(tmp_path)
    answers = Counter(resolver.ask(rule)[0] for _ in range(1000))
    assert 640 <= answers["192.0.2.1"] <= 760
    assert Resolver(tmp_path, down=down("hc1")).ask(rule) == ["192.0.2.2"]
    assert result.rrsets[0].ttl == 60
    assert result.probes[probe_key("hc1")] == Probe(
        "tcp", address="192.0.2.1", port=25, interval=10.0, timeout=10.0, rise=3, fall=3
    )


def test_weight_zero_is_a_policy() -> None:
    rule = content(translated(record("192.0.2.1", SetIdentifier="a", Weight=0)))
    assert "weight=0" in rule


def test_a_set_with_several_values_stands_or_falls_as_a_whole(tmp_path: Path) -> None:
    both = {"ResourceRecords": [{"Value": "192.0.2.1"}, {"Value": "192.0.2.2"}]}
    rule = content(
        translated(
            {**record("", SetIdentifier="a", Failover="PRIMARY", HealthCheckId="hc1"), **both},
            record("192.0.2.3", SetIdentifier="b", Failover="SECONDARY"),
        )
    )
    assert Resolver(tmp_path).ask(rule) == ["192.0.2.1", "192.0.2.2"]
    assert Resolver(tmp_path, down=down("hc1")).ask(rule) == ["192.0.2.3"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_failover_with_both_unhealthy_answers_the_primary(order: tuple[int, int], tmp_path: Path) -> None:
    sets = [
        record("192.0.2.1", SetIdentifier="p", Failover="PRIMARY", HealthCheckId="hc1"),
        record("192.0.2.2", SetIdentifier="s", Failover="SECONDARY", HealthCheckId="hc2"),
    ]
    rule = content(translated(*(sets[i] for i in order)))
    assert Resolver(tmp_path, down=down("hc1", "hc2")).ask(rule) == ["192.0.2.1"]


def test_geography_and_latency(tmp_path: Path) -> None:
    geo = content(
        translated(
            record("192.0.2.1", SetIdentifier="de", GeoLocation={"CountryCode": "DE"}),
            record("192.0.2.2", SetIdentifier="na", GeoLocation={"ContinentCode": "NA"}),
            record("192.0.2.3", SetIdentifier="*", GeoLocation={"CountryCode": "*"}),
        )
    )
    assert [Resolver(tmp_path, c).ask(geo)[0][-1] for c in ("DE", "US", "JP")] == ["1", "2", "3"]
    latency = content(
        translated(
            record("192.0.2.1", SetIdentifier="eu", Region="eu-central-1"),
            record("192.0.2.2", SetIdentifier="us", Region="us-east-1"),
        )
    )
    assert [Resolver(tmp_path, c).ask(latency)[0][-1] for c in ("DE", "US")] == ["1", "2"]


def test_multivalue_answers(tmp_path: Path) -> None:
    rule = content(
        translated(
            *(
                record(f"192.0.2.{i}", SetIdentifier=str(i), MultiValueAnswer=True, HealthCheckId=f"hc{i}")
                for i in (1, 2, 3)
            )
        )
    )
    assert sorted(Resolver(tmp_path, down=down("hc2")).ask(rule)) == ["192.0.2.1", "192.0.2.3"]


def test_an_alias_of_a_simple_set_is_a_copy_of_it() -> None:
    result = translated(record("192.0.2.1", name="edge", TTL=30), alias("edge"))
    assert RRset(f"mx1.{ZONE}", "A", 30, ("192.0.2.1",)) in result.rrsets


def test_a_tree_of_aliases_within_and_between_zones(tmp_path: Path) -> None:
    """Geography over weighted pools; the pool of Germany is in another zone of the account."""
    pool_zone = "pool.example.test."
    pool = [
        {**record("192.0.2.1", SetIdentifier="a", Weight=1, HealthCheckId="hc1"), "Name": f"de.{pool_zone}"},
        {**record("192.0.2.2", SetIdentifier="b", Weight=1, HealthCheckId="hc2"), "Name": f"de.{pool_zone}"},
    ]
    into_pool = {"DNSName": f"de.{pool_zone}", "HostedZoneId": "Z2", "EvaluateTargetHealth": True}
    records = [
        {**alias("", SetIdentifier="de", GeoLocation={"CountryCode": "DE"}), "AliasTarget": into_pool},
        alias("us", SetIdentifier="*", GeoLocation={"CountryCode": "*"}),
        record("192.0.2.3", name="us", SetIdentifier="c", Weight=1, HealthCheckId="hc3"),
    ]
    result = translate(ZONE, records, CHECKS, {pool_zone: pool})
    rule = content(result)
    assert set(result.probes) == set(down("hc1", "hc2", "hc3"))
    assert Resolver(tmp_path, "DE", down("hc1")).ask(rule) == ["192.0.2.2"]
    assert Resolver(tmp_path, "DE", down("hc1", "hc2")).ask(rule) == ["192.0.2.3"]
    assert Resolver(tmp_path, "US").ask(rule) == ["192.0.2.3"]
    assert Resolver(tmp_path, "DE", down("hc1", "hc2", "hc3")).ask(rule)[0] in ("192.0.2.1", "192.0.2.2")


def test_an_alias_of_nothing_answers_nothing_and_warns() -> None:
    result = translated(alias("gone"))
    assert result.rrsets == []
    assert "gone.aws.mx.example.test. has no A record set" in result.warnings[0]


REFUSED: list[tuple[list[dict[str, Any]], str]] = [
    ([alias("mx2", "mx1"), alias("mx1", "mx2")], "form a circle"),
    ([record("192.0.2.1"), record("192.0.2.2")], "two record sets with the set identifier"),
    ([record("192.0.2.1", Weight=1)], "SetIdentifier is missing"),
    ([record("192.0.2.1", SetIdentifier="a")], "without a routing policy"),
    ([record("192.0.2.1", SetIdentifier="a", Weight=256)], "Weight 256 is outside 0 to 255"),
    ([record("192.0.2.1", SetIdentifier="a", Weight=1, Region="eu-west-1")], "more than one routing policy"),
    ([record("192.0.2.1", SetIdentifier="a", Region="europe-west3")], "no region of AWS"),
    ([record("192.0.2.1", SetIdentifier="a", GeoLocation={"CountryCode": "de"})], "ISO 3166-1"),
    ([record("192.0.2.1", SetIdentifier="a", GeoLocation={"ContinentCode": "XX"})], "ContinentCode 'XX'"),
    ([record("192.0.2.1", SetIdentifier="a", Failover="THIRD")], "PRIMARY and SECONDARY"),
    ([record("192.0.2.1", SetIdentifier="a", Weight=1, HealthCheckId="nope")], "'nope' does not exist"),
    ([record("192.0.2.1", name="x", ResourceRecords=[])], "neither ResourceRecords nor AliasTarget"),
    ([{**record("192.0.2.1"), "TTL": None}], "TTL is missing"),
    ([record("192.0.2.300")], "no valid A value"),
    ([{**record("192.0.2.1"), "Name": "mx1.other.test"}], "not in the zone"),
    ([record("192.0.2.1", Colour="red")], "unknown Colour"),
    ([record("192.0.2.1", SetIdentifier="a", CidrRoutingConfig={"x": 1})], "CidrRoutingConfig is not served"),
    ([{**record("x"), "Type": "TXT"}], "in double quotes"),
    (
        [{**alias("x"), "AliasTarget": {"DNSName": "lb.elb.amazonaws.com", "EvaluateTargetHealth": True}}],
        "no hosted zone of this sandbox",
    ),
    (
        [
            record("192.0.2.1", SetIdentifier="a", Weight=1),
            record("192.0.2.2", SetIdentifier="b", Failover="PRIMARY"),
        ],
        "must share one routing policy, found failover, weighted",
    ),
    (
        [
            record("192.0.2.1", SetIdentifier="a", GeoLocation={"CountryCode": "DE"}),
            record("192.0.2.2", SetIdentifier="b", GeoLocation={"CountryCode": "DE"}),
        ],
        "same place or role 'DE'",
    ),
]


@pytest.mark.parametrize(("records", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_what_route_53_would_refuse_is_refused(records: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        translated(*records)


def test_health_checks() -> None:
    http = probe_of(
        "h",
        {
            "Type": "HTTPS_STR_MATCH",
            "FullyQualifiedDomainName": "m.test",
            "SearchString": "ok",
            "Inverted": True,
        },
    )
    assert http == Probe(
        "https",
        host="m.test",
        port=443,
        match="ok",
        interval=30.0,
        timeout=6.0,
        rise=3,
        fall=3,
        inverted=True,
    )
    assert probe_of("h", {**CHECKS["hc1"], "Disabled": True}) is None
    for config, message in (
        ({"Type": "CLOUDWATCH_METRIC"}, "not run here"),
        ({**CHECKS["hc1"], "RequestInterval": 20}, "allowed are 10 and 30"),
        ({**CHECKS["hc1"], "FailureThreshold": 11}, "outside 1 to 10"),
        ({"Type": "TCP", "Port": 25}, "one is needed"),
        ({**CHECKS["hc1"], "IPAddress": "x"}, "no IP address"),
    ):
        with pytest.raises(RefusedError, match=message):
            probe_of("h", config)


def test_a_calculated_check_brings_its_children() -> None:
    checks = {
        **CHECKS,
        "both": {"Type": "CALCULATED", "ChildHealthChecks": ["hc1", "hc2"], "HealthThreshold": 2},
    }
    result = translated(record("192.0.2.1", SetIdentifier="a", Weight=1, HealthCheckId="both"), checks=checks)
    assert result.probes[probe_key("both")].children == (probe_key("hc1"), probe_key("hc2"))
    assert set(result.probes) == set(down("both", "hc1", "hc2"))
    checks["both"]["ChildHealthChecks"] = ["gone"]
    with pytest.raises(RefusedError, match="child 'gone' does not exist"):
        translated(record("192.0.2.1", SetIdentifier="a", Weight=1, HealthCheckId="both"), checks=checks)


def test_a_disabled_check_counts_as_healthy() -> None:
    checks = {"off": {**CHECKS["hc1"], "Disabled": True}}
    result = translated(record("192.0.2.1", SetIdentifier="a", Weight=1, HealthCheckId="off"), checks=checks)
    assert result.probes == {}
    assert "check=" not in content(result)


def test_a_record_is_known_by_name_type_and_identifier() -> None:
    assert record_key({"Name": "\\052.A.test", "Type": "a"}) == ("*.a.test.", "A", "")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
odd_record = st.fixed_dictionaries(
    {
        "Name": st.sampled_from([f"mx1.{ZONE}", f"mx2.{ZONE}", ZONE, "x'.test"]),
        "Type": st.sampled_from(["A", "TXT", "MX", "CNAME", "LUA", "NS"]),
    },
    optional={
        "TTL": st.sampled_from([60, 0, -1, None, "x"]),
        "ResourceRecords": st.lists(
            st.fixed_dictionaries(
                {"Value": st.sampled_from(["192.0.2.1", '"a"', "10 m.test", "x'\"]]--"]) | st.text()}
            ),
            max_size=2,
        )
        | anything,
        "SetIdentifier": st.sampled_from(["a", "b", "'", ""]) | st.text(max_size=3),
        "Weight": st.integers(-1, 256) | anything,
        "Region": st.sampled_from(["eu-central-1", "us-east-1"]) | st.text(max_size=5),
        "GeoLocation": st.fixed_dictionaries({"CountryCode": st.sampled_from(["DE", "*", "'"])}) | anything,
        "HealthCheckId": st.sampled_from([*CHECKS, "none", None]),
        "AliasTarget": st.fixed_dictionaries(
            {
                "DNSName": st.sampled_from([f"mx1.{ZONE}", f"mx2.{ZONE}"]),
                "EvaluateTargetHealth": st.booleans(),
            }
        ),
    },
)


@settings(max_examples=300)
@given(records=st.lists(odd_record, max_size=4))
def test_any_records_are_translated_or_refused_and_rules_run(
    records: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    try:
        result = translated(*records)
    except RefusedError as error:
        assert str(error)
        return
    for made in result.rrsets:
        for text in made.contents if made.rtype == "LUA" else ():
            assert text.count('"') == 2
            assert Resolver(tmp_path_factory.mktemp("down")).ask(text) is not None


def test_places_without_a_default_are_warned_of() -> None:
    lone = translated(record("192.0.2.1", SetIdentifier="de", GeoLocation={"CountryCode": "DE"}))
    assert "no record set for the default location" in lone.warnings[0]
    whole = translated(record("192.0.2.1", SetIdentifier="*", GeoLocation={"CountryCode": "*"}))
    assert whole.warnings == []
