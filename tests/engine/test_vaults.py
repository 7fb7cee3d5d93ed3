"""The vaults of a fleet on both clouds, used as its nodes use them: with nothing but what their own cloud signs."""

import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from botocore.exceptions import ClientError

from mailinfra.sandbox.aws.moto_server import ACCOUNT
from mailinfra.sandbox.aws.service import moto_endpoint
from mailinfra.sandbox.paths import SandboxError
from mailinfra.sandbox.web_identity import Issuer
from tests.federation_helpers import Answer, assume, exchange, proof, send
from tests.recorded import OwnStack, RecordedSandbox, declare

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

EDGE = {"name": "edge", "roles": ["mx", "submission", "imap"]}
STORE = {"name": "store", "roles": ["mailbox"], "data_gib": 10}
FLEET: dict[str, Any] = {
    "name": "vaults",
    "domains": ["vaults.test"],
    "protect": False,
    "zones": {"eu": {"countries": ["DE"]}},
    "regions": [
        {
            "cloud": "aws",
            "region": "eu-central-1",
            "zone": "eu",
            "network": "203.0.113.0/27",
            "groups": [EDGE, {"name": "out", "roles": ["egress"]}, STORE],
        },
        {
            "cloud": "gcp",
            "region": "europe-west3",
            "zone": "eu",
            "network": "203.0.113.32/27",
            "groups": [EDGE, STORE],
        },
    ],
    "dns": {"parent": {"provider": "cloudflare", "account_id": "0123456789abcdef0123456789abcdef"}},
    "placement": {"default": "eu-central-1"},
    "clouds": {"gcp": {"project": "sandbox-mail"}},
}


@dataclass(frozen=True)
class Vaults:
    """A fleet with its vaults, and the clouds as a node reaches them."""

    sandbox: RecordedSandbox
    stack: OwnStack

    @property
    def aws(self) -> str:
        """AWS where machines reach it."""
        return moto_endpoint(self.sandbox.paths, "machines")

    @property
    def google(self) -> str:
        """Google."""
        found: Mapping[str, str] = self.sandbox.control.call("gcp.endpoint")
        return found["url"]

    def of(self, token: str, name: str) -> dict[str, Any]:
        """The outputs of a resource in the state."""
        (found,) = [
            r for r in self.stack.resources() if r["type"] == token and r["urn"].endswith(f"::{name}")
        ]
        outputs: dict[str, Any] = found["outputs"]
        return outputs

    def described(self, region: str) -> dict[str, Any]:
        """What the mailbox nodes of a region are told, from their control bucket."""
        state = self.of("mailinfra:index:BackupVault", f"vaults-{region}-vault")
        found: dict[str, Any] = json.loads(state["description"])
        return found

    def keys(self, role: str) -> dict[str, str]:
        """A session's keys of a node group's role, as the metadata service hands them out."""
        sts = self.sandbox.aws("sts", "eu-central-1")
        made: dict[str, str] = sts.assume_role(
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{role}", RoleSessionName="i-1"
        )["Credentials"]
        return made

    def identity(self, group: str, audience: str, **claims: Any) -> str:
        """The identity token of a group at Google, as the metadata service hands it out."""
        account = self.of("gcp:serviceaccount/account:Account", f"vaults-europe-west3-{group}-account")
        unique = account["uniqueId"]
        issuer = Issuer(self.sandbox.paths.state / "gcp")
        return issuer.sign({"aud": audience, "azp": unique, "sub": unique, **claims})

    def federated(self, role: str) -> Answer:
        """The exchange of a role's session for a token of Google's."""
        audience = self.described("eu-central-1")["access"]["audience"]
        return exchange(self.google, audience, proof(self.keys(role), audience))

    def storage(self, method: str, target: str, token: str, body: bytes = b"") -> int:
        """The status of a call to Cloud Storage."""
        headers = {"authorization": f"Bearer {token}", "content-type": "application/octet-stream"}
        return send(self.google, method, target, body, headers).status

    def session(self, service: str, keys: Mapping[str, str]) -> Any:
        """A boto3 client with a session's keys."""
        return boto3.client(
            service,
            region_name="eu-central-1",
            endpoint_url=self.aws,
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"],
        )


@pytest.fixture(scope="module")
def vaults(recorded_sandbox: RecordedSandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vaults]:
    stack = recorded_sandbox.fleet(tmp_path_factory.mktemp("vaults"), "vaults", FLEET)
    stack.up(lambda _event: None)
    yield Vaults(recorded_sandbox, stack)
    # The clouds are the session's, and other modules' fleets have the same addresses.
    stack.destroy(lambda _event: None)


def credentials(answer: Answer) -> dict[str, str]:
    """The keys in an answer of AWS STS."""
    assert answer.status == 200, answer.body
    names = ("AccessKeyId", "SecretAccessKey", "SessionToken")
    text = answer.body.decode()
    found = {name: re.search(f"<{name}>([^<]+)</{name}>", text) for name in names}
    return {name: match[1] for name, match in found.items() if match}


def put(vaults: Vaults, token: str, bucket: str, name: str) -> int:
    target = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}"
    return vaults.storage("POST", target, token, b"pack")


def code(call: Any, **arguments: Any) -> str:
    """The error code of a call to AWS, empty where there is none."""
    try:
        call(**arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def test_each_store_has_a_vault_in_the_other_cloud_and_is_told_of_it(vaults: Vaults) -> None:
    at_google, at_aws = vaults.described("eu-central-1"), vaults.described("europe-west3")
    assert (at_google["cloud"], at_google["region"]) == ("gcp", "europe-west3")
    assert (at_aws["cloud"], at_aws["region"]) == ("aws", "eu-central-1")
    assert at_aws["access"]["role"] == f"arn:aws:iam::{ACCOUNT}:role/vaults-europe-west3-vault"
    told = vaults.sandbox.aws("s3", "eu-central-1").get_object(
        Bucket=vaults.of("aws:s3/bucketObjectv2:BucketObjectv2", "vaults-eu-central-1-vault-description")[
            "bucket"
        ],
        Key="backup/vault.json",
    )
    assert json.loads(told["Body"].read()) == at_google


def test_a_second_up_changes_nothing(vaults: Vaults) -> None:
    assert vaults.stack.changes() == {}
    vaults.stack.refresh_finds_nothing()


def test_a_node_at_aws_adds_to_its_vault_at_google_and_takes_nothing_away(vaults: Vaults) -> None:
    vault = vaults.described("eu-central-1")
    answer = vaults.federated("vaults-eu-central-1-store")
    assert answer.status == 200, answer.body
    token, bucket = answer.json()["access_token"], vault["bucket"]
    name = quote("eu-central-1/store-1/data/1", safe="")
    path = f"/storage/v1/b/{bucket}/o/{name}"
    assert put(vaults, token, bucket, "eu-central-1/store-1/data/1") == 200
    assert vaults.storage("GET", f"{path}?alt=media", token) == 200
    assert vaults.storage("GET", f"/storage/v1/b/{bucket}/o?prefix=eu-central-1/", token) == 200
    assert put(vaults, token, bucket, "eu-central-1/store-1/data/1") == 403, "nothing is written over"
    assert vaults.storage("DELETE", path, token) == 403
    assert put(vaults, token, bucket, "europe-west3/store-1/data/1") == 403
    assert put(vaults, token, bucket, "eu-central-10/1") == 403
    operator = vaults.sandbox.control.call("gcp.endpoint")["token"]
    assert vaults.storage("DELETE", path, operator) == 403, "not even the owner, before its time"


def test_a_node_at_aws_wraps_passwords_with_the_vaults_key(vaults: Vaults) -> None:
    key = vaults.described("eu-central-1")["key"]
    token = vaults.federated("vaults-eu-central-1-store").json()["access_token"]
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    sealed = send(
        vaults.google, "POST", f"/v1/{key}:encrypt", json.dumps({"plaintext": "c2VjcmV0"}).encode(), headers
    )
    assert sealed.status == 200, sealed.body
    body = json.dumps({"ciphertext": sealed.json()["ciphertext"]}).encode()
    opened = send(vaults.google, "POST", f"/v1/{key}:decrypt", body, headers)
    assert opened.json()["plaintext"] == "c2VjcmV0"
    rest = re.sub("-passwords-[^/]+$", "-rest", key)
    (rest,) = [
        name for kind, name in vaults.sandbox.gcp_documents() if kind == "cryptoKey" and name.startswith(rest)
    ]
    assert send(vaults.google, "POST", f"/v1/{rest}:decrypt", body, headers).status == 403


def test_the_replica_reads_and_decrypts_and_writes_nothing(vaults: Vaults) -> None:
    vault = vaults.described("europe-west3")
    token = vaults.identity("store", vault["access"]["audience"])
    writer = credentials(assume(vaults.aws, vault["access"]["role"], token))
    name = "europe-west3/store-1/data/2"
    vaults.session("s3", writer).put_object(Bucket=vault["bucket"], Key=name, Body=b"pack")
    sealed = vaults.session("kms", writer).encrypt(KeyId=vault["key"], Plaintext=b"secret")["CiphertextBlob"]
    # The replica of Google's store is the store at AWS, which is in the vault's cloud by its own role.
    keys = vaults.keys("vaults-eu-central-1-store")
    s3, kms = vaults.session("s3", keys), vaults.session("kms", keys)
    assert s3.get_object(Bucket=vault["bucket"], Key=name)["Body"].read() == b"pack"
    assert kms.decrypt(KeyId=vault["key"], CiphertextBlob=sealed)["Plaintext"] == b"secret"
    assert code(s3.put_object, Bucket=vault["bucket"], Key=f"{name}0", Body=b"") == "AccessDenied"
    assert code(s3.delete_object, Bucket=vault["bucket"], Key=name) == "AccessDenied"
    assert code(kms.encrypt, KeyId=vault["key"], Plaintext=b"x") == "AccessDeniedException"
    edge = vaults.session("s3", vaults.keys("vaults-eu-central-1-edge"))
    assert code(edge.get_object, Bucket=vault["bucket"], Key=name) == "AccessDenied"


def test_the_replica_at_google_may_read_and_no_more(vaults: Vaults) -> None:
    vault = vaults.described("eu-central-1")
    headers = {"authorization": f"Bearer {vaults.sandbox.control.call('gcp.endpoint')['token']}"}
    policy = send(vaults.google, "GET", f"/storage/v1/b/{vault['bucket']}/iam", headers=headers).json()
    member = "serviceAccount:vaults-europe-west3-store@sandbox-mail.iam.gserviceaccount.com"
    assert {b["role"] for b in policy["bindings"] if member in b["members"]} == {
        "roles/storage.objectViewer",
        "roles/storage.legacyBucketReader",
    }


def test_a_node_that_holds_no_mail_gets_no_token(vaults: Vaults) -> None:
    for group in ("edge", "out"):
        answer = vaults.federated(f"vaults-eu-central-1-{group}")
        assert (answer.status, answer.json()["error"]) == (400, "unauthorized_client")


def test_a_proof_is_its_signers_and_for_one_provider_only(vaults: Vaults) -> None:
    audience = vaults.described("eu-central-1")["access"]["audience"]
    keys = vaults.keys("vaults-eu-central-1-store")
    good = proof(keys, audience)
    assert exchange(vaults.google, audience, good).status == 200
    assert (
        exchange(vaults.google, audience, proof(keys, audience, host="sts.us-east-1.aws.test")).status == 200
    )
    forged = {
        **good,
        "headers": [
            {**h, "value": h["value"][:-4] + "0000"} if h["key"] == "Authorization" else h
            for h in good["headers"]
        ],
    }
    stolen = proof({**keys, "SecretAccessKey": "x" * 40}, audience)
    elsewhere = proof(keys, audience.replace("aws-nodes", "others"))
    unsigned = proof(keys, audience, sign_target=False)
    other = proof(keys, audience, query="Action=GetSessionToken&Version=2011-06-15")
    host = proof(keys, audience, host="sts.example.test")
    for wrong in (forged, stolen, elsewhere, unsigned, other, host):
        answer = exchange(vaults.google, audience, wrong)
        assert (answer.status, answer.json()["error"]) == (400, "invalid_grant"), answer.body
    assert exchange(vaults.google, audience.replace("aws-nodes", "others"), good).status == 400


def test_a_node_at_google_adds_to_its_vault_at_aws_and_takes_nothing_away(vaults: Vaults) -> None:
    vault = vaults.described("europe-west3")
    access, bucket = vault["access"], vault["bucket"]
    answer = assume(vaults.aws, access["role"], vaults.identity("store", access["audience"]))
    keys = credentials(answer)
    s3, kms = vaults.session("s3", keys), vaults.session("kms", keys)
    name = "europe-west3/store-1/data/1"
    version = s3.put_object(Bucket=bucket, Key=name, Body=b"pack")["VersionId"]
    assert s3.get_object(Bucket=bucket, Key=name)["Body"].read() == b"pack"
    assert name in [o["Key"] for o in s3.list_objects_v2(Bucket=bucket, Prefix="europe-west3/")["Contents"]]
    assert code(s3.delete_object, Bucket=bucket, Key=name) == "AccessDenied"
    assert code(s3.delete_object, Bucket=bucket, Key=name, VersionId=version) == "AccessDenied"
    doomed = {"Objects": [{"Key": name, "VersionId": version}]}
    assert code(s3.delete_objects, Bucket=bucket, Delete=doomed) == "AccessDenied"
    assert code(s3.put_object, Bucket=bucket, Key="eu-central-1/1", Body=b"") == "AccessDenied"
    lock = {"Mode": "GOVERNANCE", "RetainUntilDate": "2020-01-01T00:00:00Z"}
    assert code(s3.put_object_retention, Bucket=bucket, Key=name, Retention=lock) == "AccessDenied"
    assert (
        code(
            s3.put_object,
            Bucket=bucket,
            Key=name,
            Body=b"",
            ObjectLockMode="GOVERNANCE",
            ObjectLockRetainUntilDate="2099-01-01T00:00:00Z",
        )
        == "AccessDenied"
    )
    sealed = kms.encrypt(KeyId=vault["key"], Plaintext=b"secret")["CiphertextBlob"]
    assert kms.decrypt(KeyId=vault["key"], CiphertextBlob=sealed)["Plaintext"] == b"secret"
    # Writing over it leaves the version that was there, and the owner cannot take that away either.
    s3.put_object(Bucket=bucket, Key=name, Body=b"garbage")
    owner = vaults.sandbox.aws("s3", "eu-central-1")
    assert code(owner.delete_object, Bucket=bucket, Key=name, VersionId=version) == "AccessDenied"
    kept = owner.get_object(Bucket=bucket, Key=name, VersionId=version)
    assert kept["Body"].read() == b"pack"


def test_who_is_not_the_store_gets_no_session(vaults: Vaults) -> None:
    access = vaults.described("europe-west3")["access"]
    role, audience = access["role"], access["audience"]
    good = vaults.identity("store", audience)
    head, body, signature = good.split(".")
    refused = {
        "AccessDenied": [
            (role, vaults.identity("store", "sts.amazonaws.com")),
            (role, vaults.identity("edge", audience)),
            (role, vaults.identity("store", audience, sub="1")),
            (role, vaults.identity("store", audience, azp="1")),
            (f"arn:aws:iam::{ACCOUNT}:role/vaults-eu-central-1-store", good),
            (role.replace(ACCOUNT, "123456789012"), good),
        ],
        "InvalidIdentityToken": [
            (role, f"{head}.{body}.{signature[:-6]}AAAAAA"),
            (role, f"{head}.{body}."),
            (role, vaults.identity("store", audience, iss="https://accounts.example.test")),
            (role, "nonsense"),
        ],
        "ExpiredTokenException": [(role, vaults.identity("store", audience, exp=1))],
    }
    for expected, cases in refused.items():
        for arn, token in cases:
            answer = assume(vaults.aws, arn, token)
            assert answer.status in {400, 403} and f"<Code>{expected}</Code>".encode() in answer.body


def test_the_node_that_reads_its_control_bucket_is_one_with_mailboxes(vaults: Vaults) -> None:
    told = vaults.of("aws:s3/bucketObjectv2:BucketObjectv2", "vaults-eu-central-1-vault-description")
    answers = {
        group: code(
            vaults.session("s3", vaults.keys(f"vaults-eu-central-1-{group}")).get_object,
            Bucket=told["bucket"],
            Key="backup/vault.json",
        )
        for group in ("store", "edge", "out")
    }
    assert answers == {"store": "", "edge": "AccessDenied", "out": "AccessDenied"}


def test_a_fleet_that_goes_leaves_its_vaults_and_comes_back_to_new_ones(vaults: Vaults) -> None:
    """The last of this module: the stack is gone and made anew."""
    held = {region: vaults.described(region) for region in ("eu-central-1", "europe-west3")}
    at_google, at_aws = held["eu-central-1"], held["europe-west3"]
    name = "europe-west3/store-1/data/3"
    access = at_aws["access"]
    keys = credentials(assume(vaults.aws, access["role"], vaults.identity("store", access["audience"])))
    vaults.session("s3", keys).put_object(Bucket=at_aws["bucket"], Key=name, Body=b"pack")
    sealed = vaults.session("kms", keys).encrypt(KeyId=at_aws["key"], Plaintext=b"x")["CiphertextBlob"]
    token = vaults.federated("vaults-eu-central-1-store").json()["access_token"]
    assert put(vaults, token, at_google["bucket"], "eu-central-1/store-1/data/3") == 200

    vaults.stack.destroy(lambda _event: None)
    assert vaults.stack.resources() == []
    s3, kms = vaults.sandbox.aws("s3", "eu-central-1"), vaults.sandbox.aws("kms", "eu-central-1")
    assert s3.get_object(Bucket=at_aws["bucket"], Key=name)["Body"].read() == b"pack"
    assert kms.decrypt(KeyId=at_aws["key"], CiphertextBlob=sealed)["Plaintext"] == b"x"
    lock = s3.get_object_lock_configuration(Bucket=at_aws["bucket"])["ObjectLockConfiguration"]
    kept = lock["Rule"]["DefaultRetention"]
    assert (kept["Mode"], kept["Days"]) == ("COMPLIANCE", 65)
    operator = vaults.sandbox.control.call("gcp.endpoint")["token"]
    path = f"/storage/v1/b/{at_google['bucket']}/o/{quote('eu-central-1/store-1/data/3', safe='')}"
    assert vaults.storage("GET", f"{path}?alt=media", operator) == 200
    # Those who used them are gone: neither role nor pool lets anybody in.
    assert vaults.storage("GET", f"{path}?alt=media", token) == 403
    answer = assume(vaults.aws, access["role"], Issuer(vaults.sandbox.paths.state / "gcp").sign({"aud": "x"}))
    assert answer.status != 200

    with pytest.raises(SandboxError, match="mail-vaults was deleted, and keeps its id"):
        vaults.stack.up(lambda _event: None)
    again = copy.deepcopy(FLEET)
    again["clouds"]["gcp"]["identity_pool"] = "mail-vaults-2"
    declare(vaults.stack.project, "vaults", again)
    vaults.stack.up(lambda _event: None)
    for region, old in held.items():
        assert vaults.described(region)["bucket"] != old["bucket"]
    token = vaults.federated("vaults-eu-central-1-store").json()["access_token"]
    bucket = vaults.described("eu-central-1")["bucket"]
    assert put(vaults, token, bucket, "eu-central-1/store-1/data/1") == 200
