"""What moto does otherwise than AWS, after the mends. Each test runs moto in a process of its own: they stay."""

import json
import subprocess
import sys
from typing import Any

LIFE = """
import json, sys
from mailinfra.sandbox.aws.moto_server import record_sets_by_identity
record_sets_by_identity()
import boto3
from botocore.exceptions import ClientError
from moto import mock_aws

with mock_aws():
    api = boto3.client("route53", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    zone = api.create_hosted_zone(Name="example.test", CallerReference="1")["HostedZone"]["Id"]
    said = []
    for action, name, identifier in json.load(sys.stdin):
        record = {"Name": name, "Type": "A", "SetIdentifier": identifier, "Weight": 1, "TTL": 60,
                  "ResourceRecords": [{"Value": "192.0.2.1"}]}
        change = {"Changes": [{"Action": action, "ResourceRecordSet": record}]}
        try:
            api.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=change)
            said.append("")
        except ClientError as error:
            said.append(error.response["Error"]["Message"])
    sets = api.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    left = sorted((s["Name"], s["SetIdentifier"]) for s in sets if s["Type"] == "A")
    json.dump([said, left], sys.stdout)
"""


def life(changes: list[tuple[str, str, str]]) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", LIFE], input=json.dumps(changes), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_a_record_set_that_was_deleted_can_be_created_again() -> None:
    one = ("a.example.test.", "x")
    other = ("z.example.test.", "x")
    said, left = life([("CREATE", *one), ("CREATE", *other), ("DELETE", *one), ("CREATE", *one)])
    assert said == ["", "", "", ""]
    assert left == [list(one), list(other)]


def test_what_is_there_is_not_created_again_and_a_delete_takes_its_own_name_only() -> None:
    one, other = ("a.example.test.", "x"), ("b.example.test.", "x")
    said, left = life([("CREATE", *one), ("CREATE", *one), ("CREATE", *other), ("DELETE", *one)])
    assert said[0] == said[2] == said[3] == "" and "already exists" in said[1]
    assert left == [list(other)]


REPLACED = """
import json, sys
from mailinfra.sandbox.aws.moto_server import terminated_instances_let_go
terminated_instances_let_go()
import boto3
from moto import mock_aws

with mock_aws():
    api = boto3.client("ec2", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")
    vpc = api.create_vpc(CidrBlock="203.0.113.0/24")["Vpc"]["VpcId"]
    subnet = api.create_subnet(VpcId=vpc, CidrBlock="203.0.113.0/27")["Subnet"]["SubnetId"]
    image = api.describe_images()["Images"][0]["ImageId"]
    place = {"ImageId": image, "MinCount": 1, "MaxCount": 1, "SubnetId": subnet, "PrivateIpAddress": "203.0.113.7"}
    first = api.run_instances(**place)["Instances"][0]["InstanceId"]
    address = api.allocate_address(Domain="vpc")["AllocationId"]
    api.associate_address(AllocationId=address, InstanceId=first)
    api.terminate_instances(InstanceIds=[first])
    free = api.describe_addresses(AllocationIds=[address])["Addresses"][0].get("InstanceId", "")
    second = api.run_instances(**place)["Instances"][0]["InstanceId"]
    api.associate_address(AllocationId=address, InstanceId=second)
    # Terminating what is terminated takes nothing from its successor.
    api.terminate_instances(InstanceIds=[first])
    (now,) = api.describe_addresses(AllocationIds=[address])["Addresses"]
    (again,) = api.describe_instances(InstanceIds=[second])["Reservations"][0]["Instances"]
    json.dump([free, now["InstanceId"] == second, again["PrivateIpAddress"]], sys.stdout)
"""


def test_a_server_takes_the_addresses_of_one_that_was_terminated() -> None:
    done = subprocess.run([sys.executable, "-c", REPLACED], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["", True, "203.0.113.7"]


HELD = """
import json, sys
from mailinfra.sandbox.aws.moto_server import snapshots_hold_volumes
from mailinfra.sandbox.control import NotRunning
asked = []
def call(method, **params):
    if sys.argv[1] == "gone":
        raise NotRunning("no daemon")
    if method == "status":
        return {"machines_booted": sys.argv[1] == "booted"}
    asked.append([method, params])
snapshots_hold_volumes(call)
import boto3
from botocore.exceptions import ClientError
from moto import mock_aws

said = []
def attempt(what):
    try:
        return what()
    except ClientError as error:
        said.append(error.response["Error"]["Code"])

with mock_aws():
    api = boto3.client("ec2", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")
    place = {"AvailabilityZone": "eu-central-1a"}
    volume = api.create_volume(Size=2, Encrypted=True, KmsKeyId="arn:key", **place)["VolumeId"]
    made = attempt(lambda: api.create_snapshot(VolumeId=volume, Description="x"))
    restored = {}
    if made:
        attempt(lambda: api.copy_snapshot(SourceSnapshotId=made["SnapshotId"], SourceRegion="eu-central-1"))
        attempt(lambda: api.create_volume(Size=1, SnapshotId=made["SnapshotId"], **place))
        restored = api.create_volume(SnapshotId=made["SnapshotId"], VolumeType="gp3", **place)
        api.delete_snapshot(SnapshotId=made["SnapshotId"])
    # Images have snapshots too, and servers' disks are made of them: nothing of ours.
    image = api.describe_images()["Images"][0]["ImageId"]
    api.run_instances(ImageId=image, MinCount=1, MaxCount=1)
    left = [s for s in api.describe_snapshots(OwnerIds=["self"])["Snapshots"] if s["VolumeId"] == volume]
    json.dump({"asked": asked, "said": said, "left": len(left), "volume": volume,
               "snapshot": made and made["SnapshotId"],
               "restored": {k: restored.get(k) for k in ("VolumeId", "Size", "Encrypted", "KmsKeyId")}}, sys.stdout)
"""


def held(daemon: str) -> Any:
    done = subprocess.run([sys.executable, "-c", HELD, daemon], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_snapshot_holds_what_the_volume_held() -> None:
    found = held("booted")
    restored = found["restored"]
    assert (restored["Size"], restored["Encrypted"], restored["KmsKeyId"]) == (2, True, "arn:key")
    assert found["said"] == ["UnsupportedOperation", "InvalidParameterValue"]
    assert found["asked"] == [
        [
            "machines.snapshot_volume",
            {"volume": found["volume"], "snapshot": found["snapshot"], "size": 2 << 30},
        ],
        [
            "machines.restore_volume",
            {"volume": restored["VolumeId"], "snapshot": found["snapshot"], "size": 2 << 30},
        ],
        ["machines.delete_snapshot", {"snapshot": found["snapshot"]}],
    ]


def test_without_machines_a_snapshot_is_a_name() -> None:
    found = held("recorded")
    assert found["asked"] == []
    assert found["restored"]["Size"] == 2


def test_a_snapshot_that_could_not_be_made_is_not_there() -> None:
    found = held("gone")
    assert (found["said"], found["left"]) == (["InternalError"], 0)
