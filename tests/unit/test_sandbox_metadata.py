"""The metadata services' answers."""

import base64
import http.client
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mailinfra.sandbox.metadata import Caller, MetadataService, Response
from mailinfra.sandbox.model import MachineSpec

AWS = MachineSpec(
    id="i-1",
    kind="aws",
    hostname="mx-1.example.test",
    region="eu-central-1",
    country="DE",
    private_ipv4="203.0.113.4",
    ipv6="2001:db8::4",
    user_data=base64.b64encode(b"\x1f\x8b\x00script").decode(),
    metadata={
        "account_id": "000000000000",
        "instance_type": "t3.small",
        "role": "arn:aws:iam::000000000000:role/fleet/mx",
        "tags": {"Name": "mx", "a b": "c"},
        "instance_metadata_tags": True,
    },
)
ACCOUNT = {"aliases": ["default"], "email": "mx@mail.test", "scopes": ["cloud-platform"]}
GCP = MachineSpec(
    id="mx-1",
    kind="gcp",
    hostname="mx-1.example.test",
    region="europe-west3",
    country="DE",
    private_ipv4="203.0.113.36",
    user_data=base64.b64encode(b"#!/bin/sh\n").decode(),
    metadata={
        "instance": {
            "id": 42,
            "zone": "projects/7/zones/europe-west3-c",
            "machineType": "projects/7/machineTypes/e2-small",
            "attributes": {"some-key": "Some value", "camelCase": "kept"},
            "tags": ["mx", "mail"],
            "networkInterfaces": [
                {"ip": "203.0.113.36", "accessConfigs": [{"externalIp": "198.51.100.200"}]}
            ],
            "serviceAccounts": {"default": ACCOUNT, "mx@mail.test": ACCOUNT},
        },
        "project": {"projectId": "mail", "numericProjectId": 7},
    },
)
MACHINES = {
    AWS.private_ipv4: Caller(AWS, "198.51.100.4"),
    "203.0.113.5": Caller(
        replace(AWS, id="i-2", private_ipv4="203.0.113.5", ipv6=None, user_data="", metadata={}), None
    ),
    GCP.private_ipv4: Caller(GCP, "198.51.100.130"),
    "192.0.2.9": Caller(replace(AWS, kind="outside"), None),
}


@pytest.fixture
def service() -> MetadataService:
    service = MetadataService()
    service.find = MACHINES.get
    return service


def token(service: MetadataService, source: str = AWS.private_ipv4, seconds: str = "60") -> str:
    answer = service.answer(
        source, "PUT", "/latest/api/token", {"x-aws-ec2-metadata-token-ttl-seconds": seconds}
    )
    assert answer.status == 200
    return answer.body.decode()


def ec2(service: MetadataService, path: str, source: str = AWS.private_ipv4) -> Response:
    return service.answer(source, "GET", path, {"x-aws-ec2-metadata-token": token(service, source)})


def gce(service: MetadataService, path: str, **headers: str) -> Response:
    return service.answer(
        GCP.private_ipv4, "GET", f"/computeMetadata/v1/{path}", {"metadata-flavor": "Google", **headers}
    )


def test_strangers_and_outside_machines_get_nothing(service: MetadataService) -> None:
    for source in ("192.0.2.9", "203.0.113.99"):
        assert service.answer(source, "GET", "/latest/meta-data/", {}).status == 404
        assert service.answer(source, "PUT", "/latest/api/token", {}).status == 404


@pytest.mark.parametrize("seconds", ["", "0", "21601", "-1", "x"])
def test_a_token_needs_a_lifetime(service: MetadataService, seconds: str) -> None:
    headers = {"x-aws-ec2-metadata-token-ttl-seconds": seconds} if seconds else {}
    assert service.answer(AWS.private_ipv4, "PUT", "/latest/api/token", headers).status == 400


def test_a_token_is_not_given_through_a_proxy_nor_by_get(service: MetadataService) -> None:
    headers = {"x-aws-ec2-metadata-token-ttl-seconds": "60"}
    forwarded = {**headers, "x-forwarded-for": "192.0.2.1"}
    assert service.answer(AWS.private_ipv4, "PUT", "/latest/api/token", forwarded).status == 403
    assert service.answer(AWS.private_ipv4, "GET", "/latest/api/token", headers).status == 405


@pytest.mark.parametrize("given", ["", "1.2", "9999999999.", "9999999999.00", "é"])
def test_without_a_good_token_there_is_no_answer(service: MetadataService, given: str) -> None:
    headers = {"x-aws-ec2-metadata-token": given} if given else {}
    assert service.answer(AWS.private_ipv4, "GET", "/latest/meta-data/", headers).status == 401


def test_a_token_ends_and_is_good_for_one_server_only(
    service: MetadataService, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"x-aws-ec2-metadata-token": token(service)}
    assert service.answer("203.0.113.5", "GET", "/latest/meta-data/instance-id", given).status == 401
    now = __import__("time").time()
    assert service.answer(AWS.private_ipv4, "GET", "/latest/meta-data/instance-id", given).body == b"i-1"
    monkeypatch.setattr("mailinfra.sandbox.metadata.time.time", lambda: now + 62)
    assert service.answer(AWS.private_ipv4, "GET", "/latest/meta-data/instance-id", given).status == 401


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/latest/meta-data/instance-id", "i-1"),
        ("/2021-03-23/meta-data/instance-type/", "t3.small"),
        ("/latest/meta-data/placement/region", "eu-central-1"),
        ("/latest/meta-data/placement/availability-zone", "eu-central-1a"),
        ("/latest/meta-data/public-ipv4", "198.51.100.4"),
        ("/latest/meta-data/local-ipv4", "203.0.113.4"),
        ("/latest/meta-data/ipv6", "2001:db8::4"),
        ("/latest/meta-data/tags/instance/", "Name\na b"),
        ("/latest/meta-data/tags/instance/Name", "mx"),
        ("/latest/meta-data/placement", "availability-zone\nregion"),
        ("/latest", "dynamic/\nmeta-data/"),
    ],
)
def test_ec2_answers(service: MetadataService, path: str, expected: str) -> None:
    answer = ec2(service, path)
    assert (answer.status, answer.body.decode()) == (200, expected)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing/meta-data",
        "/latest/meta-data/no",
        "/latest/meta-data/iam/info",
        "/latest/meta-data/ami-id/x",
    ],
)
def test_ec2_has_not(service: MetadataService, path: str) -> None:
    assert ec2(service, path).status == 404


def test_ec2_user_data_is_given_as_it_came(service: MetadataService) -> None:
    assert ec2(service, "/latest/user-data").body == b"\x1f\x8b\x00script"
    assert ec2(service, "/latest/user-data", "203.0.113.5").status == 404
    assert ec2(service, "/latest/meta-data/tags/instance", "203.0.113.5").status == 404
    assert ec2(service, "/latest/meta-data/public-ipv4", "203.0.113.5").status == 404


def test_ec2_credentials_are_those_of_the_role(service: MetadataService) -> None:
    asked: list[tuple[str, str]] = []

    def credentials(spec: MachineSpec, role: str) -> dict[str, Any]:
        asked.append((spec.id, role))
        return {
            "AccessKeyId": "A",
            "SecretAccessKey": "S",
            "Token": "T",
            "Expiration": "2030-01-01T00:00:00Z",
        }

    service.aws_credentials = credentials
    assert ec2(service, "/latest/meta-data/iam/security-credentials/").body == b"mx"
    assert asked == [], "made only when asked for"
    keys = json.loads(ec2(service, "/latest/meta-data/iam/security-credentials/mx").body)
    assert (keys["Code"], keys["AccessKeyId"], keys["Token"]) == ("Success", "A", "T")
    assert asked == [("i-1", "arn:aws:iam::000000000000:role/fleet/mx")]
    assert ec2(service, "/latest/meta-data/iam/security-credentials/other").status == 404
    assert ec2(service, "/latest/meta-data/iam/info", "203.0.113.5").status == 404


def test_gce_wants_its_header_and_no_proxy(service: MetadataService) -> None:
    path = "/computeMetadata/v1/instance/name"
    assert service.answer(GCP.private_ipv4, "GET", path, {}).status == 403
    assert gce(service, "instance/name", **{"x-forwarded-for": "192.0.2.1"}).status == 403
    root = service.answer(GCP.private_ipv4, "GET", "/", {})
    assert (root.status, root.headers["Metadata-Flavor"]) == (200, "Google")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("instance/id", "42"),
        ("instance/name", "mx-1"),
        ("instance/zone", "projects/7/zones/europe-west3-c"),
        ("instance/machine-type", "projects/7/machineTypes/e2-small"),
        ("instance/hostname", "mx-1.example.test"),
        ("instance/attributes/some-key", "Some value"),
        ("instance/attributes/camelCase", "kept"),
        ("instance/attributes/startup-script", "#!/bin/sh\n"),
        ("instance/attributes/", "camelCase\nsome-key\nstartup-script"),
        ("instance/tags", '["mx", "mail"]'),
        ("instance/service-accounts/", "default/\nmx@mail.test/"),
        ("instance/service-accounts/default/email", "mx@mail.test"),
        ("instance/network-interfaces/", "0/\n"),
        ("instance/network-interfaces/0/ip", "203.0.113.36"),
        ("instance/network-interfaces/0/access-configs/0/external-ip", "198.51.100.130"),
        ("project/project-id", "mail"),
        ("project/numeric-project-id", "7"),
        ("", "instance/\nproject/"),
    ],
)
def test_gce_answers(service: MetadataService, path: str, expected: str) -> None:
    answer = gce(service, path)
    assert (answer.status, answer.body.decode()) == (200, expected)
    assert answer.headers["Metadata-Flavor"] == "Google"


def test_gce_folders_and_absent_keys(service: MetadataService) -> None:
    moved = gce(service, "instance/attributes")
    assert (moved.status, moved.headers["Location"]) == (301, "/computeMetadata/v1/instance/attributes/")
    for path in ("instance/attributes/no", "instance/network-interfaces/1/ip", "instance/name/x", "other"):
        assert gce(service, path).status == 404, path


def test_gce_recursive_answers(service: MetadataService) -> None:
    whole = json.loads(gce(service, "?recursive=true").body)
    assert whole["project"] == {"projectId": "mail", "numericProjectId": 7}
    assert whole["instance"]["attributes"]["startup-script"] == "#!/bin/sh\n"
    part = gce(service, "instance/attributes/?recursive=true&alt=json")
    assert part.content_type == "application/json"
    assert json.loads(part.body)["camelCase"] == "kept"


def test_gce_tokens_and_identities(service: MetadataService) -> None:
    assert gce(service, "instance/service-accounts/default/token").status == 404
    service.gcp_token = lambda spec, scopes: {"access_token": f"{spec.id} {scopes}", "expires_in": 1}
    service.gcp_identity = lambda spec, audience, full: f"{spec.id}/{audience}/{full}"
    answer = json.loads(gce(service, "instance/service-accounts/mx@mail.test/token").body)
    assert answer["access_token"] == "mx-1 ['cloud-platform']"
    answer = json.loads(gce(service, "instance/service-accounts/default/token?scopes=a,b").body)
    assert answer["access_token"] == "mx-1 ['a', 'b']"
    assert gce(service, "instance/service-accounts/default/identity").status == 400
    identity = "instance/service-accounts/default/identity?audience=x"
    assert gce(service, identity).body == b"mx-1/x/False"
    assert gce(service, f"{identity}&format=full").body == b"mx-1/x/True"
    assert gce(service, "instance/service-accounts/stranger/token").status == 404


def test_the_spec_is_not_changed_by_answering(service: MetadataService) -> None:
    before = json.dumps(GCP.metadata)
    gce(service, "?recursive=true")
    assert json.dumps(GCP.metadata) == before


@pytest.fixture
def served(service: MetadataService) -> Iterator[tuple[MetadataService, int]]:
    service.find = lambda _: MACHINES[GCP.private_ipv4]
    listener = socket.create_server(("127.0.0.1", 0))
    service.start(listener)
    yield service, listener.getsockname()[1]
    service.stop()


def test_over_http(served: tuple[MetadataService, int]) -> None:
    service, port = served
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/computeMetadata/v1/instance/name", headers={"Metadata-Flavor": "Google"})
    answer = connection.getresponse()
    assert (answer.status, answer.read(), answer.headers["Metadata-Flavor"]) == (200, b"mx-1", "Google")

    def broken(spec: MachineSpec, scopes: list[str]) -> dict[str, Any]:
        raise LookupError("no such account")

    service.gcp_token = broken
    connection.request(
        "GET",
        "/computeMetadata/v1/instance/service-accounts/default/token",
        headers={"Metadata-Flavor": "Google"},
    )
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (500, b"")
    connection.request("POST", "/computeMetadata/v1/instance/name", "body", {"Metadata-Flavor": "Google"})
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (405, b"")
    connection.close()
