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
