"""Instance metadata asks for a session token, and lets nobody log in."""

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
CLOSED = {"enable-oslogin": "TRUE", "block-project-ssh-keys": "true", "serial-port-enable": "FALSE"}
MACHINE = resource("gcp:compute/instance:Instance", "vm", {"metadata": CLOSED})
ITEM = "gcp:compute/projectMetadataItem:ProjectMetadataItem"
GOOGLE = [
    MACHINE,
    resource("gcp:compute/instanceTemplate:InstanceTemplate", "template", {"metadata": CLOSED}),
    resource("gcp:compute/regionInstanceTemplate:RegionInstanceTemplate", "regional", {"metadata": CLOSED}),
    resource("gcp:compute/instanceFromTemplate:InstanceFromTemplate", "of-template", {"metadata": CLOSED}),
    resource(
        "gcp:compute/instanceFromMachineImage:InstanceFromMachineImage", "of-image", {"metadata": CLOSED}
    ),
    resource("gcp:compute/projectMetadata:ProjectMetadata", "all", {"metadata": {"enable-oslogin": "TRUE"}}),
    resource(ITEM, "login", {"key": "enable-oslogin", "value": "TRUE"}),
    resource(ITEM, "serial", {"key": "serial-port-enable", "value": "FALSE"}),
    resource(ITEM, "other", {"key": "foo", "value": "bar"}),
]
GOOD = ([INSTANCE], [TEMPLATE], [OLD], GOOGLE)


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


def test_at_google_the_default_lets_keys_in() -> None:
    wanted = [("vm", "metadata.block-project-ssh-keys"), ("vm", "metadata.enable-oslogin")]
    assert places(RULE, [changed(MACHINE, metadata=None)]) == wanted
    assert places(RULE, [changed(MACHINE, metadata={"startup-script": "x"})]) == wanted


@pytest.mark.parametrize("token", ["instanceFromTemplate:InstanceFromTemplate"])
def test_a_machine_has_the_metadata_of_its_template(token: str) -> None:
    assert found(RULE, [resource(f"gcp:compute/{token}", "vm")]) == []
    assert len(found(RULE, [resource(f"gcp:compute/{token}", "vm", {"metadata": {"a": "b"}})])) == 2


@pytest.mark.parametrize(
    "key, value",
    [("enable-oslogin", "yes"), ("serial-port-enable", "TRUE"), ("ssh-keys", "root:ssh-ed25519 AAAA")],
)
def test_what_opens_a_machine_is_named(key: str, value: str) -> None:
    (item,) = found(RULE, [changed(MACHINE, metadata={**CLOSED, key: value})])
    assert (item.finding.path, item.finding.found) == (f"metadata.{key}", f'"{value}"')


@pytest.mark.parametrize(
    "key, value, path",
    [("ssh-keys", "x", "key"), ("serial-port-enable", "1", "value"), ("enable-oslogin", "FALSE", "value")],
)
def test_an_entry_for_the_whole_project_opens_every_machine(key: str, value: str, path: str) -> None:
    assert places(RULE, [resource(ITEM, "all", {"key": key, "value": value})]) == [("all", path)]


def test_metadata_that_is_not_known_may_be_any() -> None:
    items = found(RULE, [changed(MACHINE, metadata=UNKNOWN), resource(ITEM, "all", {"key": UNKNOWN})])
    assert len(items) == 5 and all(item.finding.unknown for item in items)
