"""One node group alone: what its servers are and may do."""

import base64
import gzip
import json
from typing import Any

import pulumi
import pytest

from mailinfra_components import MailNodes
from mailinfra_components.nodes import MailNodesArgs, bucket_grants, readable
from tests.declared import Program, declare

SCRIPT = "#!/bin/bash\ntrue\n"
BUCKET = "projects/_/buckets/control/objects/"


def arguments(cloud: str, *roles: str, **more: Any) -> MailNodesArgs:
    args: dict[str, Any] = {
        "cloud": cloud,
        "region": "eu-central-1",
        "zone": "eu",
        "group": "edge",
        "roles": list(roles),
        "machine_type": "small",
        "disk_gib": 10,
        "data_gib": 0,
        "nodes": [
            {
                "name": "edge-1",
                "fqdn": "edge-1.nodes.example.test",
                "availability_zone": "eu-central-1a",
                "subnet": "a",
                "script": SCRIPT,
            }
        ],
        "identity": "edge-nodes",
        "subnet_ids": {"a": "subnet-1"},
        "security_groups": {"edge": "sg-edge", "store": "sg-store"},
        "addresses": {
            "edge-1": {"private_ipv4": "203.0.113.5", "ipv4": "198.51.100.5", "ipv6": "2001:db8::5"}
        },
        "allocations": {"edge-1": "eipalloc-1"},
        "storage_key": "key-1",
        "bucket": "control",
    }
    return {**args, **more}  # type: ignore[return-value]


def nodes(cloud: str, *roles: str, **more: Any) -> Program:
    return declare(lambda: MailNodes("g", arguments(cloud, *roles, **more)))


def test_an_aws_server_is_encrypted_guarded_and_named() -> None:
    program = nodes("aws", "mx", data_gib=20)
    server = program.named("g-edge-1").inputs
    assert server["metadataOptions"]["httpTokens"] == "required"
    assert server["metadataOptions"]["httpPutResponseHopLimit"] == 1
    assert (server["rootBlockDevice"]["encrypted"], server["rootBlockDevice"]["kmsKeyId"]) == (True, "key-1")
    assert server["vpcSecurityGroupIds"] == ["sg-edge"]
    assert "keyName" not in server, "no SSH key"
    user_data = gzip.decompress(base64.b64decode(server["userDataBase64"])).decode()
    assert user_data == f"#cloud-boothook\n{SCRIPT}", "a script would be run at the first boot only"
    assert server["userDataReplaceOnChange"] is False
    volume = program.named("g-edge-1-mail").inputs
    assert (volume["encrypted"], volume["kmsKeyId"], volume["size"]) == (True, "key-1", 20)
    assert program.named("g-edge-1-reverse").inputs["domainName"] == "edge-1.nodes.example.test"


def test_a_google_server_is_encrypted_guarded_and_named() -> None:
    program = nodes("gcp", "mx", data_gib=20)
    server = program.named("g-edge-1").inputs
    assert server["bootDisk"]["kmsKeySelfLink"] == "key-1"
    assert program.named("g-edge-1-mail").inputs["diskEncryptionKey"] == {"kmsKeySelfLink": "key-1"}
    assert [disk["deviceName"] for disk in server["attachedDisks"]] == ["data"]
    assert server["metadata"] == {
        "startup-script": SCRIPT,
        "block-project-ssh-keys": "TRUE",
        "enable-oslogin": "TRUE",
        "serial-port-enable": "FALSE",
    }
    assert server["shieldedInstanceConfig"]["enableSecureBoot"] is True
    [interface] = server["networkInterfaces"]
    reverse = {
        config["publicPtrDomainName"]
        for key in ("accessConfigs", "ipv6AccessConfigs")
        for config in interface[key]
    }
    assert reverse == {"edge-1.nodes.example.test."}
    assert server["tags"] == ["sg-edge", "roles-mx"]


def grants(program: Program) -> dict[str, tuple[str, str]]:
    """Name of each grant in the bucket: its role and condition."""
    return {
        item.name: (item.inputs["role"], item.inputs.get("condition", {}).get("expression", ""))
        for item in program.of("gcp:storage/bucketIAMMember:BucketIAMMember")
    }


def test_a_google_node_sees_only_its_part_of_the_bucket() -> None:
    program = nodes("gcp", "mx")
    member = {item.inputs["member"] for item in program.of("gcp:storage/bucketIAMMember:BucketIAMMember")}
    assert member == {"serviceAccount:edge-nodes@project.iam.gserviceaccount.com"}
    assert grants(program) == {
        "g-bucket-reads": (
            "roles/storage.objectViewer",
            " || ".join(
                f'resource.name.startsWith("{BUCKET}{prefix}")'
                for prefix in ("trust/", "node/", "directory/routes", "certs/edge/")
            ),
        ),
        "g-bucket-enrols": ("roles/storage.objectUser", f'resource.name.startsWith("{BUCKET}enrol/edge/")'),
        "g-bucket-sees": ("roles/storage.legacyBucketReader", ""),
    }
    assert program.of("gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember") == []


def test_a_google_issuer_and_signer_may_sign_with_just_these_keys() -> None:
    ca, dkim = ("projects/p/locations/l/keyRings/r/cryptoKeys/" + name for name in ("ca", "dkim"))
    program = nodes(
        "gcp",
        "mailbox",
        "submission",
        ca_key=f"{ca}/cryptoKeyVersions/1",
        dkim_key=f"{dkim}/cryptoKeyVersions/1",
    )
    keys = program.of("gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember")
    assert {(key.inputs["cryptoKeyId"], key.inputs["role"]) for key in keys} == {
        (ca, "roles/cloudkms.signer"),
        (dkim, "roles/cloudkms.signer"),
    }
    role, condition = grants(program)["g-bucket-issues"]
    assert role == "roles/storage.objectUser"
    assert condition.count("startsWith") == 2
    assert "/enrol/" in condition and "/certs/" in condition


@pytest.mark.parametrize(
    ("roles", "accounts"),
    [(["mx"], False), (["egress"], False), (["mx", "egress"], False), (["imap"], True), (["mailbox"], True)],
)
def test_only_those_who_check_passwords_read_the_accounts(roles: list[str], accounts: bool) -> None:
    assert ("directory/accounts" in readable(arguments("aws", *roles))) is accounts
    statements = json.loads(nodes("aws", *roles).named("g-policy").inputs["policy"])["Statement"]
    readers = [s["Sid"] for s in statements if any("accounts" in str(r) for r in s["Resource"])]
    assert readers == (["Read"] if accounts else [])


@pytest.mark.parametrize(
    ("roles", "copies"),
    [(["mx", "submission", "imap", "pop3"], False), (["egress"], False), (["mailbox"], True)],
)
def test_only_those_who_hold_mail_read_where_its_vault_is(roles: list[str], copies: bool) -> None:
    statements = json.loads(nodes("aws", *roles).named("g-policy").inputs["policy"])["Statement"]
    readers = [s["Sid"] for s in statements if any(r.endswith("/backup/*") for r in s["Resource"])]
    assert readers == (["Read"] if copies else [])
    found = [
        condition for role, condition in grants(nodes("gcp", *roles)).values() if '/backup/")' in condition
    ]
    assert len(found) == copies


def test_whom_the_nodes_run_as_is_told() -> None:
    told: list[tuple[str, str]] = []

    def program(cloud: str) -> None:
        made = MailNodes("g", arguments(cloud, "mailbox"))
        pulumi.Output.all(made.identity, made.identity_id).apply(
            lambda known: told.append((known[0], known[1]))
        )

    for cloud in ("aws", "gcp"):
        declare(lambda cloud=cloud: program(cloud))  # type: ignore[misc]
    identity = arguments("aws", "mailbox")["identity"]
    assert told == [
        (identity, "unique-g-role"),
        (f"{identity}@project.iam.gserviceaccount.com", "unique-g-account"),
    ]


def test_an_aws_node_may_use_its_keys_for_one_purpose_only() -> None:
    program = nodes("aws", "submission", "mailbox", dkim_key="arn:dkim", ca_key="arn:ca")
    statements = {s["Sid"]: s for s in json.loads(program.named("g-policy").inputs["policy"])["Statement"]}
    assert {s["Effect"] for s in statements.values()} == {"Allow"}
    for sid, key, algorithm in (
        ("SignMail", "arn:dkim", "RSASSA_PKCS1_V1_5_SHA_256"),
        ("SignCertificates", "arn:ca", "ECDSA_SHA_256"),
    ):
        assert (statements[sid]["Action"], statements[sid]["Resource"]) == ("kms:Sign", key)
        assert statements[sid]["Condition"] == {
            "StringEquals": {"kms:SigningAlgorithm": algorithm, "kms:MessageType": "DIGEST"}
        }
    assert statements["Decrypt"]["Condition"] == {
        "StringEquals": {"kms:ViaService": "s3.eu-central-1.amazonaws.com"}
    }
    actions = {
        a
        for s in statements.values()
        for a in ([s["Action"]] if isinstance(s["Action"], str) else s["Action"])
    }
    assert not any(action.endswith("*") for action in actions)
    assert "s3:DeleteObject" not in actions


def test_no_group_writes_outside_its_own_enrolment_unless_it_issues() -> None:
    writes = {"objectUser", "objectAdmin"}
    plain = [prefixes for _, role, prefixes in bucket_grants(arguments("gcp", "mx")) if role in writes]
    assert plain == [["enrol/edge/"]]
    issuer = arguments("gcp", "mailbox", ca_key="ca")
    assert [p for _, role, p in bucket_grants(issuer) if role in writes] == [
        ["enrol/edge/"],
        ["backup/status/edge/", "restore/status/edge/"],
        ["enrol/", "certs/"],
    ]


def restored(cloud: str, snapshot: str, **more: Any) -> Program:
    args = arguments(cloud, "mailbox", data_gib=20, **more)
    args["nodes"][0]["snapshot"] = snapshot
    return declare(lambda: MailNodes("g", args))


def test_a_disk_says_whose_replicas_are_on_it_and_who_makes_its_snapshots() -> None:
    more: dict[str, Any] = {"replica_of": ["europe-west3", "eu-west-1"], "snapshots": "mail-eu-snapshots"}
    tags = nodes("aws", "mailbox", data_gib=20, **more).named("g-edge-1-mail").inputs["tags"]
    assert (tags["backup-of"], tags["backup-interval-minutes"]) == ("europe-west3 eu-west-1", "0")
    assert (tags["mailinfra-snapshots"], tags["data-class"]) == ("mail-eu-snapshots", "mail")
    labels = nodes("gcp", "mailbox", data_gib=20, **more).named("g-edge-1-mail").inputs["labels"]
    assert labels["backup-of"] == "europe-west3_eu-west-1", "a label has no spaces"
    plain = nodes("aws", "mailbox", data_gib=20, replica_of=[]).named("g-edge-1-mail").inputs["tags"]
    assert {"backup-of", "backup-interval-minutes", "mailinfra-snapshots"} & plain.keys() == set()


def test_a_restored_volume_on_aws_comes_beside_the_old_one_and_the_server_is_started_again() -> None:
    program = restored("aws", "snap-0123456789abcdef0")
    old, new = sorted(program.of("aws:ebs/volume:Volume"), key=lambda volume: volume.name)
    assert (old.name, old.inputs.get("snapshotId")) == ("g-edge-1-mail", None)
    assert new.name.startswith("g-edge-1-mail-") and new.inputs["snapshotId"] == "snap-0123456789abcdef0"
    assert (new.inputs["kmsKeyId"], new.inputs["size"]) == ("key-1", 20)
    (attached,) = program.of("aws:ec2/volumeAttachment:VolumeAttachment")
    assert attached.name == "g-edge-1-mail-attached", "the attachment moves"
    assert attached.inputs["volumeId"] == f"{new.name}-id"
    assert attached.inputs["stopInstanceBeforeDetaching"] is True
    (started,) = program.of("aws:ec2transitgateway/instanceState:InstanceState")
    assert (started.inputs["instanceId"], started.inputs["state"]) == ("g-edge-1-id", "running")
    other = restored("aws", "snap-0000000000000000f")
    assert not {r.name for r in other.of(started.type)} & {started.name}, (
        "one more restore starts it once more"
    )
    assert nodes("aws", "mailbox", data_gib=20).of(started.type) == []


def test_a_restored_disk_at_google_comes_beside_the_old_one() -> None:
    program = restored("gcp", "mail-20300101")
    old, new = sorted(program.of("gcp:compute/disk:Disk"), key=lambda disk: disk.name)
    assert (old.inputs["name"], old.inputs.get("snapshot")) == ("g-edge-1-mail", None)
    assert (new.inputs["name"], new.inputs["snapshot"]) == (new.name.replace("-mail", ""), "mail-20300101")
    assert len(new.inputs["name"]) <= len(old.inputs["name"]), "names have an end"
    [disk] = program.named("g-edge-1").inputs["attachedDisks"]
    assert (disk["source"], disk["deviceName"]) == (f"{new.name}-id", "data")


@pytest.mark.parametrize(
    ("cloud", "token"), [("aws", "aws:ebs/volume:Volume"), ("gcp", "gcp:compute/disk:Disk")]
)
def test_a_replaced_volume_goes_when_it_is_not_kept(cloud: str, token: str) -> None:
    assert len(restored(cloud, "snap-0123456789abcdef0").of(token)) == 2
    (only,) = restored(cloud, "snap-0123456789abcdef0", keep_replaced=False).of(token)
    assert only.name != "g-edge-1-mail"


def test_no_node_may_touch_snapshots() -> None:
    program = nodes("aws", "mailbox", "submission", data_gib=20, ca_key="arn:ca", dkim_key="arn:dkim")
    assert "napshot" not in program.named("g-policy").inputs["policy"]
    roles = {role for role, _ in grants(nodes("gcp", "mailbox", ca_key="ca", data_gib=20)).values()}
    assert all(role.startswith("roles/storage.") for role in roles)


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_what_belongs_to_a_volume_stays_with_it_when_it_is_replaced(cloud: str) -> None:
    found: dict[str, list[str]] = {}

    def of(key: str, args: MailNodesArgs) -> Program:
        return declare(lambda: found.update({key: sorted(MailNodes("g", args).disks)}))

    of("before", arguments(cloud, "mailbox", data_gib=20))
    args = arguments(cloud, "mailbox", data_gib=20)
    args["nodes"][0]["snapshot"] = "snap-0123456789abcdef0"
    of("after", args)
    assert found["before"] == ["edge-1"]
    assert found["after"][0] == "edge-1" and len(found["after"]) == 2


@pytest.mark.parametrize("roles", [["mx"], ["mailbox"]])
def test_no_group_writes_what_operators_ask_for_or_where_its_vault_is(roles: list[str]) -> None:
    statements = json.loads(nodes("aws", *roles).named("g-policy").inputs["policy"])["Statement"]
    written = [
        resource.partition("/")[2]
        for statement in statements
        if "s3:PutObject" in statement["Action"]
        for resource in statement["Resource"]
    ]
    own = ["backup/status/edge/*", "restore/status/edge/*"] if "mailbox" in roles else []
    assert written == ["enrol/edge/*", *own]
