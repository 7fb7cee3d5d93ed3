"""The DNS records of a stack in one form."""

import pytest

from mailinfra_policy.maildns import MailDns, exchange, tag_list, txt
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.values import UNKNOWN
from tests.policy_dns import DOMAIN, DOMAINS, TEXTS, clouddns, cloudflare, route53
from tests.policy_helpers import changed, resource


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ("v=spf1 -all", "v=spf1 -all"),
        ('"v=spf1 -all"', "v=spf1 -all"),
        ('"one " "two"', "one two"),
        ('one""two', "onetwo"),
        (r'"a \"quoted\" word\; \059"', 'a "quoted" word; ;'),
        ('""', ""),
    ],
)
def test_the_strings_of_a_txt_are_joined(stored: str, text: str) -> None:
    assert txt(stored) == text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10 MX.example.test.", (10, "mx.example.test")),
        ("0 .", (0, "")),
        ("mx.example.test", (None, None)),
        ("10 a b", (None, None)),
        (UNKNOWN, (UNKNOWN, UNKNOWN)),
    ],
)
def test_an_exchange_is_a_preference_and_a_host(text: object, found: tuple[object, object]) -> None:
    assert exchange(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("v=DMARC1; p=none;", {"v": "DMARC1", "p": "none"}),
        ("a=1; a=2", None),
        ("a", None),
        ("a=1;;b=2", None),
    ],
)
def test_a_tag_list_is_read_or_refused(text: str, found: dict[str, str] | None) -> None:
    assert tag_list(text) == found


@pytest.mark.parametrize("resources", DOMAINS)
def test_every_service_says_the_same(resources: list[Resource]) -> None:
    zones = MailDns(Stack(resources))
    assert set(zones.domains) == {DOMAIN}
    assert sorted(host for _, host, *_ in zones.exchanges(DOMAIN)) == ["mx1.example.test", "mx2.example.test"]
    for name, text in TEXTS.items():
        assert [value for item in zones.of(name, "TXT") for value in item.values] == [text]


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("mx1", "mx1.example.test"),
        ("MX1.Example.Test", "mx1.example.test"),
        ("mx1.example.org.", "mx1.example.org"),
        ("@", DOMAIN),
    ],
)
def test_a_relative_name_lies_in_its_zone(name: str, owner: str) -> None:
    zone = resource("aws:route53/zone:Zone", "zone", {"name": DOMAIN}, outputs={"zoneId": "zone-id"})
    (item,) = MailDns(Stack([zone, route53(name, "A", ["192.0.2.1"])])).sets
    assert item.owner == owner


def test_what_is_not_known_stays_so() -> None:
    record = changed(route53("mx1.example.test", "A", []), records=UNKNOWN, ttl=UNKNOWN)
    named = changed(cloudflare("x", "MX", "mx1.example.test"), name=UNKNOWN)
    first, second = MailDns(Stack([record, named])).sets
    assert first.values == [UNKNOWN] and first.ttl is UNKNOWN
    assert second.owner is UNKNOWN and MailDns(Stack([named])).unknown_mx == [second]


def test_an_alias_and_a_wildcard_are_followed() -> None:
    zones = MailDns(
        Stack(
            [
                route53("*.example.test", "CNAME", ["target.example.test"]),
                route53("target.example.test", "A", ["192.0.2.1"]),
                route53("loop.example.test", "CNAME", ["loop.example.test"]),
            ]
        )
    )
    assert [answer.value for _, answer in zones.answers("any.example.test", "A")] == ["192.0.2.1"]
    assert zones.answers("loop.example.test", "A") == []


def test_a_routing_policy_gives_its_answers() -> None:
    policy = {
        "geos": [
            {"location": "europe-west3", "healthCheckedTargets": {"externalEndpoints": ["192.0.2.1"]}},
            {"location": "us-east1", "rrdatas": ["192.0.2.2"]},
        ]
    }
    record = changed(clouddns("mx1.example.test", "A", [], routingPolicy=policy), rrdatas=None)
    (item,) = MailDns(Stack([record])).sets
    assert (item.policy, item.values) == ("geo", ["192.0.2.1", "192.0.2.2"])
    assert item.answers[0].path == "routingPolicy.geos[0].healthCheckedTargets.externalEndpoints[0]"
