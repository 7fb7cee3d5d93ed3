"""How a node comes into the other cloud: what it shows, to whom, and when it asks again."""

import json
import urllib.parse
import urllib.request
from typing import Any

import boto3
import pytest
from moto import mock_aws

from mailinfra.node.agent import google
from mailinfra.node.agent.google import Answer, ApiError
from mailinfra.node.agent.node import Node
from mailinfra.node.backup import access as module
from mailinfra.node.backup.access import AccessError, Federated, access, identity_token, subject_token
from tests.backup_helpers import VAULT, vault
from tests.node_helpers import agent_node

AUDIENCE = VAULT["access"]["audience"]


@pytest.fixture
def node(tmp_path: Any) -> Node:
    return agent_node(tmp_path, ["mailbox"])


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "test")


class Web:
    """Answers requests, and remembers them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
        self.answers, self.requests = list(answers), list[urllib.request.Request]()
        monkeypatch.setattr(google, "fetch", self.fetch)

    def fetch(self, request: urllib.request.Request) -> Answer:
        """See `google.fetch`."""
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Answer({}, answer if isinstance(answer, bytes) else json.dumps(answer).encode())


def test_the_signed_request_names_its_audience(keys: None) -> None:
    shown = json.loads(urllib.parse.unquote(subject_token("eu-central-1", AUDIENCE)))
    host = "sts.eu-central-1.amazonaws.com"
    assert shown["url"] == f"https://{host}?Action=GetCallerIdentity&Version=2011-06-15"
    assert shown["method"] == "POST"
    headers = {item["key"].lower(): item["value"] for item in shown["headers"]}
    assert headers["x-goog-cloud-target-resource"] == AUDIENCE
    assert headers["host"] == host
    assert headers["x-amz-security-token"] == "test"
    assert "x-goog-cloud-target-resource" in headers["authorization"].partition("SignedHeaders=")[2]


def test_a_token_is_exchanged_and_asked_for_again_before_it_ends(
    node: Node, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(google.time, "monotonic", lambda: clock[0])
    web = Web(
        monkeypatch, {"access_token": "one", "expires_in": 3600}, {"access_token": "two", "expires_in": 3600}
    )
    token = Federated(node, vault())
    assert [token.get(), token.get()] == ["one", "one"]
    assert web.requests[0].full_url == "https://sts.googleapis.com/v1/token"
    form = dict(urllib.parse.parse_qsl(bytes(web.requests[0].data or b"").decode()))  # type: ignore[arg-type]
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
    assert form["audience"] == AUDIENCE
    clock[0] += 3400
    assert token.get() == "two"


def test_googles_key_wraps_with_the_repositorys_name(
    node: Node, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = Web(
        monkeypatch,
        {"access_token": "T", "expires_in": 3600},
        {"ciphertext": "c2VhbGVk"},
        {"plaintext": "b3Blbg=="},
        ApiError(400, "the key is to be destroyed"),
    )
    entry = access(node, vault(endpoints={"kms": "https://kms.test"}))
    assert entry.wrap(b"open", "r/n/g") == b"sealed"
    assert entry.unwrap(b"sealed", "r/n/g") == b"open"
    sent = [json.loads(bytes(request.data or b"")) for request in web.requests[1:]]  # type: ignore[arg-type]
    assert {item["additionalAuthenticatedData"] for item in sent} == {"ci9uL2c="}
    assert web.requests[1].full_url == f"https://kms.test/v1/{VAULT['key']}:encrypt"
    assert web.requests[1].get_header("Authorization") == "Bearer T"
    with pytest.raises(AccessError, match="to be destroyed"):
        entry.wrap(b"open", "r/n/g")


def test_amazons_key_wraps_for_one_repository_only(node: Node, keys: None) -> None:
    with mock_aws():
        key = boto3.client("kms", region_name="eu-central-1").create_key()["KeyMetadata"]["Arn"]
        entry = access(node, vault(cloud="aws", region="eu-central-1", key=key, access={}))
        sealed = entry.wrap(b"a password", "r/n/one")
        assert b"a password" not in sealed
        assert entry.unwrap(sealed, "r/n/one") == b"a password"
        with pytest.raises(AccessError, match="the vault's key"):
            entry.unwrap(sealed, "r/n/two")


def test_a_role_is_assumed_with_googles_identity_token(
    node: Node, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(module, "identity_token", lambda audience: asked.append(audience) or "token")
    known = {"role": "arn:aws:iam::123456789012:role/vault", "audience": "vault-eu"}
    with mock_aws():
        boto3.client("s3", region_name="eu-central-1").create_bucket(
            Bucket="vault-eu", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        entry = access(node, vault(cloud="aws", region="eu-central-1", key="key", access=known))
        assert asked == []
        entry.bucket.create("r/x", b"x")
        assert entry.bucket.read("r/x") == b"x"
    assert asked == ["vault-eu"]


def test_without_an_identity_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    Web(monkeypatch, ApiError(404, "no service account"))
    with pytest.raises(AccessError, match="no identity token: 404 no service account"):
        identity_token("x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(AccessError, match="profile"):
        subject_token("eu-central-1", "x")
