"""The exchange of a role's session at AWS for a token of Google's, with an AWS that answers what the test says."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from mailinfra.sandbox.gcp import federation
from mailinfra.sandbox.gcp.api import GoogleApis
from mailinfra.sandbox.gcp.http import ApiError, Request, Response
from mailinfra_components.vaults import only_roles, role_member
from tests.federation_helpers import exchange_form, proof
from tests.gcp_helpers import PROJECT, Client, binding, crypto_key, grant, operator

ACCOUNT = "000000000000"
KEYS = {"AccessKeyId": "ASIA1", "SecretAccessKey": "secret", "SessionToken": "token"}
POOL = f"projects/{PROJECT}/locations/global/workloadIdentityPools/mail-test"
PROVIDER = f"{POOL}/providers/aws-nodes"
INPUTS = {
    "workloadIdentityPoolId": "mail-test",
    "workloadIdentityPoolProviderId": "aws-nodes",
    "aws": {"accountId": ACCOUNT},
    "attributeMapping": {
        "google.subject": "assertion.arn",
        "attribute.aws_role": "assertion.arn.extract('assumed-role/{role}/')",
    },
    "attributeCondition": only_roles(ACCOUNT, ["store", "other"]),
}


class Aws:
    """Answers as AWS STS does for a session of one role, or not at all."""

    def __init__(self) -> None:
        self.caller: Mapping[str, str] | None = None
        self.seen: list[tuple[str, str, Mapping[str, str]]] = []

    def __call__(self, method: str, path: str, headers: Mapping[str, str]) -> Mapping[str, str] | None:
        self.seen.append((method, path, headers))
        return self.caller

    def session(self, role: str, account: str = ACCOUNT) -> None:
        arn = f"arn:aws:sts::{account}:assumed-role/{role}/i-1"
        self.caller = {"account": account, "arn": arn, "userid": "AROA:i-1"}


@pytest.fixture(scope="module")
def aws() -> Aws:
    return Aws()


@pytest.fixture(scope="module")
def apis(tmp_path_factory: pytest.TempPathFactory, aws: Aws) -> Iterator[GoogleApis]:
    made = GoogleApis(tmp_path_factory.mktemp("gcp"), aws)
    made_by = operator(made)
    made_by("POST", path(POOL), {"workloadIdentityPoolId": "mail-test"})
    made_by("POST", path(PROVIDER), INPUTS)
    yield made
    made.close()


@pytest.fixture
def audience(apis: GoogleApis, aws: Aws) -> str:
    aws.session("store")
    found = operator(apis)("GET", path(PROVIDER))["outputs"]["name"]
    return f"//iam.googleapis.com/{found}"


def path(name: str) -> str:
    kind = "workloadIdentityPoolProvider" if "/providers/" in name else "workloadIdentityPool"
    return f"/sandbox/{kind}/{quote(name, safe='')}"


def exchange(
    apis: GoogleApis, form: Mapping[str, str], kind: str = "application/x-www-form-urlencoded"
) -> Response:
    body = json.dumps(form) if kind == "application/json" else urlencode(form)
    return apis(Request("POST", "/v1/token", headers={"content-type": kind}, body=body.encode()))


def error(answer: Response) -> str:
    assert answer.status == 400 and isinstance(answer.body, dict)
    found: str = answer.body["error"]
    return found


def token(apis: GoogleApis, audience: str) -> str:
    answer = exchange(apis, exchange_form(audience, proof(KEYS, audience)))
    assert answer.status == 200 and isinstance(answer.body, dict), answer.body
    assert answer.body["token_type"] == "Bearer" and answer.body["expires_in"] == 3600
    found: str = answer.body["access_token"]
    return found


def test_aws_is_asked_with_what_its_role_signed_and_nothing_else(
    apis: GoogleApis, aws: Aws, audience: str
) -> None:
    proven = proof(KEYS, audience)
    proven["headers"].append({"key": "Transfer-Encoding", "value": "chunked"})
    assert exchange(apis, exchange_form(audience, proven)).status == 200
    method, target, headers = aws.seen[-1]
    assert (method, target) == ("POST", "/?Action=GetCallerIdentity&Version=2011-06-15")
    assert set(headers) == {
        "authorization",
        "host",
        "x-amz-date",
        "x-amz-security-token",
        "x-goog-cloud-target-resource",
    }


def test_googles_own_spelling_is_taken_too(apis: GoogleApis, audience: str) -> None:
    form = exchange_form(audience, proof(KEYS, audience))
    camel = {
        "".join([part if n == 0 else part.title() for n, part in enumerate(key.split("_"))]): value
        for key, value in form.items()
    }
    assert "grantType" in camel
    assert exchange(apis, camel, "application/json").status == 200


def test_grants_to_the_role_hold_with_their_conditions(apis: GoogleApis, aws: Aws, audience: str) -> None:
    node = Client(apis, token(apis, audience))
    pool = audience.removeprefix("//iam.googleapis.com/").partition("/providers/")[0]
    member = role_member(pool, "store")
    owner = operator(apis)
    locked = {"retentionPolicy": {"retentionPeriod": "3600"}}
    uniform = {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}}
    owner(
        "POST", f"/storage/v1/b?project={PROJECT}", {"name": "vault", "location": "EU", **locked, **uniform}
    )
    below = 'resource.name.startsWith("projects/_/buckets/vault/objects/eu-central-1/")'
    roles = [binding(f"roles/storage.{role}", member, below) for role in ("objectCreator", "objectViewer")]
    owner("PUT", "/storage/v1/b/vault/iam", {"bindings": roles})
    upload = "/upload/storage/v1/b/vault/o?uploadType=media&name="
    assert node.code("POST", f"{upload}eu-central-1/1", b"x") == 200
    assert node.code("GET", "/storage/v1/b/vault/o/eu-central-1%2F1?alt=media") == 200
    assert node.code("POST", f"{upload}eu-central-1/1", b"y") == 403
    assert node.code("DELETE", "/storage/v1/b/vault/o/eu-central-1%2F1") == 403
    assert node.code("POST", f"{upload}eu-central-2/1", b"x") == 403
    assert node.code("GET", "/storage/v1/b/vault") == 403
    key = crypto_key(apis, "passwords")
    plain = {"plaintext": "c2VjcmV0"}
    assert node.code("POST", f"/v1/{key}:encrypt", plain) == 403
    grant(apis, key, "roles/cloudkms.cryptoKeyEncrypterDecrypter", member)
    assert node.code("POST", f"/v1/{key}:encrypt", plain) == 200
    aws.session("other")
    other = Client(apis, token(apis, audience))
    assert other.code("POST", f"/v1/{key}:encrypt", plain) == 403
    assert other.code("GET", "/storage/v1/b/vault/o/eu-central-1%2F1?alt=media") == 403
    assert node.code("POST", f"/v1/{key}:encrypt", plain) == 200, "the first stays who it is"


@pytest.mark.parametrize("suffix", ["/*", "/subject/arn:aws:sts::000000000000:assumed-role/store/i-1"])
def test_a_pool_and_a_subject_are_members_too(apis: GoogleApis, audience: str, suffix: str) -> None:
    pool = audience.removeprefix("//iam.googleapis.com/").partition("/providers/")[0]
    key = crypto_key(apis, f"key-{len(suffix)}")
    kind = "principalSet" if suffix == "/*" else "principal"
    grant(apis, key, "roles/cloudkms.viewer", f"{kind}://iam.googleapis.com/{pool}{suffix}")
    assert Client(apis, token(apis, audience)).code("GET", f"/v1/{key}") == 200


def test_who_is_not_the_providers_gets_nothing(apis: GoogleApis, aws: Aws, audience: str) -> None:
    form = exchange_form(audience, proof(KEYS, audience))
    aws.session("stranger")
    assert error(exchange(apis, form)) == "unauthorized_client"
    aws.session("store", "123456789012")
    assert error(exchange(apis, form)) == "invalid_grant"
    # Not a session, but a user whose path makes it look like one.
    user = f"arn:aws:iam::{ACCOUNT}:user/assumed-role/store/mallory"
    aws.caller = {"account": ACCOUNT, "arn": user, "userid": "AIDA"}
    assert error(exchange(apis, form)) == "unauthorized_client"
    aws.caller = None
    assert error(exchange(apis, form)) == "invalid_grant"
    aws.session("x" * 90)
    assert error(exchange(apis, form)) == "invalid_grant", "google.subject is too long"


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("grant_type", "authorization_code", "invalid_request"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:id_token", "invalid_request"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt", "invalid_request"),
        ("scope", "email", "invalid_scope"),
        ("audience", "//iam.googleapis.com/projects/1/elsewhere", "invalid_target"),
        ("subject_token", "nonsense", "invalid_grant"),
        ("subject_token", "[]", "invalid_grant"),
        ("subject_token", "", "invalid_grant"),
    ],
)
def test_a_request_that_is_no_exchange(
    apis: GoogleApis, audience: str, field: str, value: str, expected: str
) -> None:
    form = exchange_form(audience, proof(KEYS, audience))
    assert error(exchange(apis, {**form, field: value})) == expected


def test_a_proof_that_is_for_others_is_refused(apis: GoogleApis, aws: Aws, audience: str) -> None:
    asked = len(aws.seen)
    good = proof(KEYS, audience)
    wrong: list[dict[str, Any]] = [
        proof(KEYS, "//iam.googleapis.com/other"),
        proof(KEYS, audience, sign_target=False),
        proof(KEYS, audience, host="sts.example.test"),
        proof(KEYS, audience, host="sts.eu-central-1.amazonaws.com.example.test"),
        proof(KEYS, audience, query="Action=GetSessionToken&Version=2011-06-15"),
        proof(KEYS, audience, query="Action=GetCallerIdentity&Version=2011-06-15&Action=AssumeRole"),
        {**good, "method": "GET"},
        {**good, "url": good["url"].replace("https", "http")},
        {**good, "url": good["url"].replace("eu-central-1", "us-east-1")},
    ]
    for item in wrong:
        assert error(exchange(apis, exchange_form(audience, item))) == "invalid_grant", item
    assert len(aws.seen) == asked, "AWS is not even asked"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"workloadIdentityPoolProviderId": "gcp-nodes"}, "prefix gcp-"),
        ({"workloadIdentityPoolProviderId": "aws"}, "4 to 32"),
        ({"aws": {"accountId": "12"}}, "12 digits"),
        ({"aws": None}, "12 digits"),
        ({"attributeMapping": {"attribute.x": "assertion.arn"}}, "google.subject"),
        ({"attributeMapping": {"google.subject": "assertion.arn", "x": "y"}}, "attribute.NAME"),
        ({"attributeCondition": "attribute.aws_role in ["}, "no CEL"),
        ({"disabled": True}, "enabled"),
    ],
)
def test_a_provider_that_google_refuses(apis: GoogleApis, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ApiError, match=message):
        operator(apis)("POST", path(f"{POOL}/providers/second"), INPUTS | changed)


def test_a_pool_outlives_its_providers(apis: GoogleApis) -> None:
    with pytest.raises(ApiError, match="already being used"):
        operator(apis)("DELETE", path(POOL))
    with pytest.raises(ApiError, match="was not found"):
        operator(apis)("POST", path(PROVIDER.replace("mail-test", "nowhere")), INPUTS)


def test_the_id_of_a_deleted_pool_is_kept_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apis = GoogleApis(tmp_path)
    for name, inputs in ((POOL, {"workloadIdentityPoolId": "mail-test"}), (PROVIDER, INPUTS)):
        operator(apis)("POST", path(name), inputs)
    for name in (PROVIDER, POOL):
        operator(apis)("DELETE", path(name))
    with pytest.raises(ApiError, match="already exists") as refused:
        operator(apis)("POST", path(POOL), {"workloadIdentityPoolId": "mail-test"})
    assert refused.value.code == 409
    other = POOL.replace("mail-test", "mail-again")
    operator(apis)("POST", path(other), {"workloadIdentityPoolId": "mail-again"})
    later = federation.now() + federation.KEPT
    monkeypatch.setattr(federation, "now", lambda: later)
    operator(apis)("POST", path(POOL), {"workloadIdentityPoolId": "mail-test"})
    apis.close()


def test_the_keys_that_identities_are_checked_by_are_open_to_all(apis: GoogleApis) -> None:
    answer = apis(Request("GET", "/oauth2/v3/certs"))
    assert isinstance(answer.body, dict) and [key["alg"] for key in answer.body["keys"]] == ["RS256"]


def test_no_exchange_without_an_aws(tmp_path: Path, aws: Aws) -> None:
    apis = GoogleApis(tmp_path)
    operator(apis)("POST", path(POOL), {"workloadIdentityPoolId": "mail-test"})
    made = operator(apis)("POST", path(PROVIDER), INPUTS)
    audience = f"//iam.googleapis.com/{made['outputs']['name']}"
    assert error(exchange(apis, exchange_form(audience, proof(KEYS, audience)))) == "invalid_grant"
    apis.close()
