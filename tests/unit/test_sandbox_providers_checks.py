"""Inputs checked against the SDK's classes: what is wrong, where, and what is allowed."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mailinfra.sandbox.providers.checks import Failure, check
from mailinfra.sandbox.providers.schema import Property, Schema, Sdk, Type
from mailinfra.sandbox.providers.values import ASSET, SIGNATURE, UNKNOWN

SDK = Sdk("pulumi_aws")
INSTANCE = SDK.schema("aws:ec2/instance:Instance")
ROLE = SDK.schema("aws:iam/role:Role")
OBJECT = SDK.schema("aws:s3/bucketObjectv2:BucketObjectv2")
RECORD = SDK.schema("aws:route53/record:Record")


def failures(schema: Schema, inputs: dict) -> list[str]:
    return [str(failure) for failure in check(inputs, schema.inputs, schema.objects)]


def test_right_inputs_pass():
    inputs = {
        "ami": "ami-1",
        "tags": {"Name": "a"},
        "vpcSecurityGroupIds": ["sg-1", UNKNOWN],
        "rootBlockDevice": {"volumeSize": 20, "encrypted": True},
        "metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 1},
    }
    assert failures(INSTANCE, inputs) == []


def test_everything_wrong_is_told_at_once_with_its_path():
    inputs = {
        "amy": "ami-1",
        "tags": {"Name": 1, "a.b": True},
        "vpcSecurityGroupIds": "sg-1",
        "rootBlockDevice": {"volumeSize": "20", "encripted": True},
        "ebsBlockDevices": [{"deviceName": "/dev/sdb"}, {"deviceName": None, "iops": 1.5}],
    }
    assert failures(INSTANCE, inputs) == [
        "amy: unknown property; did you mean 'ami'?",
        "tags.Name: found number 1; allowed: string",
        'tags["a.b"]: found boolean true; allowed: string',
        'vpcSecurityGroupIds: found string "sg-1"; allowed: list of string',
        'rootBlockDevice.volumeSize: found string "20"; allowed: integer',
        "rootBlockDevice.encripted: unknown property; did you mean 'encrypted'?",
        "ebsBlockDevices[1].iops: found number 1.5; allowed: integer",
        "ebsBlockDevices[1].deviceName: missing required property; allowed: string",
    ]


def test_missing_required():
    assert failures(ROLE, {"name": "r"}) == [
        "assumeRolePolicy: missing required property; allowed: string or object PolicyDocument"
    ]
    assert failures(ROLE, {"assumeRolePolicy": None}) == [
        "assumeRolePolicy: missing required property; allowed: string or object PolicyDocument"
    ]


def test_nothing_is_held_against_an_unknown():
    assert failures(ROLE, {"assumeRolePolicy": UNKNOWN, "tags": UNKNOWN, "maxSessionDuration": UNKNOWN}) == []


def test_an_unknown_property_far_from_all_names_lists_them():
    found = check({"xyzzy": 1}, {"one": Property(Type("string")), "two": Property(Type("string"))}, {})
    assert found == [Failure("xyzzy", "unknown property; allowed: one, two")]


def test_a_boolean_is_no_number():
    assert failures(RECORD, {"name": "a", "type": "A", "zoneId": "Z", "ttl": True}) == [
        "ttl: found boolean true; allowed: integer"
    ]


def test_assets():
    asset = {SIGNATURE: ASSET, "text": "hello"}
    assert failures(OBJECT, {"bucket": "b", "source": asset}) == []
    assert failures(OBJECT, {"bucket": "b", "source": "hello"}) == [
        'source: found string "hello"; allowed: asset'
    ]
    assert failures(OBJECT, {"bucket": asset}) == ["bucket: found an asset; allowed: string"]


def test_enums_and_unions():
    objects: dict = {}
    colour = {"colour": Property(Type("enum", values=("red", 2)))}
    assert check({"colour": "red"}, colour, objects) == []
    assert [str(f) for f in check({"colour": "blue"}, colour, objects)] == [
        'colour: found string "blue"; allowed: one of "red", 2'
    ]
    either = {"size": Property(Type("union", options=(Type("string"), Type("integer"))))}
    assert check({"size": 1}, either, objects) == check({"size": "1"}, either, objects) == []
    assert [str(f) for f in check({"size": 1.5}, either, objects)] == [
        "size: found number 1.5; allowed: string or integer"
    ]


def test_a_long_value_is_cut_in_the_message():
    (message,) = failures(ROLE, {"assumeRolePolicy": ["x" * 500]})
    assert len(message) < 160


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(UNKNOWN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)
NAMES = st.sampled_from([*INSTANCE.inputs, "bogus"]) | st.text()


@settings(max_examples=300)
@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_any_input_passes_or_fails_with_a_path_and_never_raises(inputs: dict):
    for failure in check(inputs, INSTANCE.inputs, INSTANCE.objects):
        assert failure.reason
        assert any(
            failure.path.startswith(name[:1]) or failure.path.startswith("[") for name in inputs if name
        ) or ("" in inputs)
        assert "allowed" in failure.reason or "did you mean" in failure.reason
