"""What a machine may do at AWS: requests named as IAM names them, and judged."""

import io
import json
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from mailinfra.sandbox.aws.authorise import Caller, Moto, Wish, allowed, authorised, kms_wishes, s3_wishes

ROLE = "arn:aws:iam::0:role/node"
SECRET = "secret-key"
KEY = "arn:aws:kms:eu-central-1:0:key/1"
DELEGATES = {
    "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::0:root"}, "Action": "kms:*", "Resource": "*"}
    ]
}


class Keys(dict[str, object]):
    """A bucket's objects."""


class Bucket:
    """A bucket of moto's, as far as it is looked at."""

    def __init__(self, policy: dict[str, Any] | None = None, key: str = "") -> None:
        self.policy = json.dumps(policy).encode() if policy else None
        default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
        self.encryption = {"Rule": {"ApplyServerSideEncryptionByDefault": default}} if key else None
        self.keys = Keys({"trust/anchors.pem": object()})


class FakeMoto(Moto):
    """One role, one key, one bucket."""

    def __init__(self, *policies: dict[str, Any], bucket: Bucket | None = None) -> None:
        super().__init__("0")
        self.policies = list(policies)
        self.held = bucket

    def caller(self, access_key: str, token: str) -> Caller:
        return caller(*self.policies)

    def key(self, region: str, identifier: str) -> tuple[str, str] | None:
        return (KEY, json.dumps(DELEGATES)) if identifier in {"1", KEY} else None

    def trust(self, role_arn: str) -> None:
        """There is no role that trusts anybody."""

    def bucket(self, name: str) -> Any:
        return self.held if name == "b" else None


def caller(*policies: dict[str, Any]) -> Caller:
    arn = "arn:aws:sts::0:assumed-role/node/i-1"
    given = [{"Effect": "Allow", **policy} for policy in policies]
    return Caller("node", arn, ROLE, "i-1", "0", given, SECRET)


def request(
    method: str = "GET",
    path: str = "/",
    query: str = "",
    host: str = "s3.eu-central-1.aws.test",
    **headers: str,
):
    return {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "HTTP_HOST": host,
        "wsgi.input": io.BytesIO(),
        **headers,
    }


@pytest.mark.parametrize(
    ("made", "action", "resource"),
    [
        (request(), "s3:ListAllMyBuckets", "*"),
        (request(path="/b", query="list-type=2&prefix=a%2F"), "s3:ListBucket", "arn:aws:s3:::b"),
        (request("HEAD", "/b"), "s3:ListBucket", "arn:aws:s3:::b"),
        (request(path="/b", query="policy"), "s3:GetBucketPolicy", "arn:aws:s3:::b"),
        (request(path="/b", query="versions"), "s3:ListBucketVersions", "arn:aws:s3:::b"),
        (request("DELETE", "/b"), "s3:DeleteBucket", "arn:aws:s3:::b"),
        (request("POST", "/b", "delete"), "s3:DeleteObjects", "arn:aws:s3:::b"),
        (request(path="/b/trust/anchors.pem"), "s3:GetObject", "arn:aws:s3:::b/trust/anchors.pem"),
        (request(path="/b/x", query="versionId=1"), "s3:GetObjectVersion", "arn:aws:s3:::b/x"),
        (request("PUT", "/b/x%20y"), "s3:PutObject", "arn:aws:s3:::b/x y"),
        (request("PUT", "/b/x", "tagging"), "s3:PutObjectTagging", "arn:aws:s3:::b/x"),
        (request("POST", "/b/x", "uploads"), "s3:PutObject", "arn:aws:s3:::b/x"),
        (request("DELETE", "/b/x"), "s3:DeleteObject", "arn:aws:s3:::b/x"),
        (
            request("GET", "/trust/anchors.pem", host="b.s3.eu-central-1.aws.test"),
            "s3:GetObject",
            "arn:aws:s3:::b/trust/anchors.pem",
        ),
    ],
)
def test_requests_to_s3_by_their_iam_names(made: dict[str, Any], action: str, resource: str):
    wish = s3_wishes(FakeMoto(bucket=Bucket()), made, "eu-central-1")[0]
    assert (wish.action, wish.resource) == (action, resource)


def test_a_listing_tells_its_prefix():
    (wish,) = s3_wishes(FakeMoto(), request(path="/b", query="list-type=2&prefix=enrol%2F"), "eu-central-1")
    assert wish.context == {"s3:prefix": "enrol/"}


def test_an_encrypted_object_needs_the_key_through_s3():
    moto = FakeMoto(bucket=Bucket(key=KEY))
    read = s3_wishes(moto, request(path="/b/trust/anchors.pem"), "eu-central-1")
    assert [(w.action, w.resource) for w in read[1:]] == [("kms:Decrypt", KEY)]
    assert read[1].context == {"kms:viaservice": "s3.eu-central-1.amazonaws.com"}
    write = s3_wishes(moto, request("PUT", "/b/new"), "eu-central-1")
    assert [w.action for w in write] == ["s3:PutObject", "kms:GenerateDataKey"]
    assert len(s3_wishes(moto, request("HEAD", "/b/trust/anchors.pem"), "eu-central-1")) == 1


def test_a_missing_object_is_only_told_to_who_may_list():
    wishes = s3_wishes(FakeMoto(bucket=Bucket()), request(path="/b/none"), "eu-central-1")
    assert [(w.action, w.resource) for w in wishes] == [
        ("s3:GetObject", "arn:aws:s3:::b/none"),
        ("s3:ListBucket", "arn:aws:s3:::b"),
    ]


def test_a_copy_needs_its_source():
    made = request("PUT", "/b/x", HTTP_X_AMZ_COPY_SOURCE="/b/trust%2Fanchors.pem")
    assert s3_wishes(FakeMoto(bucket=Bucket()), made, "r")[1].resource == "arn:aws:s3:::b/trust/anchors.pem"


def test_kms_is_told_by_key_and_algorithm():
    body = {"KeyId": "1", "SigningAlgorithm": "A", "MessageType": "DIGEST"}
    (wish,) = kms_wishes(FakeMoto(), "eu-central-1", "Sign", body, {})
    assert (wish.action, wish.resource) == ("kms:Sign", KEY)
    assert wish.context == {"kms:signingalgorithm": "A", "kms:messagetype": "DIGEST"}
    (unknown,) = kms_wishes(FakeMoto(), "eu-central-1", "Sign", {"KeyId": "2"}, {})
    assert unknown.resource == "*"


def policy(effect: str, principal: Any, action: str = "kms:*") -> str:
    return json.dumps(
        {"Statement": [{"Effect": effect, "Principal": principal, "Action": action, "Resource": "*"}]}
    )


ROOT = {"AWS": "arn:aws:iam::0:root"}


@pytest.mark.parametrize(
    ("identity", "resource_policy", "both", "expected"),
    [
        (True, None, False, True),
        (False, None, False, False),
        (True, policy("Allow", ROOT), True, True),
        (False, policy("Allow", ROOT), True, False),
        (True, policy("Allow", {"AWS": "arn:aws:iam::0:role/other"}), True, False),
        (False, policy("Allow", {"AWS": ROLE}), True, True),
        (True, policy("Deny", "*"), True, False),
        (True, policy("Deny", "*", "kms:Decrypt"), True, False),
        (True, policy("Deny", {"AWS": "arn:aws:iam::0:role/other"}), False, True),
        (False, policy("Allow", "*"), False, True),
    ],
)
def test_both_kinds_of_policies(identity: bool, resource_policy: str | None, both: bool, expected: bool):
    me = caller(*([{"Action": "kms:Sign", "Resource": KEY}] if identity else []))
    assert allowed(me, Wish("kms:Sign", KEY, {}, resource_policy, both)) is expected


def call(moto: Moto, made: dict[str, Any]) -> tuple[str, bytes]:
    seen: list[str] = []
    application = authorised(lambda environment, start: [b"served"], moto)
    body = b"".join(application(made, lambda status, headers: seen.append(status)))
    return (seen or ["200"])[0], body


def signed(service: str, **more: Any) -> dict[str, Any]:
    credential = (
        f"AWS4-HMAC-SHA256 Credential=ASIA1/20260101/eu-central-1/{service}/aws4_request, SignedHeaders=host"
    )
    return {**request(), "HTTP_AUTHORIZATION": credential, **more}


def test_the_front_serves_refuses_and_answers_in_the_services_own_form():
    moto = FakeMoto({"Action": "kms:Sign", "Resource": KEY})
    body = json.dumps({"KeyId": "1"}).encode()
    made = signed("kms", CONTENT_LENGTH=str(len(body)), HTTP_X_AMZ_TARGET="TrentService.Sign")
    assert call(moto, {**made, "wsgi.input": io.BytesIO(body)}) == ("200", b"served")
    refused = {**made, "wsgi.input": io.BytesIO(body), "HTTP_X_AMZ_TARGET": "TrentService.Decrypt"}
    status, answer = call(moto, refused)
    assert status.startswith("400")
    assert json.loads(answer)["__type"] == "AccessDeniedException"
    assert "not authorized to perform: kms:Decrypt" in json.loads(answer)["message"]
    status, answer = call(moto, signed("s3"))
    assert status.startswith("403") and b"<Code>AccessDenied</Code>" in answer
    assert call(moto, signed("s3", REQUEST_METHOD="HEAD"))[1] == b""
    assert call(moto, signed("ec2", QUERY_STRING="Action=DescribeInstances"))[0].startswith("403")


def sts(
    query: str, host: str = "sts.eu-central-1.amazonaws.com", secret: str = SECRET, **more: Any
) -> dict[str, Any]:
    """A request to STS that is signed with a secret key."""
    made = AWSRequest("POST", f"https://{host}/?{query}", headers={"host": host})
    SigV4Auth(Credentials("ASIA1", secret, "token"), "sts", "eu-central-1").add_auth(made)
    headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in made.headers.items()}
    return {**request("POST", "/", query, host), **headers, **more}


def test_who_calls_is_told_to_whoever_signed_it() -> None:
    assert call(FakeMoto(), sts("Action=GetCallerIdentity")) == ("200", b"served")


@pytest.mark.parametrize(
    "made",
    [
        sts("Action=GetCallerIdentity", secret="another"),
        {**sts("Action=GetCallerIdentity"), "QUERY_STRING": "Action=GetSessionToken"},
        {**sts("Action=GetCallerIdentity"), "HTTP_HOST": "sts.us-east-1.amazonaws.com"},
        signed("sts", QUERY_STRING="Action=GetCallerIdentity"),
    ],
)
def test_a_call_to_sts_that_its_bearer_did_not_sign_is_refused(made: dict[str, Any]) -> None:
    status, answer = call(FakeMoto(), made)
    assert status.startswith("403") and b"<Code>SignatureDoesNotMatch</Code>" in answer


def test_a_web_identity_is_for_sts_alone() -> None:
    query = "Action=AssumeRoleWithWebIdentity&RoleArn=r&RoleSessionName=s&WebIdentityToken=t"
    for host, expected in (
        ("sts.eu-central-1.aws.test", b"<Code>InvalidIdentityToken</Code>"),
        ("s3.eu-central-1.aws.test", b"<Code>MissingAuthenticationToken</Code>"),
        ("sts.eu-central-1.aws.test.example", b"<Code>MissingAuthenticationToken</Code>"),
    ):
        assert expected in call(FakeMoto(), request("POST", "/", query, host))[1]
    other = query.replace("WithWebIdentity", "")
    assert b"MissingAuthenticationToken" in call(FakeMoto(), request("POST", "/", other, "sts.aws.test"))[1]


def test_what_an_upload_says_of_its_lock_is_a_wish_of_its_own() -> None:
    made = request(
        "PUT", "/b/k", HTTP_X_AMZ_OBJECT_LOCK_MODE="COMPLIANCE", HTTP_X_AMZ_OBJECT_LOCK_LEGAL_HOLD="ON"
    )
    actions = [wish.action for wish in s3_wishes(FakeMoto(), made, "eu-central-1")]
    assert actions == ["s3:PutObject", "s3:PutObjectRetention", "s3:PutObjectLegalHold"]
    made = request("DELETE", "/b/k", "versionId=1", HTTP_X_AMZ_BYPASS_GOVERNANCE_RETENTION="true")
    actions = [wish.action for wish in s3_wishes(FakeMoto(), made, "eu-central-1")]
    assert actions == ["s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"]


def test_nobody_is_nobody():
    status, answer = call(FakeMoto(), request())
    assert status.startswith("403") and b"MissingAuthenticationToken" in answer
