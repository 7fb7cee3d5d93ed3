"""Cross-field checks: each wrong config is refused at its place, all problems at once."""

from typing import Any

import pytest

from mailinfra.checks import CHECKS, SECTIONS, Check, problems
from mailinfra.errors import ConfigError
from mailinfra.fleet import Fleet
from mailinfra.places import PLACES
from mailinfra.plan import plan
from tests.fleets import AWS_REGION, STACKS, config, fleet, refused

EDGE = {"name": "edge", "roles": ["mx", "submission", "imap", "pop3"]}
OUT = {"name": "out", "roles": ["egress"]}
STORE = {"name": "store", "roles": ["mailbox"]}
SINGLE = [{"provider": "route53", "label": "aws"}]
LATENCY = {"policy": "latency"}
LONG = ".".join(["a" * 60] * 3) + ".test"

SNAPSHOT = "snap-0123456789abcdef0"
RESTORE = "from_snapshot"

WRONG: list[tuple[dict[str, Any], str, str]] = [
    (
        {f"regions__0__groups__2__{RESTORE}": {"2": SNAPSHOT}},
        "regions[0].groups[2].from_snapshot.2",
        "a node of the group: 1 to 1",
    ),
    (
        {f"regions__0__groups__0__{RESTORE}": {"1": SNAPSHOT}},
        "regions[0].groups[0].from_snapshot.1",
        "a group with mail volumes",
    ),
    (
        {f"regions__0__groups__2__{RESTORE}": {"1": "mail-20300101"}},
        "regions[0].groups[2].from_snapshot.1",
        "an EBS snapshot's id",
    ),
    (
        {f"regions__0__groups__2__{RESTORE}": {"1": "Snap!"}},
        "regions[0].groups[2].from_snapshot.1",
        "an EBS snapshot's id (snap-…) or a Compute Engine snapshot's name",
    ),
    ({"name": "google-mail"}, "name", "bucket names"),
    ({"domains": ["example.test", "example.test"]}, "domains[1]", "each domain once"),
    ({"domains": ["example.test", "sub.example.test"]}, "domains[1]", "none is below another"),
    ({"domains": ["mail.example.test", "example.test"]}, "domains[0]", "none is below another"),
    ({"domains": [LONG]}, "domains[0]", "at most 253"),
    ({"domains": [LONG, f"b{LONG}"]}, "domains[1]", "at most 253"),
    ({"zones__eu__countries": ["DE", "UK"]}, "zones.eu.countries[1]", "GB"),
    ({"zones__eu__countries": ["DE", "DE"]}, "zones.eu.countries[1]", "each country once"),
    ({"zones__apac": {"countries": ["JP"]}}, "zones.apac", "zones that a region belongs to"),
    ({"zones__mx": {"countries": ["DE"]}, "regions__0__zone": "mx"}, "zones.mx", "other than"),
    ({"regions__1__region": "europe-west33"}, "regions[1].region", "europe-west3"),
    ({"regions__1__region": "eu-west-1"}, "regions[1].region", "a region of gcp"),
    ({"regions__1__region": "europe-west2"}, "regions[1].zone", "a zone with GB"),
    ({"regions__0__zone": "us"}, "regions[0].zone", "a zone with DE"),
    ({"regions__0__zone": "eur"}, "regions[0].zone", "eu"),
    (
        {"regions__4": {**AWS_REGION, "region": "us-east-1", "zone": "us"}},
        "regions[4].region",
        "each region once",
    ),
    ({"regions__0__availability_zones": ["a", "a"]}, "regions[0].availability_zones[1]", "each once"),
    ({"regions__0__groups__1__name": "edge"}, "regions[0].groups[1].name", "each name once"),
    (
        {"regions__0__groups__1__roles": ["egress", "egress"]},
        "regions[0].groups[1].roles[1]",
        "each role once",
    ),
    ({"regions__0__groups__0__position": 1}, "regions[0].groups[1].position", "of its own"),
    ({"regions__1__groups__0__roles": ["mx", "egress"]}, "regions[1].groups[0].roles[1]", "egress on aws"),
    ({"regions__0__network": "203.0.113.32/27"}, "regions[1].network", "do not overlap"),
    ({"regions__0__network": "203.0.0.0/16"}, "regions[0].network", "private"),
    ({"regions__0__network": "224.0.0.0/24"}, "regions[0].network", "private"),
    ({"regions__0__network": "127.0.0.0/24"}, "regions[0].network", "private"),
    ({"regions__0__network": "169.254.0.0/24"}, "regions[0].network", "private"),
    ({"regions__0__network": "8.8.8.0/24"}, "regions[0].network", "private"),
    ({"regions__0__groups__0__count": 30}, "regions[0].network", "/24 or larger"),
    ({"regions__0__groups__1__count": 0}, "zones.eu", "role egress"),
    ({"regions__0__groups__1__roles": ["imap"]}, "zones.eu", "role egress"),
    ({"regions__2__groups__2__count": 0, "regions__3__groups__1__count": 0}, "zones.us", "role mailbox"),
    (
        {"regions__2__groups__0__roles": ["mx", "submission"], "regions__3__groups__0__roles": ["mx"]},
        "zones.us",
        "imap or pop3",
    ),
    ({"mx__primaries": ["eu-central-1", "europe-west3"]}, "zones.us", "primary MX region in the zone"),
    ({"mx__primaries": ["eu-central-1"]}, "mx.primaries", "two or more regions"),
    ({"mx__primaries": ["eu-central-1", "us-eest-1", "us-east-1"]}, "mx.primaries[1]", "us-east-1"),
    ({"mx__secondaries": ["us-east-1", "us-east-1"]}, "mx.secondaries[1]", "each region once"),
    (
        {"mx__primaries": ["eu-central-1", "us-east-1"], "regions__2__groups__0__roles": ["imap"]},
        "mx.primaries[1]",
        "role mx",
    ),
    ({"dns__steering": SINGLE}, "dns.steering", "two or more"),
    ({"dns__steering": []}, "dns.steering", "two or more"),
    ({"dns__steering": SINGLE * 2}, "dns.steering[1].label", "each label once"),
    ({"mx__secondary_priority": 10}, "mx.secondary_priority", "above primary_priority"),
    ({"mx__policy": "latency"}, "mx.policy", "geo, weighted"),
    ({"mx__ttl_seconds": 120}, "mx.ttl_seconds", "at most 60"),
    (
        {"mx__policy": "weighted", **{f"regions__{n}__weight": 0 for n in range(4)}},
        "regions",
        "above 0",
    ),
    (
        {
            "regions__0__network": "10.0.0.0/18",
            "regions__0__groups": [{**EDGE, "count": 64}, OUT, STORE, {**EDGE, "name": "more", "count": 64}],
        },
        "regions[0].groups",
        "at most 100",
    ),
    ({"dns__parent": {"provider": "cloudflare"}}, "dns.parent.account_id", "Cloudflare account"),
    ({"dns__parent__provider": "route53"}, "dns.parent.account_id", "nothing"),
    (
        {"dns__parent__existing": {"other.test": "abc"}},
        "dns.parent.existing.other.test",
        "one of example.test",
    ),
    ({"clouds__gcp__project": ""}, "clouds.gcp.project", "regions[1]"),
    ({"clouds__aws__endpoints__kms": "https://kms.aws.test"}, "clouds.aws.endpoints.kms", "{region}"),
    ({"clouds__aws__endpoints__sts": "https://sts.aws.test"}, "clouds.aws.endpoints.sts", "{region}"),
    ({"placement__default": "eu-west-9"}, "placement.default", "a region of the fleet"),
    ({"placement__rules__1__home": "nowhere"}, "placement.rules[1].home", "a region of the fleet"),
    ({"regions__1__groups__1__count": 0}, "placement.rules[1].home", "with mailbox nodes"),
    ({"placement__rules__1__values": ["NL", "DE"]}, "placement.rules[1].values[1]", "in one rule"),
    ({"placement__rules__1__values": ["NL", "NL"]}, "placement.rules[1].values[1]", "in one rule"),
    ({"dkim__keys": [{"serial": "1", "stage": "published"}]}, "dkim.keys", "exactly one"),
    ({"dkim__keys": [{"serial": "1"}, {"serial": "2"}]}, "dkim.keys", "exactly one"),
    (
        {"dkim__keys": [{"serial": "1"}, {"serial": "1", "stage": "published"}]},
        "dkim.keys[1].serial",
        "each serial once",
    ),
    ({"dkim__selector": "{serial}"}, "dkim.selector", "{region} and {serial}"),
    ({"dkim__selector": "{region}-{serial}-{x}"}, "dkim.selector", "no other braces"),
    ({"dkim__selector": "-{region}-{serial}"}, "dkim.selector", "labels"),
    ({"dkim__selector": "{region}..{serial}"}, "dkim.selector", "labels"),
    ({"dkim__selector": "{region}-{serial}" + "x" * 60}, "dkim.selector", "at most 63"),
    (
        {
            "dkim__selector": "{region}{serial}",
            "dkim__keys": [{"serial": "1"}, {"serial": "21", "stage": "published"}],
            "placement__rules": [],
            "regions__1__region": "europe-west1",
            "regions__4": {
                "cloud": "gcp",
                "region": "europe-west12",
                "zone": "eu",
                "network": "203.0.113.160/27",
                "groups": [EDGE],
            },
        },
        "dkim.selector",
        "keeps regions and serials apart",
    ),
]


@pytest.mark.parametrize(("changes", "path", "allowed"), WRONG, ids=[f"{p}-{a}" for _, p, a in WRONG])
def test_a_wrong_config_is_refused_at_its_place(changes: dict[str, Any], path: str, allowed: str) -> None:
    found = refused(**changes)
    assert any(item.path == path and allowed in item.allowed for item in found), found
    assert all(item.found for item in found)


@pytest.mark.parametrize("stack", STACKS)
def test_the_stacks_own_configs_are_accepted(stack: str) -> None:
    assert problems(fleet(stack)) == []


def test_everything_wrong_is_said_at_once() -> None:
    found = refused(
        domains=["example.test", "example.test"],
        mx__primaries=["eu-central-1"],
        placement__default="nowhere",
        dkim__keys=[{"serial": "1", "stage": "retired"}],
    )
    assert {item.path.partition("[")[0] for item in found} >= {
        "domains",
        "mx.primaries",
        "placement.default",
        "dkim.keys",
    }


def test_more_than_ten_sending_zones_do_not_fit_into_spf() -> None:
    data = config()
    countries = ["DE", "US", "GB", "FR", "IE", "SE", "IT", "ES", "JP", "SG", "CH"]
    names = ["eu-central-1", "us-east-1", "eu-west-2", "eu-west-3", "eu-west-1", "eu-north-1", "eu-south-1"]
    names += ["eu-south-2", "ap-northeast-1", "ap-southeast-1", "eu-central-2"]
    data["zones"] = {f"z{n}": {"countries": [country]} for n, country in enumerate(countries)}
    data["regions"] = [
        {
            "cloud": "aws",
            "region": name,
            "zone": f"z{n}",
            "network": f"10.0.{n}.0/24",
            "groups": [EDGE, OUT, STORE],
        }
        for n, name in enumerate(names)
    ]
    data["placement"] = {"default": "eu-central-1"}
    with pytest.raises(ConfigError) as error:
        Fleet.load(data)
    assert [(item.path, item.found) for item in error.value.problems] == [
        ("zones", "11 zones with egress nodes")
    ]
    data["zones"].popitem()
    data["regions"].pop()
    assert len(Fleet.load(data).regions) == 10


def test_relaxed_residency_lets_mail_cross() -> None:
    assert not refused(mx__primaries=["eu-central-1", "europe-west3"], residency="relaxed")


def test_a_fleet_on_aws_alone_needs_no_project() -> None:
    data = config(clouds={}, dns__steering=[*SINGLE, {"provider": "route53", "label": "two"}])
    data["regions"] = [data["regions"][0], data["regions"][2]]
    data["placement"] = {"default": "eu-central-1"}
    assert Fleet.load(data).clouds.gcp.project == ""


def test_a_field_that_is_wrong_does_not_hide_what_does_not_fit_together() -> None:
    found = refused(
        name="Not a label",
        mx__policy="near",
        domains=["example.test", "example.test"],
        regions__0__network="203.0.113.32/27",
        dkim__keys=[{"serial": "1", "stage": "retired"}],
    )
    assert {item.path for item in found} == {
        "name",
        "mx.policy",
        "domains[1]",
        "regions[1].network",
        "dkim.keys",
    }


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_check_reads_the_sections_that_it_names_and_no_others(check: Check) -> None:
    assert check.__doc__
    sections = SECTIONS[check]
    assert list(check(Fleet.of_sections(config(), sections), PLACES)) == []
    for name in sections:
        with pytest.raises(AttributeError):
            list(check(Fleet.of_sections(config(), sections - {name}), PLACES))


def test_a_restore_reaches_the_node_that_it_is_for() -> None:
    restored = plan(
        fleet(
            regions__0__groups__2__from_snapshot={"1": SNAPSHOT},
            regions__1__groups__1__from_snapshot={"1": "mail-20300101"},
        )
    )
    found = {node.fqdn.split(".")[1]: node.snapshot for node in restored.nodes if node.snapshot}
    assert found == {"eu-central-1": SNAPSHOT, "europe-west3": "mail-20300101"}
