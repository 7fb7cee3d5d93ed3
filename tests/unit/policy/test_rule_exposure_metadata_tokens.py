"""Instance metadata asks for a session token."""

import pytest

from mailinfra_policy.rules.exposure_metadata_tokens import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource

INSTANCE = resource(
    "aws:ec2/instance:Instance",
    "node",
    {"ami": "ami-1", "metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 1}},
)
TEMPLATE = resource(
    "aws:ec2/launchTemplate:LaunchTemplate", "group", {"metadataOptions": {"httpTokens": "required"}}
)
OLD = resource(
    "aws:ec2/launchConfiguration:LaunchConfiguration", "old", {"metadataOptions": {"httpTokens": "required"}}
)
GOOD = ([INSTANCE], [TEMPLATE], [OLD])


def test_the_default_is_not_enough() -> None:
    assert places(RULE, [changed(INSTANCE, metadataOptions=None)]) == [("node", "metadataOptions.httpTokens")]


def test_a_disabled_endpoint_needs_no_token() -> None:
    assert found(RULE, [changed(INSTANCE, metadataOptions={"httpEndpoint": "disabled"})]) == []


@pytest.mark.parametrize("tokens", ["optional", "REQUIRED", ""])
def test_a_wrong_value_is_named(tokens: str) -> None:
    (item,) = found(RULE, [changed(INSTANCE, metadataOptions={"httpTokens": tokens})])
    assert (item.finding.path, item.finding.found) == ("metadataOptions.httpTokens", f'"{tokens}"')
    assert item.finding.allowed == '"required"'


def test_unknown_is_found_and_said() -> None:
    items = found(RULE, [changed(INSTANCE, metadataOptions=UNKNOWN)])
    assert items and all(item.finding.unknown for item in items)
