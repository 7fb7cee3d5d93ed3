"""Errors about single fields: paths, what was found, what is allowed, in plain words."""

from typing import Any

import pytest

from mailinfra.errors import ConfigError
from mailinfra.fleet import Fleet
from mailinfra.wording import MAX_FOUND, path, shown
from tests.fleets import config

CASES: list[tuple[dict[str, Any], str, str, str]] = [
    (
        {"name": "A B"},
        "name",
        "'A B'",
        "a DNS label (lower-case letters, digits and inner hyphens), at most 12 characters",
    ),
    ({"name": 7}, "name", "7", 'in quotes: "…"'),
    ({"domains": []}, "domains", "[]", "a list of 1 or more, each entry a domain name"),
    ({"domains": "example.test"}, "domains", "'example.test'", "a list of 1 or more"),
    ({"domains": ["example.test."]}, "domains[0]", "'example.test.'", "without a final dot"),
    ({"domains": ["1.2.3.4"]}, "domains[0]", "'1.2.3.4'", "a domain name"),
    ({"zones": {"E U": {"countries": ["DE"]}}}, "zones.E U", "'E U'", "a DNS label"),
    (
        {"zones__eu__countries": [False]},
        "zones.eu.countries[0]",
        "False",
        "two capital letters (ISO 3166-1 alpha-2), in quotes",
    ),
    ({"residency": "lax"}, "residency", "'lax'", "one of strict, relaxed"),
    ({"regions__0__cloud": "azure"}, "regions[0].cloud", "'azure'", "one of aws, gcp"),
    ({"regions__0__network": "10.0.0.1/24"}, "regions[0].network", "'10.0.0.1/24'", "no host bits set"),
    ({"regions__0__network": "10.0.0.0/28"}, "regions[0].network", "'10.0.0.0/28'", "from 16 to 27"),
    ({"regions__0__weight": 256}, "regions[0].weight", "256", "a whole number from 0 to 255"),
    ({"regions__0__weight": 0.5}, "regions[0].weight", "0.5", "a whole number from 0 to 255"),
    ({"regions__0__groups__0__count": -1}, "regions[0].groups[0].count", "-1", "a whole number from 0 to 64"),
    (
        {"regions__0__groups__0__counts": 1},
        "regions[0].groups[0].counts",
        "1",
        "no such field; perhaps count",
    ),
    ({"regions__0__groups__0__zzz": 1}, "regions[0].groups[0].zzz", "1", "one of name, roles"),
    ({"regions__0": 5}, "regions[0]", "5", "a mapping with the fields cloud, region"),
    (
        {"regions__0__groups__0__position": "x"},
        "regions[0].groups[0].position",
        "'x'",
        "a whole number from 0 to 63",
    ),
    ({"mx__health": {"interval_seconds": 20}}, "mx.health.interval_seconds", "20", "one of 10, 30"),
    ({"dkim__bits": 1024}, "dkim.bits", "1024", "one of 2048, 3072, 4096"),
    ({"dns__dnssec": "perhaps"}, "dns.dnssec", "'perhaps'", "true or false"),
    (
        {"clouds__aws__endpoints__kms": "http://x"},
        "clouds.aws.endpoints.kms",
        "'http://x'",
        "an https:// URL",
    ),
    (
        {"clouds__aws__endpoints__kms": "https://{x}.test"},
        "clouds.aws.endpoints.kms",
        "'https://{x}.test'",
        "only {region}",
    ),
    ({"placement": {}}, "placement.default", "nothing", "a cloud's region name"),
    ({"authentication": {"dmarc_reports": "x"}}, "authentication.dmarc_reports", "'x'", "a mail address"),
]


@pytest.mark.parametrize(("changes", "where", "found", "allowed"), CASES, ids=[case[1] for case in CASES])
def test_each_error_reads_well(changes: dict[str, Any], where: str, found: str, allowed: str) -> None:
    with pytest.raises(ConfigError) as error:
        Fleet.load(config(**changes))
    problem = next(item for item in error.value.problems if item.path == where)
    assert problem.found == found
    assert allowed in problem.allowed
    assert f"{where}: found {found}; allowed: " in str(error.value)


@pytest.mark.parametrize("data", [None, 5, "x", [], [1], {}, {1: 2}, {"name": float("nan")}])
def test_garbage_is_refused_with_a_path(data: Any) -> None:
    with pytest.raises(ConfigError) as error:
        Fleet.load(data)
    assert all(item.path and item.allowed for item in error.value.problems)


def test_long_values_are_cut() -> None:
    assert len(shown("x" * 1000)) == MAX_FOUND
    assert shown(10**5000) == "a value of type int"


def test_paths() -> None:
    assert path(("regions", 2, "groups", 0, "name")) == "regions[2].groups[0].name"
    assert path(()) == "fleet"


def test_the_head_counts() -> None:
    with pytest.raises(ConfigError, match="1 problem in"):
        Fleet.load(config(name="A"))
