"""What AWS's live types refuse at once, and what replaces them."""

import base64
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.providers.aws import cloud
from mailinfra.sandbox.providers.aws.registry import RECORDED_RULES, adapters
from mailinfra.sandbox.providers.base import SandboxProvider
from mailinfra.sandbox.providers.schema import Sdk
from mailinfra.sandbox.providers.values import UNKNOWN

LIVE = adapters()


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> SandboxProvider:
    folder = tmp_path_factory.mktemp("aws")
    aws = cloud(Paths("t", folder, folder))
    aws.configure({"region": "eu-central-1", "defaultTags": {"tags": {"fleet": "f", "own": "d"}}})
    return SandboxProvider(aws)


def check(provider: SandboxProvider, token: str, /, **inputs: Any) -> list[str]:
    _, failures = provider.check(f"urn:pulumi:s::p::{token}::n", {}, inputs, b"seed")
    return [str(failure) for failure in failures]


def test_every_adapter_speaks_of_properties_that_the_sdk_has():
    sdk = Sdk("pulumi_aws")
    for token, adapter in LIVE.items():
        schema = sdk.schema(token)
        rules = adapter.rules
        named = rules.replaces | rules.keeps | rules.unordered | rules.json
        assert named <= schema.inputs.keys(), token
        assert adapter.computed <= schema.inputs.keys(), token
        assert adapter.volatile <= schema.outputs, token
        for name in rules.unordered:
            assert schema.inputs[name].type.kind == "list", (token, name)
    for token, rules in RECORDED_RULES.items():
        assert rules.replaces | rules.json <= sdk.schema(token).inputs.keys(), token


INSTANCE = {"ami": "ami-1", "instanceType": "t3.small"}


@pytest.mark.parametrize(
    ("token", "inputs", "failure"),
    [
        ("kms/key:Key", {"deletionWindowInDays": 6}, "deletionWindowInDays: found 6; allowed: 7 to 30 days"),
        (
            "kms/key:Key",
            {"rotationPeriodInDays": 30},
            "rotationPeriodInDays: found 30; allowed: 90 to 2560 days",
        ),
        (
            "kms/key:Key",
            {"customerMasterKeySpec": "RSA_2048", "enableKeyRotation": True},
            "enableKeyRotation: found true; allowed: true for symmetric keys only",
        ),
        (
            "kms/alias:Alias",
            {"name": "x", "targetKeyId": "k"},
            "name: found 'x'; allowed: a name that begins with 'alias/'",
        ),
        (
            "s3/bucket:Bucket",
            {"acl": "private"},
            "acl: found a value; allowed in the sandbox: a resource aws.s3.BucketAcl",
        ),
        ("iam/role:Role", {"assumeRolePolicy": "{"}, "assumeRolePolicy: found no JSON"),
        ("ec2/eip:Eip", {"instance": "i-1"}, "instance: found a value; allowed in the sandbox: a resource"),
        ("ec2/instance:Instance", {"instanceType": "t3.small"}, "ami: missing"),
        (
            "ec2/instance:Instance",
            {**INSTANCE, "userData": "a", "userDataBase64": "YQ=="},
            "userDataBase64: found beside userData; allowed: one of them",
        ),
        (
            "ec2/instance:Instance",
            {**INSTANCE, "userDataBase64": "not base64"},
            "userDataBase64: found no base64",
        ),
        (
            "ec2/instance:Instance",
            {**INSTANCE, "userDataBase64": base64.b64encode(os.urandom(16_385)).decode()},
            "userDataBase64: found 16385 bytes; compressed it has",
        ),
        (
            "ec2/instance:Instance",
            {**INSTANCE, "launchTemplate": {"id": "lt"}},
            "launchTemplate: found a value; the sandbox",
        ),
        (
            "ec2/managedPrefixList:ManagedPrefixList",
            {"addressFamily": "IPv4", "maxEntries": 1, "entries": [{"cidr": "a"}, {"cidr": "b"}]},
            "entries: found 2 entries; allowed: maxEntries = 1",
        ),
        (
            "vpc/securityGroupIngressRule:SecurityGroupIngressRule",
            {"ipProtocol": "tcp", "securityGroupId": "sg", "cidrIpv4": "a", "cidrIpv6": "b"},
            "cidrIpv4: found cidrIpv4 and cidrIpv6; allowed: one of",
        ),
        (
            "route53/zone:Zone",
            {"vpcs": [{"vpcId": "v"}]},
            "vpcs: found a value; allowed in the sandbox: public zones",
        ),
        (
            "route53/record:Record",
            {"name": "a", "type": "A", "zoneId": "Z", "records": ["x"]},
            "ttl: missing; allowed: records and ttl, or aliases",
        ),
        (
            "route53/record:Record",
            {
                "name": "a",
                "type": "A",
                "zoneId": "Z",
                "records": ["x"],
                "ttl": 60,
                "setIdentifier": "s",
                "weightedRoutingPolicies": [{"weight": 256}],
            },
            "weightedRoutingPolicies[0].weight: found 256; allowed: 0 to 255",
        ),
        (
            "route53/record:Record",
            {
                "name": "a",
                "type": "A",
                "zoneId": "Z",
                "records": ["x"],
                "ttl": 60,
                "weightedRoutingPolicies": [{"weight": 1}],
            },
            "setIdentifier: missing; allowed: a name, as there is weightedRoutingPolicies",
        ),
        (
            "route53/healthCheck:HealthCheck",
            {"type": "TCP", "requestInterval": 20},
            "requestInterval: found 20; allowed: 10 or 30",
        ),
    ],
)
def test_refused_at_once(provider: SandboxProvider, token: str, inputs: dict[str, Any], failure: str):
    (found,) = check(provider, f"aws:{token}", **inputs)
    assert found.startswith(failure)


def test_unknown_values_are_not_refused(provider: SandboxProvider):
    assert check(provider, "aws:kms/key:Key", deletionWindowInDays=UNKNOWN) == []
    assert (
        check(provider, "aws:ec2/instance:Instance", ami=UNKNOWN, instanceType="t", userDataBase64=UNKNOWN)
        == []
    )


def test_region_and_default_tags_are_added(provider: SandboxProvider):
    inputs, _ = provider.check("urn:pulumi:s::p::aws:kms/key:Key::n", {}, {"tags": {"own": "mine"}}, b"s")
    assert inputs["region"] == "eu-central-1"
    assert inputs["tags"] == {"fleet": "f", "own": "mine"}
    role, _ = provider.check(
        "urn:pulumi:s::p::aws:iam/role:Role::n",
        {},
        {"assumeRolePolicy": {"Version": "x", "Statement": []}},
        b"s",
    )
    assert "region" not in role and role["assumeRolePolicy"] == '{"Version": "x", "Statement": []}'


@pytest.mark.parametrize(
    ("token", "old", "new", "replaces"),
    [
        ("kms/key:Key", {"region": "a"}, {"region": "b"}, {"region"}),
        ("kms/key:Key", {"rotationPeriodInDays": 90}, {"rotationPeriodInDays": 91}, set()),
        ("kms/key:Key", {}, {"customerMasterKeySpec": "RSA_2048"}, {"customerMasterKeySpec"}),
        ("ec2/instance:Instance", {"userData": "a"}, {"userData": "b"}, set()),
        (
            "ec2/instance:Instance",
            {"userData": "a", "userDataReplaceOnChange": True},
            {"userData": "b", "userDataReplaceOnChange": True},
            {"userData"},
        ),
        (
            "ec2/instance:Instance",
            {"rootBlockDevice": {"volumeSize": 8, "encrypted": False}},
            {"rootBlockDevice": {"volumeSize": 9, "encrypted": True}},
            {"rootBlockDevice.encrypted"},
        ),
        ("ec2/instance:Instance", {"instanceType": "t3.small"}, {"instanceType": "t3.large"}, set()),
        ("ec2/instance:Instance", {"subnetId": "a"}, {"subnetId": "b"}, {"subnetId"}),
        ("ec2/instance:Instance", {"privateIp": "1"}, {}, set()),
        ("ebs/volume:Volume", {"size": 1}, {"size": 2}, set()),
        ("ebs/volume:Volume", {"encrypted": False}, {"encrypted": True}, {"encrypted"}),
        ("route53/record:Record", {"ttl": 60}, {"ttl": 30}, set()),
        ("route53/record:Record", {"setIdentifier": "a"}, {"setIdentifier": "b"}, {"setIdentifier"}),
        ("sqs/queue:Queue", {"fifoQueue": False}, {"fifoQueue": True}, {"fifoQueue"}),
    ],
)
def test_what_replaces(
    provider: SandboxProvider, token: str, old: dict[str, Any], new: dict[str, Any], replaces: set[str]
):
    found = provider.diff(f"urn:pulumi:s::p::aws:{token}::n", "id", old, old, new)
    assert found.replaces == replaces


def test_ids_and_arns_of_recorded_types(provider: SandboxProvider):
    urn = "urn:pulumi:s::p::aws:sqs/queue:Queue::n"
    inputs, failures = provider.check(urn, {}, {"name": "jobs"}, b"s")
    assert failures == []
    identifier, state = provider.create(urn, inputs, preview=False)
    assert identifier == "jobs"
    assert state["arn"] == "arn:aws:sqs:eu-central-1:000000000000:queue/jobs"
    assert state["tagsAll"] == {"fleet": "f", "own": "d"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(UNKNOWN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(st.data())
def test_any_inputs_of_any_live_type_are_judged_and_never_raise(
    provider: SandboxProvider, data: st.DataObject
):
    token = data.draw(st.sampled_from(sorted(LIVE)))
    names = st.sampled_from([*provider.sdk.schema(token).inputs, "bogus"])
    inputs = data.draw(st.dictionaries(names, VALUES, max_size=5))
    for failure in check(provider, token, **inputs):
        assert ": " in failure
