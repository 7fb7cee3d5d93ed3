"""What is read from the SDK's classes."""

import subprocess
import sys
from pathlib import Path

import pytest

from mailinfra.sandbox.providers.schema import FORCES_NEW, Sdk, Type, UnknownTypeError, snake

SDK = Sdk("pulumi_aws")


def test_tokens_are_known_without_importing_the_package():
    code = (
        "import sys; from mailinfra.sandbox.providers.schema import Sdk;"
        "assert 'aws:kms/key:Key' in Sdk('pulumi_aws').classes(); assert 'pulumi_aws' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_inputs_outputs_and_required():
    schema = SDK.schema("aws:iam/role:Role")
    assert schema.inputs["assumeRolePolicy"].required
    assert not schema.inputs["name"].required
    assert schema.inputs["maxSessionDuration"].type == Type("integer")
    assert schema.inputs["tags"].type == Type("map", element=Type("string"))
    assert schema.inputs["inlinePolicies"].type.kind == "list"
    assert {"arn", "uniqueId"} <= schema.computed
    assert "name" in schema.outputs and "name" not in schema.computed


def test_args_whose_name_a_nested_type_took():
    # `aws.s3.Bucket` has a nested type BucketVersioningArgs, so the resource's own is BucketVersioningInitArgs.
    schema = SDK.schema("aws:s3/bucketVersioning:BucketVersioning")
    assert schema.inputs["bucket"].required
    assert schema.inputs["versioningConfiguration"].required


def test_nested_objects():
    schema = SDK.schema("aws:ec2/instance:Instance")
    options = schema.inputs["metadataOptions"].type
    assert options.kind == "object"
    assert schema.objects[options.name]["httpTokens"].type == Type("string")


def test_forces_new_is_read_from_the_documentation():
    assert SDK.schema("aws:ec2/instance:Instance").inputs["enablePrimaryIpv6"].forces_new
    assert not SDK.schema("aws:ec2/instance:Instance").inputs["tags"].forces_new


@pytest.mark.parametrize(
    ("text", "forces"),
    [
        ("Changing this forces a new resource to be created.", True),
        ("(Forces new resource) The name.", True),
        ("Changing this value will recreate the resource.", True),
        ("Forces replacement if changed.", True),
        ("Changing this forces the script to be run again.", False),
        ("Updates to this field will trigger a stop/start of the EC2 instance.", False),
    ],
)
def test_the_ways_to_say_that_a_change_replaces(text: str, forces: bool):
    assert bool(FORCES_NEW.search(text)) is forces


def test_functions():
    function = SDK.function("aws:kms/getPublicKey:getPublicKey")
    assert function.inputs["grantTokens"].type == Type("list", element=Type("string"))
    assert {"publicKey", "publicKeyPem"} <= function.outputs


@pytest.mark.parametrize("token", ["aws:kms/key:Lock", "gcp:kms/keyRing:KeyRing", ""])
def test_unknown_types(token: str):
    with pytest.raises(UnknownTypeError, match="no such resource type"):
        SDK.schema(token)


@pytest.mark.parametrize("token", ["aws:kms/getLock:getLock", "aws:nothing/getKey:getKey"])
def test_unknown_functions(token: str):
    with pytest.raises(UnknownTypeError, match="no such function"):
        SDK.function(token)


def test_what_was_read_is_kept_and_the_same(tmp_path: Path):
    first = Sdk("pulumi_aws", tmp_path)
    read = first.schema("aws:ec2/instance:Instance"), first.function("aws:ec2/getAmi:getAmi")
    code = (
        "import sys; from pathlib import Path; from mailinfra.sandbox.providers.schema import Sdk;"
        f"Sdk('pulumi_aws', Path({str(tmp_path)!r})).schema('aws:ec2/instance:Instance');"
        "assert 'pulumi_aws' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    second = Sdk("pulumi_aws", tmp_path)
    assert (second.schema("aws:ec2/instance:Instance"), second.function("aws:ec2/getAmi:getAmi")) == read


def test_snake():
    assert [snake(n) for n in ("getPublicKey", "getEBSVolume", "vpc")] == [
        "get_public_key",
        "get_ebs_volume",
        "vpc",
    ]
