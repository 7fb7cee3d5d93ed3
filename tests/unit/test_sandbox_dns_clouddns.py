"""Cloud DNS's record sets and routing policies."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailinfra.sandbox.dns.clouddns import probe_key, probe_of, translate
from mailinfra.sandbox.dns.rdata import RefusedError
from mailinfra.sandbox.dns.translate import Probe, RRset, Translated
from tests.dns_helpers import Resolver

ZONE = "gcp.mx.example.test."
CHECK = "projects/p/global/healthChecks/smtp"
CHECKS: dict[str, dict[str, Any]] = {
    CHECK: {
        "type": "TCP",
        "checkIntervalSec": 30,
        "timeoutSec": 5,
        "unhealthyThreshold": 3,
        "tcpHealthCheck": {"port": 25},
    }
}


def policy(**fields: Any) -> dict[str, Any]:
    return {"name": f"mx1.{ZONE}", "type": "A", "ttl": 30, "routingPolicy": {"healthCheck": CHECK, **fields}}


def endpoints(*addresses: str) -> dict[str, Any]:
    return {"healthCheckedTargets": {"externalEndpoints": list(addresses)}}


def translated(*records: dict[str, Any]) -> Translated:
    return translate(ZONE, records, CHECKS)


def rule(*records: dict[str, Any]) -> str:
    return translated(*records).rrsets[0].contents[0]


def down(*addresses: str) -> tuple[str, ...]:
    return tuple(probe_key(CHECK, a) for a in addresses)


GEO = policy(
    geo={
        "items": [
            {"location": "europe-west3", **endpoints("192.0.2.1", "192.0.2.2")},
            {"location": "us-east4", **endpoints("192.0.2.3")},
        ]
    }
)


def test_a_plain_record_set() -> None:
    result = translated(
        {"name": ZONE, "type": "SOA", "ttl": 300, "rrdatas": ["ns. h. 1 2 3 4 5"]},
        {"name": f"t.{ZONE}", "type": "TXT", "ttl": 300, "rrdatas": ['"v=DKIM1; " "p=AA"', "bare words"]},
    )
    assert result.rrsets == [RRset(f"t.{ZONE}", "TXT", 300, ('"v=DKIM1; " "p=AA"', '"bare" "words"'))]


def test_the_nearest_region_answers_with_its_healthy_endpoints(tmp_path: Path) -> None:
    assert Resolver(tmp_path, "DE").ask(rule(GEO)) == ["192.0.2.1", "192.0.2.2"]
    assert Resolver(tmp_path, "US").ask(rule(GEO)) == ["192.0.2.3"]
    assert Resolver(tmp_path, "DE", down("192.0.2.1")).ask(rule(GEO)) == ["192.0.2.2"]
    assert Resolver(tmp_path, "DE", down("192.0.2.1", "192.0.2.2")).ask(rule(GEO)) == ["192.0.2.3"]


def test_a_fence_keeps_clients_in_their_region(tmp_path: Path) -> None:
    fenced = policy(geo={**GEO["routingPolicy"]["geo"], "enableFencing": True})
    assert Resolver(tmp_path, "DE", down("192.0.2.1", "192.0.2.2")).ask(rule(fenced)) == [
        "192.0.2.1",
        "192.0.2.2",
    ]


def test_weights_with_fractions(tmp_path: Path) -> None:
    wrr = policy(
        wrr={
            "items": [
                {"weight": 0.75, **endpoints("192.0.2.1")},
                {"weight": 0.25, **endpoints("192.0.2.2")},
                {"weight": 0, **endpoints("192.0.2.3")},
            ]
        }
    )
    resolver = Resolver(tmp_path)
    answers = Counter(resolver.ask(rule(wrr))[0] for _ in range(1000))
    assert 700 <= answers["192.0.2.1"] <= 800
    assert answers["192.0.2.3"] == 0
    assert Resolver(tmp_path, down=down("192.0.2.1")).ask(rule(wrr)) == ["192.0.2.2"]


def test_primary_and_backup(tmp_path: Path) -> None:
    failover = policy(
        primaryBackup={
            "primaryTargets": {"externalEndpoints": ["192.0.2.1", "192.0.2.2"]},
            "backupGeoTargets": {"items": [{"location": "us-east4", **endpoints("192.0.2.3")}]},
        }
    )
    assert Resolver(tmp_path).ask(rule(failover)) == ["192.0.2.1", "192.0.2.2"]
    assert Resolver(tmp_path, down=down("192.0.2.2")).ask(rule(failover)) == ["192.0.2.1"]
    assert Resolver(tmp_path, down=down("192.0.2.1", "192.0.2.2")).ask(rule(failover)) == ["192.0.2.3"]


def test_each_endpoint_is_probed() -> None:
    probes = translated(GEO).probes
    assert set(probes) == set(down("192.0.2.1", "192.0.2.2", "192.0.2.3"))
    assert probes[probe_key(CHECK, "192.0.2.1")] == Probe(
        "tcp", address="192.0.2.1", port=25, interval=30.0, timeout=5.0, rise=2, fall=3
    )


def test_items_without_health_are_always_answered(tmp_path: Path) -> None:
    plain = policy(geo={"items": [{"location": "europe-west3", "rrdatas": ["192.0.2.9"]}]})
    assert Resolver(tmp_path).ask(rule(plain)) == ["192.0.2.9"]
    assert translated(plain).probes == {}


PLAIN = {"name": f"a.{ZONE}", "type": "A", "ttl": 60, "rrdatas": ["192.0.2.1"]}
REFUSED: list[tuple[list[dict[str, Any]], str]] = [
    ([PLAIN, PLAIN], "two record sets of the same name and type"),
    ([{**PLAIN, "name": "a.other.test."}], "not in the zone"),
    ([{**PLAIN, "rrdatas": []}], "neither rrdatas nor routingPolicy"),
    ([{**PLAIN, "rrdatas": ["x"]}], "no valid A value"),
    ([{**PLAIN, "colour": 1}], "unknown colour"),
    ([{**GEO, "rrdatas": ["192.0.2.1"]}], "both rrdatas and routingPolicy"),
    ([policy()], "exactly one of wrr, geo, primaryBackup"),
    ([policy(geo={"items": []})], "exactly one|at least one item"),
    (
        [policy(geo={"items": [{"location": "eu-central-1", **endpoints("192.0.2.1")}]})],
        "no region of Google Cloud",
    ),
    ([policy(geo={"items": GEO["routingPolicy"]["geo"]["items"][:1] * 2})], "a second item for europe-west3"),
    ([policy(wrr={"items": [{"weight": 0, **endpoints("192.0.2.1")}]})], "all weights are 0"),
    ([policy(wrr={"items": [{"weight": -1, **endpoints("192.0.2.1")}]})], "outside 0 to"),
    ([policy(wrr={"items": [{"weight": 1, **endpoints("2001:db8::1")}]})], "no valid A value"),
    ([{**GEO, "type": "TXT"}], "in A and AAAA record sets only"),
    (
        [policy(healthCheck="", wrr={"items": [{"weight": 1, **endpoints("192.0.2.1")}]})],
        "without the policy's healthCheck",
    ),
    (
        [policy(healthCheck="x", wrr={"items": [{"weight": 1, **endpoints("192.0.2.1")}]})],
        "'x' does not exist",
    ),
    (
        [policy(wrr={"items": [{"weight": 1, "healthCheckedTargets": {"internalLoadBalancers": [{}]}}]})],
        "for private zones",
    ),
]


@pytest.mark.parametrize(("records", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_what_cloud_dns_would_refuse_is_refused(records: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        translated(*records)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "SSL"}, "allowed for DNS are TCP, HTTP, HTTPS"),
        ({"type": "TCP", "checkIntervalSec": 10}, "outside 30 to 300"),
        ({"type": "TCP", "timeoutSec": 60}, "longer than checkIntervalSec"),
    ],
)
def test_checks_that_dns_cannot_use_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        probe_of("c", config, "192.0.2.1")


items = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "weight": st.floats() | st.integers(-1, 9) | st.text(max_size=3),
            "location": st.sampled_from(["europe-west3", "us-east4", "x'"]),
            "rrdatas": st.lists(st.sampled_from(["192.0.2.1", "'--"]) | st.text(max_size=5), max_size=2)
            | st.text(),
            "healthCheckedTargets": st.just({"externalEndpoints": ["192.0.2.7"]}) | st.text(max_size=3),
        },
    )
    | st.none()
    | st.text(max_size=3),
    max_size=3,
)


@settings(max_examples=300)
@given(
    kind=st.sampled_from(["wrr", "geo", "primaryBackup"]),
    body=st.fixed_dictionaries({"items": items}, optional={"enableFencing": st.booleans()})
    | st.text(max_size=3),
)
def test_any_policy_is_translated_or_refused(
    kind: str, body: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    try:
        result = translated(policy(**{kind: body}))
    except RefusedError as error:
        assert str(error)
        return
    for made in result.rrsets:
        for text in made.contents:
            assert Resolver(tmp_path_factory.mktemp("down")).ask(text)
