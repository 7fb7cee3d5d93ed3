"""Workload identity federation: a role's session at AWS becomes a principal at Google, with no key of Google's.

A workload identity pool's provider of kind AWS says which account is believed, under which condition, and what of the
caller becomes attributes. The token exchange of Google's STS takes a signed `GetCallerIdentity` for proof: it has AWS
answer it. What a pool or provider does beside that (other kinds of providers, disabling, undeleting) is refused. The id
of one that was deleted cannot be used again for 30 days.

https://cloud.google.com/iam/docs/workload-identity-federation-with-other-clouds
https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import cel

from mailinfra.sandbox.gcp.http import ApiError, Request, Response
from mailinfra.sandbox.gcp.identity import Identity, extract, project_number
from mailinfra.sandbox.gcp.resources import Kind
from mailinfra.sandbox.gcp.store import Document, Store, from_timestamp, now, timestamp

POOL: Final = "workloadIdentityPool"
PROVIDER: Final = "workloadIdentityPoolProvider"
EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a type (RFC 8693 3)
AWS_REQUEST: Final = "urn:ietf:params:aws:token-type:aws4_request"
SUBJECT_BYTES: Final = 127
"""The longest `google.subject`."""
KEPT: Final = timedelta(days=30)
"""How long the id of a deleted pool or provider is kept from reuse."""
_DELETED: Final = "deletedWorkloadIdentity"
_ID = re.compile(r"(?!gcp-)[a-z0-9-]{4,32}")
_STS = re.compile(r"sts(?:\.(?P<region>[a-z]{2}(?:-[a-z]+)+-\d))?\.(?:amazonaws\.com|aws\.test)")
_TARGET = "x-goog-cloud-target-resource"

Aws = Callable[[str, str, Mapping[str, str]], Mapping[str, str] | None]
"""Has AWS answer a signed `GetCallerIdentity` (method, path with query, headers): its `account`, `arn` and `userid`,
None where AWS refuses it."""


class Refused(Exception):  # noqa: N818 - an answer, not a failure
    """The exchange is refused; worded as RFC 6749 5.2 has it."""

    def __init__(self, reason: str, error: str = "invalid_grant") -> None:
        super().__init__(reason)
        self.error = error


@dataclass(frozen=True)
class Proof:
    """A signed request that its bearer lets others send."""

    host: str
    method: str
    path: str
    headers: Mapping[str, str]


class _Kept(Kind):
    """What is not gone at once: its id is kept for a while after its deletion."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def free(self, name: str, before: Document | None) -> None:
        """Raises ApiError where a new one would have the id of one that was deleted."""
        kept = self._store.get(_DELETED, name) if before is None else None
        if kept and now() < from_timestamp(kept["expireTime"]):
            raise ApiError(
                409,
                f"Requested entity already exists: {name} was deleted, and keeps its id until "
                f"{kept['expireTime']}; undelete it, or take another id",
                reason="alreadyExists",
            )

    def remove(self, name: str, document: Document) -> None:
        self._store.put(_DELETED, name, {"expireTime": timestamp(now() + KEPT)})


class Pool(_Kept):
    """A workload identity pool."""

    def plan(self, name: str, inputs: Document, before: Document | None) -> Document:
        self.free(name, before)
        _supported(name, inputs, inputs.get("workloadIdentityPoolId"))
        return {"name": _numbered(name), "state": "ACTIVE", "project": name.split("/")[1]}

    def user(self, name: str, document: Document) -> str | None:
        return next((provider for provider, _ in self._store.list(PROVIDER, f"{name}/")), None)


class Provider(_Kept):
    """A provider of a pool: whom the pool believes."""

    def plan(self, name: str, inputs: Document, before: Document | None) -> Document:
        self.free(name, before)
        _supported(name, inputs, inputs.get("workloadIdentityPoolProviderId"))
        pool = name.partition("/providers/")[0]
        if self._store.get(POOL, pool) is None:
            raise ApiError(404, f"The resource '{pool}' was not found", reason="notFound")
        if not re.fullmatch(r"\d{12}", (inputs.get("aws") or {}).get("accountId", "")):
            raise ApiError(400, "aws.accountId: 12 digits (the sandbox has providers of kind AWS only)")
        mapping = inputs.get("attributeMapping") or {}
        if "google.subject" not in mapping:
            raise ApiError(400, "attributeMapping: google.subject is required")
        for key in mapping:
            if key != "google.subject" and not re.fullmatch(r"attribute\.[a-z0-9_]{1,100}", key):
                raise ApiError(400, f"attributeMapping: {key}: google.subject or attribute.NAME")
        for expression in (*mapping.values(), inputs.get("attributeCondition") or "true"):
            try:
                cel.compile(expression)
            except ValueError as error:
                raise ApiError(400, f"{expression!r} is no CEL: {error}") from error
        return {"name": _numbered(name), "state": "ACTIVE", "project": name.split("/")[1]}


def _supported(name: str, inputs: Document, identifier: object) -> None:
    if not isinstance(identifier, str) or not _ID.fullmatch(identifier):
        raise ApiError(
            400, f"{name}: 4 to 32 lower-case letters, digits and hyphens, and not Google's own prefix gcp-"
        )
    if inputs.get("disabled") or inputs.get("mode") not in (None, "FEDERATION_ONLY"):
        raise ApiError(400, f"{name}: the sandbox has pools and providers for federation only, enabled")


def _numbered(name: str) -> str:
    """The name with the project's number in place of its id, as the service answers it."""
    _, project, rest = name.split("/", 2)
    return f"projects/{project_number(project)}/{rest}"


class Exchange:
    """`sts.googleapis.com/v1/token`."""

    def __init__(self, store: Store, identity: Identity, aws: Aws) -> None:
        self._store = store
        self._identity = identity
        self._aws = aws

    def __call__(self, request: Request) -> Response:
        """The answer to an exchange."""
        try:
            fields = _fields(request)
            expected = {
                "grant_type": EXCHANGE,
                "requested_token_type": ACCESS_TOKEN,
                "subject_token_type": AWS_REQUEST,
            }
            for name, value in expected.items():
                if fields.get(name) != value:
                    raise Refused(f"{name}: allowed: {value}", "invalid_request")
            if "https://www.googleapis.com/auth/cloud-platform" not in fields.get("scope", "").split():
                raise Refused(
                    "scope: allowed: https://www.googleapis.com/auth/cloud-platform", "invalid_scope"
                )
            principal, names = self._principal(
                fields.get("audience", ""), _proof(fields.get("subject_token", ""))
            )
        except Refused as error:
            return Response({"error": error.error, "error_description": str(error)}, 400)
        token, seconds = self._identity.issue_federated(principal, names)
        return Response(
            {
                "access_token": token,
                "issued_token_type": ACCESS_TOKEN,
                "token_type": "Bearer",
                "expires_in": seconds,
            }
        )

    def _principal(self, audience: str, proof: Proof) -> tuple[str, list[str]]:
        """The principal that a proof makes of its bearer, and every name that a policy may call it by."""
        provider = self._provider(audience)
        if proof.headers.get(_TARGET) != audience or _TARGET not in _signed(proof):
            # Else a proof that was made for one who trusts AWS would serve every other one.
            raise Refused(f"the signed header {_TARGET} must be the audience")
        if (
            not _STS.fullmatch(proof.host)
            or proof.headers.get("host") != proof.host
            or proof.method != "POST"
        ):
            raise Refused("the subject token is no POST to AWS's STS")
        url = urlsplit(proof.path)
        if url.path not in ("", "/") or dict(parse_qsl(url.query)) != {
            "Action": "GetCallerIdentity",
            "Version": "2011-06-15",
        }:
            raise Refused("the subject token is no GetCallerIdentity")
        signed = {*_signed(proof), "authorization"}
        if any(not name.startswith(("x-amz-", "x-goog-")) for name in signed - {"authorization", "host"}):
            raise Refused("the subject token signs headers that its kind of request has not")
        caller = self._aws(
            proof.method, f"/?{url.query}", {k: v for k, v in proof.headers.items() if k in signed}
        )
        if caller is None:
            raise Refused("AWS refuses the subject token")
        if caller["account"] != provider["inputs"]["aws"]["accountId"]:
            raise Refused("the AWS account is not the provider's")
        subject, attributes = _mapped(provider["inputs"], caller)
        pool = provider["outputs"]["name"].partition("/providers/")[0]
        base = f"//iam.googleapis.com/{pool}"
        sets = [f"principalSet:{base}/attribute.{name}/{value}" for name, value in attributes.items()]
        principal = f"principal:{base}/subject/{subject}"
        return principal, [principal, *sets, f"principalSet:{base}/*"]

    def _provider(self, audience: str) -> Document:
        for _, document in self._store.list(PROVIDER):
            if audience == f"//iam.googleapis.com/{document['outputs']['name']}":
                return document
        raise Refused("the audience is no provider of a workload identity pool", "invalid_target")


def _fields(request: Request) -> Mapping[str, str]:
    """The exchange's fields, from a form (RFC 8693) or JSON (Google's own, with names in camelCase)."""
    if request.headers.get("content-type", "").startswith("application/json"):
        return {re.sub("[A-Z]", lambda m: f"_{m[0].lower()}", k): str(v) for k, v in request.json().items()}
    return dict(parse_qsl(request.body.decode(errors="replace")))


def _proof(subject_token: str) -> Proof:
    """The signed request inside a subject token: JSON, percent-encoded. Raises Refused."""
    try:
        found = json.loads(unquote(subject_token))
        headers = {str(item["key"]).lower(): str(item["value"]) for item in found["headers"]}
        url = urlsplit(found["url"])
        method = found["method"]
    except (ValueError, TypeError, KeyError) as error:
        raise Refused("the subject token is no serialised request") from error
    if url.scheme != "https" or not isinstance(method, str):
        raise Refused("the subject token is no request over https")
    return Proof(url.netloc, method, f"{url.path}?{url.query}", headers)


def _signed(proof: Proof) -> list[str]:
    match = re.search(r"SignedHeaders=([a-z0-9;-]+)", proof.headers.get("authorization", ""))
    return match[1].split(";") if match else []


def _mapped(inputs: Document, caller: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Subject and attributes of a caller. Raises Refused where the condition does not let it in."""
    assertion = {"account": caller["account"], "arn": caller["arn"], "userid": caller["userid"]}
    found: dict[str, str] = {}
    for name, expression in inputs["attributeMapping"].items():
        value = _evaluated(expression, {"assertion": assertion})
        if not isinstance(value, str):
            raise Refused(f"the mapping of {name} gives no text")
        found[name] = value
    subject = found.pop("google.subject")
    if not subject or len(subject.encode()) > SUBJECT_BYTES:
        raise Refused(f"google.subject: 1 to {SUBJECT_BYTES} bytes")
    attributes = {name.removeprefix("attribute."): value for name, value in found.items() if value}
    variables = {"assertion": assertion, "google": {"subject": subject}, "attribute": attributes}
    if _evaluated(inputs.get("attributeCondition") or "true", variables) is not True:
        raise Refused("The given credential is rejected by the attribute condition.", "unauthorized_client")
    return subject, attributes


def _evaluated(expression: str, variables: Mapping[str, Any]) -> Any:
    context = cel.Context()
    for name, value in variables.items():
        context.add_variable(name, value)
    context.add_function("extract", extract)
    try:
        return cel.compile(expression).execute(context)
    except (ValueError, RuntimeError, TypeError, LookupError, ArithmeticError) as error:
        raise Refused(f"{expression!r} cannot be evaluated: {error}") from error
