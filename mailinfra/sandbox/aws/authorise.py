"""Lets a machine do at moto what its role's policies, a bucket's policy and a key's policy allow, and nothing else.

moto itself asks nobody. This stands before it on the port that machines reach: a request carries the
temporary keys of a role (others are refused), is named as IAM names it, and judged. S3 and KMS are judged by
resource and condition; of other services the action alone is known, and their resource is `*`. The one request
that needs no keys is the one for keys: AssumeRoleWithWebIdentity, with a token of Google's (`federation`).

Signatures are computed again for STS alone, whose answers others take as a proof; elsewhere the session token is
the secret that tells one machine from another.
"""

import io
import json
import re
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from mailinfra.sandbox.aws import federation, sigv4
from mailinfra.sandbox.aws.federation import Refusal, Trust
from mailinfra.sandbox.aws.policy import judge, statements

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]
ACCOUNT_VARIABLE = "aws:principalaccount"
_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")
_BUCKET_HOST = re.compile(r"^(?P<bucket>.+)\.s3[.-](?P<region>[^.]+)\.(?:aws\.test|amazonaws\.com)$")
_STS_HOST = re.compile(r"^sts(?:\.[a-z0-9-]+)?\.(?:aws\.test|amazonaws\.com)$")
_OBJECT_SETTINGS = {"acl": "Acl", "tagging": "Tagging", "retention": "Retention", "legal-hold": "LegalHold"}
_LOCK_HEADERS = {
    "HTTP_X_AMZ_OBJECT_LOCK_MODE": "s3:PutObjectRetention",
    "HTTP_X_AMZ_OBJECT_LOCK_RETAIN_UNTIL_DATE": "s3:PutObjectRetention",
    "HTTP_X_AMZ_OBJECT_LOCK_LEGAL_HOLD": "s3:PutObjectLegalHold",
}
_KMS_CONTEXT = {
    "SigningAlgorithm": "kms:signingalgorithm",
    "MessageType": "kms:messagetype",
    "EncryptionAlgorithm": "kms:encryptionalgorithm",
}


@dataclass(frozen=True)
class Wish:
    """One thing that a request needs to be allowed: an action on a resource."""

    action: str
    resource: str
    context: dict[str, str] = field(default_factory=dict)
    resource_policy: str | None = None
    """The policy document of the resource, if it has one."""
    needs_both: bool = False
    """KMS: the key's policy must agree, an identity's policy alone does not do."""


@dataclass(frozen=True)
class Caller:
    """A role's session."""

    role: str
    arn: str
    role_arn: str
    session: str
    account: str
    policies: list[dict[str, Any]]
    secret: str = ""
    """The secret key that its requests are signed with."""

    @property
    def names(self) -> frozenset[str]:
        """What a resource's policy may call the session itself."""
        return frozenset({self.arn, self.role_arn})

    @property
    def account_names(self) -> frozenset[str]:
        """What a resource's policy may call the whole account, which leaves the decision to the identity's policies."""
        return frozenset({self.account, f"arn:aws:iam::{self.account}:root"})


def allowed(caller: Caller, wish: Wish) -> bool:
    """Whether a caller may: no deny anywhere, and an allow that counts."""
    context = {
        "aws:securetransport": "true",
        "aws:principalarn": caller.role_arn,
        ACCOUNT_VARIABLE: caller.account,
        "aws:principaltype": "AssumedRole",
        "ec2:sourceinstancearn": f"instance/{caller.session}",
        **wish.context,
    }
    identity = judge(caller.policies, wish.action, wish.resource, context)
    if identity == "deny":
        return False
    if wish.resource_policy is None:
        return identity == "allow"
    given = statements(json.loads(wish.resource_policy))
    direct = judge(given, wish.action, wish.resource, context, caller.names)
    through_account = judge(given, wish.action, wish.resource, context, caller.names | caller.account_names)
    if "deny" in (direct, through_account):
        return False
    if direct == "allow":
        return True
    return identity == "allow" and (not wish.needs_both or through_account == "allow")


class Moto:
    """What is looked up in moto's memory."""

    def __init__(self, account: str, certs: Path | None = None) -> None:
        self._account = account
        self._certs = certs

    def caller(self, access_key: str, token: str) -> Caller:
        """The session that a key belongs to. Raises `Refusal`."""
        from moto.iam.models import iam_backends
        from moto.sts.models import sts_backends

        session = sts_backends[self._account]["aws"].get_assumed_role_from_access_key(access_key)
        if session is None or session.session_token != token:
            raise Refusal("InvalidClientTokenId", "The security token included in the request is invalid.")
        if session.expiration.replace(tzinfo=UTC) <= datetime.now(UTC):
            raise Refusal("ExpiredToken", "The security token included in the request is expired.")
        name = session.role_arn.rpartition("/")[2]
        iam = iam_backends[self._account]["aws"]
        role = iam.get_role(name)
        documents = [iam.get_role_policy(name, policy)[1] for policy in iam.list_role_policies(name)]
        documents += [
            version.document
            for policy in role.managed_policies.values()
            for version in policy.versions
            if version.is_default
        ]
        found = []
        for document in documents:
            found += statements(json.loads(document) if isinstance(document, str) else document)
        return Caller(
            role=name,
            arn=f"arn:aws:sts::{self._account}:assumed-role/{name}/{session.session_name}",
            role_arn=session.role_arn,
            session=session.session_name,
            account=self._account,
            policies=found,
            secret=session.secret_access_key,
        )

    def trust(self, role_arn: str) -> Trust | None:
        """Whom a role trusts; None if this account has no role of that ARN."""
        from moto.iam.models import iam_backends

        roles = iam_backends[self._account]["aws"].roles.values()
        role = next((role for role in roles if role.arn == role_arn), None)
        if role is None:
            return None
        return Trust(json.loads(role.assume_role_policy_document), int(role.max_session_duration or 3600))

    def certs(self) -> dict[str, Any]:
        """The public keys of the sandbox's Google, as it publishes them; none where there is no Google."""
        if self._certs is None or not self._certs.exists():
            return {}
        found: dict[str, Any] = json.loads(self._certs.read_text())
        return found

    def key(self, region: str, identifier: str) -> tuple[str, str] | None:
        """A KMS key's ARN and policy."""
        from moto.kms.models import kms_backends

        backend = kms_backends[self._account][region]
        try:
            key = backend.describe_key(identifier)
        except Exception:  # moto has several errors for an id that it does not know
            return None
        return key.arn, key.policy

    def bucket(self, name: str) -> Any:
        """A bucket, None if there is none."""
        from moto.s3.models import s3_backends

        return s3_backends[self._account]["aws"].buckets.get(name)


def bucket_key(bucket: Any) -> str | None:
    """The KMS key that a bucket's objects are encrypted with by default."""
    rule = (bucket.encryption or {}).get("Rule", {})
    if isinstance(rule, list):
        rule = rule[0] if rule else {}
    default = rule.get("ApplyServerSideEncryptionByDefault", {})
    key = default.get("KMSMasterKeyID")
    return str(key) if default.get("SSEAlgorithm") == "aws:kms" and key else None


def kms_wishes(
    moto: Moto, region: str, target: str, body: dict[str, Any], context: dict[str, str]
) -> list[Wish]:
    """What a request to KMS needs. `target` is the operation's name."""
    extra = {key: str(body[name]) for name, key in _KMS_CONTEXT.items() if name in body}
    found = moto.key(region, str(body.get("KeyId", "")))
    if found is None:
        return [Wish(f"kms:{target}", "*", context | extra)]
    return [Wish(f"kms:{target}", found[0], context | extra, found[1], needs_both=True)]


def s3_wishes(moto: Moto, environment: dict[str, Any], region: str) -> list[Wish]:
    """What a request to S3 needs: the action itself, and the use of the key that the object is encrypted with."""
    host = _host(environment)
    path = urllib.parse.unquote(environment.get("PATH_INFO", "/")).lstrip("/")
    match = _BUCKET_HOST.match(host)
    name, key = (match["bucket"], path) if match else (path.partition("/")[0], path.partition("/")[2])
    query = urllib.parse.parse_qs(environment.get("QUERY_STRING", ""), keep_blank_values=True)
    method = environment["REQUEST_METHOD"]
    if not name:
        return [Wish("s3:ListAllMyBuckets", "*")]
    bucket = moto.bucket(name)
    policy = bucket.policy.decode() if bucket is not None and bucket.policy else None
    arn = f"arn:aws:s3:::{name}"
    if not key:
        context = {"s3:prefix": query["prefix"][0]} if "prefix" in query else {}
        return [Wish(_bucket_action(method, query), arn, context, policy)]
    wishes = [Wish(_object_action(method, query), f"{arn}/{key}", {}, policy)]
    if source := environment.get("HTTP_X_AMZ_COPY_SOURCE"):
        wishes.append(
            Wish("s3:GetObject", f"arn:aws:s3:::{urllib.parse.unquote(source).lstrip('/')}", {}, None)
        )
    if wishes[0].action == "s3:PutObject":
        # What an upload says of its own lock needs the permission to set it.
        wishes += [
            Wish(action, f"{arn}/{key}", {}, policy)
            for header, action in _LOCK_HEADERS.items()
            if header in environment
        ]
    if "HTTP_X_AMZ_BYPASS_GOVERNANCE_RETENTION" in environment:
        wishes.append(Wish("s3:BypassGovernanceRetention", f"{arn}/{key}", {}, policy))
    if wishes[0].action == "s3:GetObject" and not _has_object(bucket, key):
        # Who may not list is not told that an object is missing.
        wishes.append(Wish("s3:ListBucket", arn, {}, policy))
    used = environment.get("HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION_AWS_KMS_KEY_ID") or (
        bucket and bucket_key(bucket)
    )
    operation = {"s3:PutObject": "GenerateDataKey", "s3:GetObject": "Decrypt"}.get(wishes[0].action)
    # A look at an object's head (HEAD) decrypts nothing, nor does reading what is not there.
    if used and operation and method != "HEAD" and (method != "GET" or _has_object(bucket, key)):
        via = {"kms:viaservice": f"s3.{region}.amazonaws.com"}
        wishes += kms_wishes(moto, region, operation, {"KeyId": used}, via)
    return wishes


def _has_object(bucket: Any, key: str) -> bool:
    from moto.s3.models import FakeDeleteMarker

    found = bucket.keys.get(key) if bucket is not None else None
    return found is not None and not isinstance(found, FakeDeleteMarker)


def _object_action(method: str, query: dict[str, list[str]]) -> str:
    setting = next((name for parameter, name in _OBJECT_SETTINGS.items() if parameter in query), "")
    version = "Version" if "versionId" in query else ""
    verb = {"GET": "Get", "HEAD": "Get", "PUT": "Put", "POST": "Put", "DELETE": "Delete"}.get(method, "Other")
    return f"s3:{verb}Object{version if verb != 'Put' else ''}{setting}"


def _bucket_action(method: str, query: dict[str, list[str]]) -> str:
    if method == "POST" and "delete" in query:
        # Every object in the list would have to be judged; nodes delete one by one.
        return "s3:DeleteObjects"
    if "versions" in query:
        return "s3:ListBucketVersions"
    listing = {
        "list-type",
        "prefix",
        "delimiter",
        "marker",
        "max-keys",
        "encoding-type",
        "start-after",
        "continuation-token",
    }
    settings = sorted(query.keys() - listing)
    if method in {"GET", "HEAD"} and not settings:
        return "s3:ListBucket"
    verb = {"GET": "Get", "HEAD": "Get", "PUT": "Put", "DELETE": "Delete"}.get(method, "Other")
    return f"s3:{verb}Bucket{settings[0].capitalize() if settings else ''}"


def wishes_of(moto: Moto, environment: dict[str, Any], service: str, region: str) -> list[Wish]:
    """What a request needs to be allowed; empty for what everybody may."""
    if service == "s3":
        return s3_wishes(moto, environment, region)
    body = _body(environment)
    target = environment.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
    if service == "kms":
        return kms_wishes(moto, region, target, json.loads(body or b"{}"), {})
    action = target or _parameters(environment, body).get("Action", "Unknown")
    if (service, action) == ("sts", "GetCallerIdentity"):
        return []
    return [Wish(f"{service}:{action}", "*")]


def _host(environment: dict[str, Any]) -> str:
    host: str = environment.get("HTTP_HOST", "").partition(":")[0]
    return host


def _parameters(environment: dict[str, Any], body: bytes) -> dict[str, str]:
    """The parameters of a request to one of the services with forms."""
    text = environment.get("QUERY_STRING", "") + "&" + body.decode(errors="replace")
    return {name: values[0] for name, values in urllib.parse.parse_qs(text).items()}


def _check_signature(environment: dict[str, Any], caller: Caller) -> None:
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
        for name, value in environment.items()
        if name.startswith("HTTP_") or name == "CONTENT_TYPE"
    }
    try:
        sigv4.check(
            method=environment["REQUEST_METHOD"],
            path=urllib.parse.quote(environment.get("PATH_INFO", "/")),
            query=environment.get("QUERY_STRING", ""),
            headers=headers,
            body=_body(environment),
            secret=caller.secret,
        )
    except sigv4.BadSignature as error:
        raise Refusal("SignatureDoesNotMatch", str(error)) from error


def _by_web_identity(environment: dict[str, Any], moto: Moto) -> bool:
    """Whether a request without keys is one that a token of Google's lets through. Raises `Refusal` for a bad one."""
    parameters = _parameters(environment, _body(environment))
    if parameters.get("Action") != "AssumeRoleWithWebIdentity":
        return False
    federation.check(parameters, moto.trust(parameters.get("RoleArn", "")), moto.certs())
    return True


def _body(environment: dict[str, Any]) -> bytes:
    """The request's body, left in place for moto."""
    length = int(environment.get("CONTENT_LENGTH") or 0)
    data: bytes = environment["wsgi.input"].read(length) if length else b""
    environment["wsgi.input"] = io.BytesIO(data)
    return data


def authorised(application: Wsgi, moto: Moto) -> Wsgi:
    """The application, for callers that are roles' sessions and may do what they ask for."""

    def serve(environment: dict[str, Any], start: Any) -> Iterable[bytes]:
        match = _CREDENTIAL.search(environment.get("HTTP_AUTHORIZATION", ""))
        service = match[3] if match else "s3"
        try:
            if match is None:
                service = "sts" if _STS_HOST.fullmatch(_host(environment)) else service
                if service == "sts" and _by_web_identity(environment, moto):
                    return application(environment, start)
                raise Refusal("MissingAuthenticationToken", "Request is missing Authentication Token")
            caller = moto.caller(match[1], environment.get("HTTP_X_AMZ_SECURITY_TOKEN", ""))
            if service == "sts":
                _check_signature(environment, caller)
            for wish in wishes_of(moto, environment, service, match[2]):
                if not allowed(caller, wish):
                    raise Refusal(
                        "AccessDenied" if service != "kms" else "AccessDeniedException",
                        f"User: {caller.arn} is not authorized to perform: {wish.action} on resource: {wish.resource}",
                    )
        except Refusal as refusal:
            return _answer(refusal, service, start, environment["REQUEST_METHOD"] == "HEAD")
        return application(environment, start)

    return serve


_MALFORMED = frozenset({"ExpiredTokenException", "InvalidIdentityToken", "ValidationError"})


def _answer(refusal: Refusal, service: str, start: Any, head: bool) -> Iterable[bytes]:
    if service in {"kms", "logs", "dynamodb", "secretsmanager", "ssm"}:
        status, kind = "400 Bad Request", "application/x-amz-json-1.1"
        body = json.dumps({"__type": refusal.code, "message": str(refusal)})
    else:
        status = "400 Bad Request" if refusal.code in _MALFORMED else "403 Forbidden"
        kind = "application/xml"
        body = f"<Error><Code>{refusal.code}</Code><Message>{escape(str(refusal))}</Message></Error>"
        if service != "s3":
            body = f"<ErrorResponse>{body}</ErrorResponse>"
    data = b"" if head else body.encode()
    start(status, [("Content-Type", kind), ("Content-Length", str(len(data)))])
    return [data]
