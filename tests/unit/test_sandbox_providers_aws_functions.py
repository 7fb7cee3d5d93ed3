"""AWS's functions that need no daemon."""

import json
from typing import Any

import pytest

from mailinfra.sandbox.aws.images import DEBIAN_OWNER
from mailinfra.sandbox.providers.aws.functions import FUNCTIONS
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.guard import ACCOUNT
from mailinfra.sandbox.providers.schema import Sdk


class Cloud:
    """A configured cloud."""

    def __init__(self) -> None:
        self.config = {"region": "eu-central-1"}


def call(token: str, **arguments: Any) -> dict[str, Any]:
    return FUNCTIONS[token](Cloud(), arguments)


def test_every_function_is_one_of_the_sdk():
    sdk = Sdk("pulumi_aws")
    for token in FUNCTIONS:
        assert sdk.function(token).outputs


def test_the_account_is_the_sandboxs():
    assert call("aws:index/getCallerIdentity:getCallerIdentity")["accountId"] == ACCOUNT == "000000000000"


def test_regions_and_zones():
    assert call("aws:index/getRegion:getRegion")["region"] == "eu-central-1"
    assert (
        call("aws:index/getRegion:getRegion", region="us-east-1")["endpoint"] == "ec2.us-east-1.amazonaws.com"
    )
    zones = call("aws:index/getAvailabilityZones:getAvailabilityZones", excludeNames=["eu-central-1a"])
    assert zones["names"] and "eu-central-1a" not in zones["names"]
    with pytest.raises(ProviderError, match="found mars-north-1; allowed: af-south-1"):
        call("aws:index/getRegion:getRegion", region="mars-north-1")


FILTER = [{"name": "name", "values": ["debian-12-amd64-*"]}]


def test_the_newest_image_of_a_name():
    found = call("aws:ec2/getAmi:getAmi", owners=[DEBIAN_OWNER], mostRecent=True, filters=FILTER)
    assert found["name"].startswith("debian-12-amd64-") and found["id"].startswith("ami-")
    arm = [*FILTER[:0], {"name": "architecture", "values": ["arm64"]}]
    assert call("aws:ec2/getAmi:getAmi", mostRecent=True, filters=arm)["architecture"] == "arm64"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"filters": FILTER}, "2 images fit"),
        ({"owners": ["1"]}, "no image fits; the sandbox has: debian-12"),
        (
            {"filters": [{"name": "colour", "values": []}]},
            r"filters\[0\].name: found colour; allowed in the sandbox",
        ),
    ],
)
def test_images_that_cannot_be_told(arguments: dict[str, Any], words: str):
    with pytest.raises(ProviderError, match=words):
        call("aws:ec2/getAmi:getAmi", **arguments)


def test_policy_documents():
    statement = {
        "sid": "A",
        "actions": ["s3:GetObject"],
        "resources": ["a", "b"],
        "principals": [{"type": "AWS", "identifiers": ["x"]}, {"type": "AWS", "identifiers": ["y"]}],
        "conditions": [{"test": "StringEquals", "variable": "k", "values": ["v"]}],
    }
    found = call("aws:iam/getPolicyDocument:getPolicyDocument", statements=[statement])
    assert (
        json.loads(found["json"])
        == json.loads(found["minifiedJson"])
        == {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "A",
                    "Effect": "Allow",
                    "Action": "s3:GetObject",
                    "Resource": ["b", "a"],
                    "Principal": {"AWS": ["y", "x"]},
                    "Condition": {"StringEquals": {"k": "v"}},
                }
            ],
        }
    )
    over = json.dumps({"Statement": [{"Sid": "A", "Effect": "Deny"}, {"Sid": "B", "Effect": "Allow"}]})
    merged = call(
        "aws:iam/getPolicyDocument:getPolicyDocument", statements=[statement], overridePolicyDocuments=[over]
    )
    assert [s["Effect"] for s in json.loads(merged["json"])["Statement"]] == ["Deny", "Allow"]
