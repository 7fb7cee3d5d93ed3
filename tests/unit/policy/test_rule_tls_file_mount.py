"""File systems are mounted and files transferred with encryption."""

from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.tls_file_mount import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

TASK = resource(
    "aws:ecs/taskDefinition:TaskDefinition",
    "task",
    {
        "volumes": [
            {"name": "x"},
            {"name": "mail", "efsVolumeConfiguration": {"transitEncryption": "ENABLED"}},
        ]
    },
)
SYNC = resource("aws:datasync/efsLocation:EfsLocation", "sync", {"inTransitEncryption": "TLS1_2"})
OBJECTS = resource(
    "aws:datasync/locationObjectStorage:LocationObjectStorage", "objects", {"serverProtocol": "HTTPS"}
)
SERVER = resource(
    "aws:transfer/server:Server",
    "server",
    {"protocols": ["SFTP"], "securityPolicyName": "TransferSecurityPolicy-2024-01"},
)
NFS = resource("gcp:netapp/volume:Volume", "nfs", {"protocols": ["NFSV4"], "kerberosEnabled": True})
SMB = resource("gcp:netapp/volume:Volume", "smb", {"protocols": ["SMB"]})
GOOD = ([TASK], [SYNC, OBJECTS], [SERVER], [NFS], [SMB])


@pytest.mark.parametrize(
    ("good", "props", "path"),
    [
        (
            TASK,
            {"volumes": [{"efsVolumeConfiguration": {"fileSystemId": "fs-1"}}]},
            "volumes[0].efsVolumeConfiguration.transitEncryption",
        ),
        (SYNC, {"inTransitEncryption": "NONE"}, "inTransitEncryption"),
        (SERVER, {"protocols": ["SFTP", "FTP"]}, "protocols[1]"),
        (SERVER, {"securityPolicyName": "TransferSecurityPolicy-2018-11"}, "securityPolicyName"),
        (SERVER, {"securityPolicyName": None}, "securityPolicyName"),
        (NFS, {"kerberosEnabled": None}, "kerberosEnabled"),
        (SMB, {"protocols": ["SMB", "NFSV4"]}, "kerberosEnabled"),
    ],
)
def test_what_is_wrong_is_named(good: Resource, props: dict[str, Any], path: str) -> None:
    assert places(RULE, [changed(good, **props)]) == [(good.name, path)]


def test_unknown_is_found() -> None:
    (item,) = found(RULE, [changed(SYNC, inTransitEncryption=UNKNOWN)], settings())
    assert item.finding.unknown
