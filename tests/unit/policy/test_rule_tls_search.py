"""Search domains speak TLS only."""

from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.tls_search import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

ENDPOINT = {"enforceHttps": True, "tlsSecurityPolicy": "Policy-Min-TLS-1-2-PFS-2023-10"}
OPEN = resource(
    "aws:opensearch/domain:Domain",
    "open",
    {"domainEndpointOptions": ENDPOINT, "nodeToNodeEncryption": {"enabled": True}},
)
ELASTIC = resource(
    "aws:elasticsearch/domain:Domain",
    "elastic",
    {"domainEndpointOptions": ENDPOINT, "nodeToNodeEncryption": {"enabled": True}},
)
CLOUD = resource(
    "aws:cloudsearch/domain:Domain",
    "cloud",
    {"endpointOptions": {"enforceHttps": True, "tlsSecurityPolicy": "Policy-Min-TLS-1-2-2019-07"}},
)
GOOD = ([OPEN], [ELASTIC], [CLOUD])


@pytest.mark.parametrize(
    ("good", "props", "path"),
    [
        (
            OPEN,
            {"domainEndpointOptions": {"tlsSecurityPolicy": "Policy-Min-TLS-1-2-PFS-2023-10"}},
            "domainEndpointOptions.enforceHttps",
        ),
        (
            OPEN,
            {"domainEndpointOptions": {**ENDPOINT, "tlsSecurityPolicy": "Policy-Min-TLS-1-0-2019-07"}},
            "domainEndpointOptions.tlsSecurityPolicy",
        ),
        (
            OPEN,
            {"domainEndpointOptions": {**ENDPOINT, "tlsSecurityPolicy": "Policy-Min-TLS-1-2-PFS-2023-1"}},
            "domainEndpointOptions.tlsSecurityPolicy",
        ),
        (
            OPEN,
            {"domainEndpointOptions": {**ENDPOINT, "enforceHttps": 1}},
            "domainEndpointOptions.enforceHttps",
        ),
        (ELASTIC, {"nodeToNodeEncryption": {"enabled": False}}, "nodeToNodeEncryption.enabled"),
        (CLOUD, {"endpointOptions": {"enforceHttps": True}}, "endpointOptions.tlsSecurityPolicy"),
    ],
)
def test_what_is_wrong_is_named(good: Resource, props: dict[str, Any], path: str) -> None:
    assert places(RULE, [changed(good, **props)]) == [(good.name, path)]


def test_no_domain_has_a_floor_of_13_and_it_is_said() -> None:
    (item,) = found(RULE, [OPEN], settings(tls={"services": "1.3"}))
    assert item.finding.path == "domainEndpointOptions.tlsSecurityPolicy"
    assert item.finding.allowed.startswith("nothing of this type")


def test_unknown_is_found() -> None:
    items = found(RULE, [changed(OPEN, domainEndpointOptions=UNKNOWN)])
    assert len(items) == 2 and all(item.finding.unknown for item in items)
