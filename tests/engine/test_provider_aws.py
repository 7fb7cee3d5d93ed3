"""The AWS provider under the real engine, against the sandbox's cloud without machines."""

import hashlib
import json
import os
import signal
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mailinfra.sandbox.aws.moto_server import PROCESS_FILE
from mailinfra.sandbox.cloud import start_cloud, stop_cloud
from mailinfra.sandbox.control import ControlClient
from mailinfra.sandbox.engine import Engine
from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.processes import Process
from mailinfra.sandbox.providers import faults, guard
from mailinfra.sandbox.providers.install import install, pulumi_home

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]

REGION = "eu-central-1"
PRELUDE = f"""
    import base64, gzip, ipaddress, json
    import pulumi, pulumi_aws as aws

    config = pulumi.Config()
    aws_provider = aws.Provider("aws", region="{REGION}", default_tags={{"tags": {{"fleet": "test"}}}})
    opts = pulumi.ResourceOptions(provider=aws_provider)
    invoke = pulumi.InvokeOptions(provider=aws_provider)
    invoke_later = pulumi.InvokeOutputOptions(provider=aws_provider)
    trust = json.dumps({{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow",
        "Action": "sts:AssumeRole", "Principal": {{"Service": "ec2.amazonaws.com"}}}}]}})
"""

FLEET = """
    vpc = aws.ec2.Vpc("vpc", cidr_block="203.0.113.0/27", assign_generated_ipv6_cidr_block=True,
        enable_dns_hostnames=True, tags={"Name": "vpc"}, opts=opts)
    aws.ec2.DefaultSecurityGroup("default", vpc_id=vpc.id, opts=opts)
    gateway = aws.ec2.InternetGateway("gateway", vpc_id=vpc.id, opts=opts)
    routes = aws.ec2.RouteTable("routes", vpc_id=vpc.id, opts=opts)
    aws.ec2.Route("v4", route_table_id=routes.id, gateway_id=gateway.id, destination_cidr_block="0.0.0.0/0", opts=opts)
    aws.ec2.Route("v6", route_table_id=routes.id, gateway_id=gateway.id, destination_ipv6_cidr_block="::/0", opts=opts)
    subnet = aws.ec2.Subnet("subnet", vpc_id=vpc.id, cidr_block="203.0.113.0/28", availability_zone="eu-central-1a",
        ipv6_cidr_block=vpc.ipv6_cidr_block.apply(lambda b: b.replace("/56", "/64")), opts=opts)
    aws.ec2.RouteTableAssociation("association", subnet_id=subnet.id, route_table_id=routes.id, opts=opts)
    group = aws.ec2.SecurityGroup("group", vpc_id=vpc.id, opts=opts)
    peers = aws.ec2.ManagedPrefixList("peers", address_family="IPv4", max_entries=5,
        entries=[{"cidr": c} for c in json.loads(config.get("peers") or '["198.51.100.90/32"]')], opts=opts)
    aws.vpc.SecurityGroupIngressRule("smtp", security_group_id=group.id, ip_protocol="tcp", from_port=25, to_port=25,
        cidr_ipv4="0.0.0.0/0", description=config.get("description") or "mail", opts=opts)
    aws.vpc.SecurityGroupIngressRule("links", security_group_id=group.id, ip_protocol="tcp", from_port=2525,
        to_port=2525, prefix_list_id=peers.id, opts=opts)
    aws.vpc.SecurityGroupEgressRule("out", security_group_id=group.id, ip_protocol="-1", cidr_ipv6="::/0", opts=opts)
    address = aws.ec2.Eip("address", domain="vpc", opts=opts)
    storage = aws.kms.Key("storage", enable_key_rotation=True, deletion_window_in_days=7,
        rotation_period_in_days=int(config.get("rotation") or 365), opts=opts)
    aws.kms.Alias("storage", name="alias/storage", target_key_id=storage.key_id, opts=opts)
    dkim = aws.kms.Key("dkim", key_usage="SIGN_VERIFY", customer_master_key_spec="RSA_2048",
        deletion_window_in_days=7, opts=opts)
    bucket = aws.s3.Bucket("bucket", bucket=config.get("bucket") or "test-control", force_destroy=True, opts=opts)
    guards = [
        aws.s3.BucketPublicAccessBlock("private", bucket=bucket.id, block_public_acls=True, opts=opts),
        aws.s3.BucketOwnershipControls("owner", bucket=bucket.id,
            rule={"object_ownership": "BucketOwnerEnforced"}, opts=opts),
        aws.s3.BucketServerSideEncryptionConfiguration("encrypted", bucket=bucket.id, rules=[{
            "apply_server_side_encryption_by_default": {"sse_algorithm": "aws:kms", "kms_master_key_id": storage.arn},
            "bucket_key_enabled": True}], opts=opts),
        aws.s3.BucketVersioning("versions", bucket=bucket.id, versioning_configuration={"status": "Enabled"},
        opts=opts), aws.s3.BucketLifecycleConfiguration("old", bucket=bucket.id, rules=[{"id": "old",
        "status": "Enabled",
            "filter": {"prefix": ""}, "noncurrent_version_expiration": {"noncurrent_days": 30}}], opts=opts),
        aws.s3.BucketPolicy("tls", bucket=bucket.id, policy=bucket.arn.apply(lambda arn: json.dumps({
            "Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:*",
            "Resource": [arn, arn + "/*"], "Condition": {"Bool": {"aws:SecureTransport": "false"}}}]})), opts=opts),
    ]
    aws.s3.BucketObjectv2("anchors", bucket=bucket.id, key="trust/anchors.pem",
        content=config.get("content") or "one", opts=pulumi.ResourceOptions(provider=aws_provider, depends_on=guards))
    role = aws.iam.Role("role", name="node", assume_role_policy=trust, opts=opts)
    aws.iam.RolePolicy("policy", role=role.id, policy=aws.iam.get_policy_document(
        statements=[{"actions": ["s3:GetObject"], "resources": ["*"]}], opts=invoke).json, opts=opts)
    shared = aws.iam.Policy("shared", policy=trust.replace('"sts:AssumeRole", "Principal": {"Service": '
        '"ec2.amazonaws.com"}', '"kms:Sign", "Resource": "*"'), opts=opts)
    aws.iam.RolePolicyAttachment("shared", role=role.name, policy_arn=shared.arn, opts=opts)
    profile = aws.iam.InstanceProfile("profile", name="node", role=role.name, opts=opts)
    image = aws.ec2.get_ami(owners=["136693071363"], most_recent=True,
        filters=[{"name": "name", "values": ["debian-12-amd64-*"]}], opts=invoke)
    script = gzip.compress((config.get("script") or "true").encode(), mtime=0)
    instance = aws.ec2.Instance("node", ami=image.id, instance_type="t3.small", subnet_id=subnet.id,
        private_ip="203.0.113.5", vpc_security_group_ids=[group.id], iam_instance_profile=profile.name,
        ipv6_addresses=[subnet.ipv6_cidr_block.apply(lambda b: str(ipaddress.ip_network(b)[5]))],
        metadata_options={"http_endpoint": "enabled", "http_tokens": "required", "instance_metadata_tags": "enabled"},
        root_block_device={"volume_size": 20, "encrypted": True, "kms_key_id": storage.arn},
        user_data_base64=base64.b64encode(script).decode(), monitoring=True, opts=opts)
    associated = aws.ec2.EipAssociation("address", instance_id=instance.id,
        allocation_id=address.allocation_id, opts=opts)
    aws.ec2.EipDomainName("reverse", allocation_id=associated.allocation_id, domain_name="n.example.test", opts=opts)
    volume = aws.ebs.Volume("mail", availability_zone="eu-central-1a", type="gp3", size=8, encrypted=True, opts=opts)
    aws.ec2.VolumeAttachment("mail", device_name="/dev/sdf", volume_id=volume.id, instance_id=instance.id, opts=opts)
    aws.cloudwatch.LogGroup("log", name="/mail", retention_in_days=30, kms_key_id=storage.arn, opts=opts)
    zone = aws.route53.Zone("zone", name="aws.mx.example.test", opts=opts)
    check = aws.route53.HealthCheck("check", type="TCP", ip_address=address.public_ip, port=25, request_interval=10,
        failure_threshold=3, opts=opts)
    for name, weight in (("a", int(config.get("weight") or 10)), ("b", 20)):
        aws.route53.Record(f"mx1-{name}", zone_id=zone.zone_id, name="mx1.aws.mx.example.test", type="A", ttl=60,
            records=[address.public_ip], set_identifier=name, weighted_routing_policies=[{"weight": weight}],
            health_check_id=check.id, opts=opts)
    aws.route53.Record("mx2", zone_id=zone.zone_id, name="mx2", type="A", set_identifier="de",
        aliases=[{"name": "mx1.aws.mx.example.test", "zone_id": zone.zone_id, "evaluate_target_health": True}],
        geolocation_routing_policies=[{"country": "DE"}], opts=opts)
    signing = aws.kms.Key("signing", region="us-east-1", key_usage="SIGN_VERIFY",
        customer_master_key_spec="ECC_NIST_P256", deletion_window_in_days=7, opts=opts)
    key = aws.route53.KeySigningKey("key", hosted_zone_id=zone.zone_id, key_management_service_arn=signing.arn,
        name="main", opts=opts)
    aws.route53.HostedZoneDnsSec("signed", hosted_zone_id=key.hosted_zone_id, opts=opts)
    aws.sqs.Queue("recorded", opts=opts)
    pulumi.export("account", aws.get_caller_identity(opts=invoke).account_id)
    pulumi.export("address", address.public_ip)
    pulumi.export("instance", instance.id)
    pulumi.export("ipv6", instance.ipv6_addresses)
    pulumi.export("name_servers", zone.name_servers)
    pulumi.export("ds", key.ds_record)
    pulumi.export("storage", storage.key_id)
    pulumi.export("dkim", dkim.arn)
    pulumi.export("dkim_public", aws.kms.get_public_key_output(key_id=dkim.arn, opts=invoke_later).public_key)
"""

ROLE = """
    aws.iam.Role("role", name="lone", assume_role_policy=trust, description=config.get("description"), opts=opts)
"""


@dataclass(frozen=True)
class Stack:
    """One stack of the test's own."""

    engine: Engine
    folder: Path
    env: dict[str, str]

    def run(self, *arguments: str, check: bool = True, **env: str) -> str:
        done = self.engine.run(arguments, env={**self.env, **env}, cwd=self.folder, check=check)
        return done.stdout + done.stderr

    def fails(self, *arguments: str, **env: str) -> str:
        done = self.engine.run(arguments, env={**self.env, **env}, cwd=self.folder, check=False)
        assert done.returncode != 0, done.stdout
        text = done.stdout + done.stderr
        assert "Traceback" not in text
        return text

    def program(self, source: str) -> None:
        (self.folder / "__main__.py").write_text(textwrap.dedent(PRELUDE) + textwrap.dedent(source))

    def up(self, **env: str) -> str:
        return self.run("up", "--yes", "--skip-preview", **env)

    def config(self, **values: str) -> None:
        self.run(
            "config",
            "set-all",
            *(part for key, value in values.items() for part in ("--plaintext", f"{key}={value}")),
        )

    def steps(self, *arguments: str) -> dict[str, str]:
        """What a preview would do, by resource name; what stays is left out."""
        found = json.loads(self.run("preview", "--json", *arguments))
        return {s["urn"].rpartition("::")[2]: s["op"] for s in found["steps"] if s["op"] != "same"}

    def outputs(self) -> dict[str, Any]:
        return dict(json.loads(self.run("stack", "output", "--json")))

    def resources(self) -> list[dict[str, Any]]:
        return list(json.loads(self.run("stack", "export"))["deployment"].get("resources", []))


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paths]:
    """A running cloud without machines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("s")))
        paths = Paths.of("aws")
        start_cloud(paths, False, lambda _message, _seconds: None)
        try:
            yield paths
        finally:
            stop_cloud(paths)


@pytest.fixture
def stack(engine: Engine, sandbox: Paths, tmp_path: Path) -> Iterator[Stack]:
    """An empty stack whose provider is the sandbox's; destroyed in the end."""
    state = sandbox.folder("stacks") / tmp_path.name
    state.mkdir()
    env = engine.env(pulumi_home(sandbox), state, extra={guard.VARIABLE: str(sandbox.state)})
    install(sandbox, engine.pulumi, env, ["aws"])
    runtime = {"name": "python", "options": {"toolchain": "pip"}}
    (tmp_path / "Pulumi.yaml").write_text(json.dumps({"name": "fleet", "runtime": runtime}))
    stack = Stack(engine, tmp_path, env)
    stack.program("")
    stack.run("stack", "init", "dev")
    yield stack
    stack.run("destroy", "--yes", "--skip-preview", check=False)


@pytest.fixture
def boto(sandbox: Paths) -> Callable[[str], Any]:
    """Makes clients for the sandbox's AWS."""
    endpoint = ControlClient(sandbox.control_socket).call("aws.info")["endpoint"]
    return lambda service: boto3.client(
        service, region_name=REGION, endpoint_url=endpoint, aws_access_key_id="x", aws_secret_access_key="x"
    )


def test_the_life_of_a_fleet(stack: Stack, boto: Callable[[str], Any], sandbox: Paths):
    stack.program(FLEET)
    stack.up()
    made = stack.outputs()
    assert made["account"] == guard.ACCOUNT
    assert made["address"].startswith("198.51.100.") and made["ipv6"][0].startswith("2001:db8:")
    control = ControlClient(sandbox.control_socket)
    assert made["name_servers"] == [
        name.rstrip(".")
        for name in control.call("dns.get_zone", provider="route53", zone="aws.mx.example.test")[
            "name_servers"
        ]
    ]
    assert made["ds"] == control.call("dns.zone_ds", provider="route53", zone="aws.mx.example.test")["ds"]
    assert boto("s3").get_object(Bucket="test-control", Key="trust/anchors.pem")["Body"].read() == b"one"
    tags = boto("ec2").describe_instances(InstanceIds=[made["instance"]])["Reservations"][0]["Instances"][0][
        "Tags"
    ]
    assert {"Key": "fleet", "Value": "test"} in tags

    assert stack.steps() == {}
    assert stack.run("refresh", "--yes", "--skip-preview", "--expect-no-changes")
    assert stack.steps() == {}

    stack.config(weight="50", description="post", content="two", script="false", rotation="180")
    stack.config(peers='["198.51.100.90/32", "198.51.100.91/32"]')
    expected = dict.fromkeys(("mx1-a", "smtp", "anchors", "node", "storage", "peers"), "update")
    assert stack.steps() == expected
    stack.up()
    assert stack.outputs() == made
    assert stack.steps() == {}
    assert boto("s3").get_object(Bucket="test-control", Key="trust/anchors.pem")["Body"].read() == b"two"
    records = control.call("dns.list_records", provider="route53", zone="aws.mx.example.test")
    assert sorted(r["Weight"] for r in records if "Weight" in r) == [20, 50]

    stack.config(bucket="test-moved")
    steps = stack.steps()
    assert {steps[name] for name in ("bucket", "anchors", "tls")} <= {
        "replace",
        "create-replacement",
        "delete-replaced",
    }
    assert "node" not in steps
    stack.up()
    assert [b["Name"] for b in boto("s3").list_buckets()["Buckets"]] == ["test-moved"]

    stack.run("destroy", "--yes", "--skip-preview")
    assert boto("s3").list_buckets()["Buckets"] == []
    states = [
        i["State"]["Name"] for r in boto("ec2").describe_instances()["Reservations"] for i in r["Instances"]
    ]
    assert set(states) == {"terminated"}
    assert boto("kms").describe_key(KeyId=made["storage"])["KeyMetadata"]["KeyState"] == "PendingDeletion"
    assert boto("route53").list_hosted_zones()["HostedZones"] == []


def test_drift_is_found_and_put_right(stack: Stack, boto: Callable[[str], Any]):
    stack.program(ROLE)
    stack.config(description="a")
    stack.up()
    boto("iam").update_role(RoleName="lone", Description="changed by hand")
    stack.run("refresh", "--yes", "--skip-preview")
    assert stack.steps() == {"role": "update"}
    stack.up()
    assert boto("iam").get_role(RoleName="lone")["Role"]["Description"] == "a"
    boto("iam").delete_role(RoleName="lone")
    stack.run("refresh", "--yes", "--skip-preview")
    assert stack.steps() == {"role": "create"}
    stack.up()
    assert boto("iam").get_role(RoleName="lone")


SNAPSHOTS = """
    volume = aws.ebs.Volume("mail", availability_zone="eu-central-1a", type="gp3", size=8, encrypted=True,
        tags={"mail": "yes"}, opts=opts)
    snapshot = aws.ebs.Snapshot("by-hand", volume_id=volume.id, tags={"a": config.get("tag") or "1"}, opts=opts)
    aws.ebs.Volume("again", availability_zone="eu-central-1a", snapshot_id=snapshot.id, opts=opts)
    service = config.get("service") or "dlm.amazonaws.com"
    role = aws.iam.Role("scheduler", assume_role_policy=trust.replace("ec2.amazonaws.com", service), opts=opts)
    policy = aws.dlm.LifecyclePolicy("hourly", description="hourly", execution_role_arn=role.arn, policy_details={
        "resource_types": ["VOLUME"], "target_tags": {"mail": "yes"}, "schedules": [{"name": "hourly",
            "create_rule": {"interval": int(config.get("hours") or 1), "interval_unit": "HOURS", "times": "00:00"},
            "retain_rule": {"interval": 7, "interval_unit": "DAYS"}, "copy_tags": True}]}, opts=opts)
    pulumi.export("volume", volume.id)
"""


def test_snapshots_and_their_schedules(stack: Stack, boto: Callable[[str], Any], sandbox: Paths):
    stack.config(service="ec2.amazonaws.com")
    stack.program(SNAPSHOTS)
    assert "does not let dlm.amazonaws.com assume it" in stack.fails("up", "--yes", "--skip-preview")
    stack.run("config", "rm", "service")
    stack.up()
    assert stack.steps() == {}
    stack.run("refresh", "--yes", "--skip-preview", "--expect-no-changes")
    volume = stack.outputs()["volume"]
    again = next(r for r in stack.resources() if r["urn"].endswith("::again"))
    assert (again["outputs"]["size"], again["outputs"]["encrypted"]) == (8, True)
    control = ControlClient(sandbox.control_socket)
    (made,) = control.call("schedules.run", at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())["made"]
    (found,) = boto("ec2").describe_snapshots(SnapshotIds=[made])["Snapshots"]
    assert found["VolumeId"] == volume

    stack.config(tag="2", hours="2")
    assert stack.steps() == {"by-hand": "update", "hourly": "update"}
    stack.up()
    stack.run("refresh", "--yes", "--skip-preview", "--expect-no-changes")
    stack.config(hours="5")
    assert "createRule: hours: found 5" in stack.fails("up", "--yes", "--skip-preview")
    stack.config(hours="1")
    stack.up()
    stack.run("destroy", "--yes", "--skip-preview")
    ended = control.call("schedules.run", at=(datetime.now(UTC) + timedelta(hours=2)).isoformat())
    assert ended["made"] == []


def test_an_existing_resource_is_imported(stack: Stack, boto: Callable[[str], Any]):
    boto("iam").create_role(RoleName="older", AssumeRolePolicyDocument="{}", Description="before us")
    stack.program(
        """
        aws.iam.Role("older", name="older", assume_role_policy="{}", description="before us",
            opts=pulumi.ResourceOptions(provider=aws_provider, import_="older"))
        """
    )
    stack.up()
    boto("iam").get_role(RoleName="older")
    (role,) = (r for r in stack.resources() if r["type"] == "aws:iam/role:Role")
    assert role["id"] == "older" and role["outputs"]["uniqueId"]


def test_wrong_inputs_are_refused_before_anything_is_made(stack: Stack, boto: Callable[[str], Any]):
    stack.program(
        """
        class Role(pulumi.CustomResource):
            def __init__(self, name, inputs):
                super().__init__("aws:iam/role:Role", name, inputs, opts)
        Role("wrong", {"assumeRolePolicy": trust, "descripton": "x", "maxSessionDuration": "long", "tags": {"a": 1}})
        """
    )
    text = stack.fails("preview")
    for words in (
        "property descripton value {x} has a problem: unknown property; did you mean 'description'?",
        'property maxSessionDuration value {long} has a problem: found string "long"; allowed: integer',
        "property tags.a value {<nil>} has a problem: found number 1; allowed: string",
    ):
        assert words in text, text


def test_a_cloud_error_is_one_line_and_the_next_up_goes_on(stack: Stack, boto: Callable[[str], Any]):
    boto("iam").create_role(RoleName="lone", AssumeRolePolicyDocument="{}")
    stack.program(ROLE)
    text = stack.fails("up", "--yes", "--skip-preview")
    assert (
        "create aws:iam/role:Role: CreateRole: EntityAlreadyExists: Role with name lone already exists."
        in text
    )
    assert not [r for r in stack.resources() if r["type"] == "aws:iam/role:Role"]
    boto("iam").delete_role(RoleName="lone")
    stack.up()
    assert stack.steps() == {}


def test_a_half_made_resource_is_kept_and_completed(stack: Stack, boto: Callable[[str], Any]):
    stack.program(ROLE)
    text = stack.fails(
        "up", "--yes", "--skip-preview", **{faults.VARIABLE: "create aws:iam/role:Role error-after"}
    )
    assert faults.VARIABLE in text
    (role,) = (r for r in stack.resources() if r["type"] == "aws:iam/role:Role")
    assert role["id"] == "lone" and role["initErrors"]
    stack.up()
    assert stack.steps() == {}


@pytest.mark.parametrize("moment", ["die", "die-after"])
def test_a_plugin_that_dies_leaves_a_stack_that_the_next_up_completes(
    stack: Stack, boto: Callable[[str], Any], moment: str
):
    stack.program(
        ROLE
        + """
    bucket = aws.s3.Bucket("bucket", bucket="survivor", force_destroy=True, opts=opts)
    aws.kms.Key("key", description=bucket.bucket, deletion_window_in_days=7, opts=opts)
    """
    )
    stack.fails("up", "--yes", "--skip-preview", **{faults.VARIABLE: f"create aws:kms/key:Key {moment}"})
    assert boto("s3").head_bucket(Bucket="survivor")
    stack.up()
    assert stack.steps() == {}
    kms = boto("kms")
    keys = [kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"] for key in kms.list_keys()["Keys"]]
    made = [key for key in keys if key["Description"] == "survivor" and key["KeyState"] == "Enabled"]
    assert len(made) == 1, "one key, not one lost and one more"


def test_a_function_that_the_sandbox_does_not_have_is_named(stack: Stack):
    stack.program("aws.ec2.get_vpc(default=True, opts=invoke)")
    assert "aws:ec2/getVpc:getVpc: the sandbox does not support this function" in stack.run(
        "preview", check=False
    )


def test_a_real_stack_is_refused(stack: Stack, tmp_path: Path):
    stack.program(ROLE)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    real = {"PULUMI_BACKEND_URL": f"file://{elsewhere}"}
    stack.run("stack", "init", "prod", **real)
    text = stack.fails("preview", "--stack", "prod", **real)
    assert "must not run on the sandbox's providers" in text
    text = stack.fails("preview", **{guard.VARIABLE: ""})
    assert f"{guard.VARIABLE} is not set" in text


def test_kms_signs_digests_as_aws_does(stack: Stack, boto: Callable[[str], Any]):
    kms, message = boto("kms"), os.urandom(100)
    for spec, algorithm in (("RSA_2048", "RSASSA_PKCS1_V1_5_SHA_256"), ("ECC_NIST_P256", "ECDSA_SHA_256")):
        key = kms.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
        public = load_der_public_key(kms.get_public_key(KeyId=key)["PublicKey"])
        for kind, body in (("DIGEST", hashlib.sha256(message).digest()), ("RAW", message)):
            signed = kms.sign(KeyId=key, Message=body, MessageType=kind, SigningAlgorithm=algorithm)
            if isinstance(public, rsa.RSAPublicKey):
                public.verify(signed["Signature"], message, padding.PKCS1v15(), hashes.SHA256())
            else:
                assert isinstance(public, ec.EllipticCurvePublicKey)
                public.verify(signed["Signature"], message, ec.ECDSA(hashes.SHA256()))
        with pytest.raises(kms.exceptions.ClientError, match="Digest is invalid"):
            kms.sign(KeyId=key, Message=b"short", MessageType="DIGEST", SigningAlgorithm=algorithm)


def test_a_cloud_that_lost_everything_is_made_anew(stack: Stack, boto: Callable[[str], Any], sandbox: Paths):
    stack.program(ROLE)
    stack.up()
    moto = Process.load(sandbox.state / "aws" / PROCESS_FILE)
    assert moto is not None
    assert moto.send(signal.SIGKILL) and moto.wait(10)
    limit = time.monotonic() + 60
    while Process.load(sandbox.state / "aws" / PROCESS_FILE) is None:
        assert time.monotonic() < limit, "the daemon starts moto again"
        time.sleep(0.2)
    stack.run("refresh", "--yes", "--skip-preview")
    assert stack.steps() == {"role": "create"}
    stack.up()
    assert stack.steps() == {}
