"""What a node does to prove at the other cloud who it is, with plain HTTP."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

STS_HOST = "sts.eu-central-1.amazonaws.com"
CALLER = "Action=GetCallerIdentity&Version=2011-06-15"
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"


def proof(
    keys: Mapping[str, str],
    audience: str,
    *,
    host: str = STS_HOST,
    query: str = CALLER,
    sign_target: bool = True,
) -> dict[str, Any]:
    """A signed GetCallerIdentity as Google's STS takes it, before it is serialised. `keys` as AWS STS answers them."""
    target = {"x-goog-cloud-target-resource": audience}
    request = AWSRequest("POST", f"https://{host}/?{query}", headers={"host": host})
    if sign_target:
        request.headers["x-goog-cloud-target-resource"] = audience
    credentials = Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    SigV4Auth(credentials, "sts", "eu-central-1").add_auth(request)
    headers = {**dict(request.headers.items()), **target}
    return {
        "url": request.url,
        "method": "POST",
        "headers": [{"key": name, "value": value} for name, value in headers.items()],
    }


def exchange_form(audience: str, proven: Mapping[str, Any], **other: str) -> dict[str, str]:
    """The fields of an exchange at Google's STS."""
    return {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": audience,
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "requested_token_type": TOKEN_TYPE,
        "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
        "subject_token": quote(json.dumps(proven)),
        **other,
    }


@dataclass(frozen=True)
class Answer:
    """Status, body, headers."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def send(
    base: str, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> Answer:
    """One request to a server on the loopback interface."""
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=30)
    try:
        connection.request(method, target, body, dict(headers or {}))
        answer = connection.getresponse()
        return Answer(answer.status, answer.read())
    finally:
        connection.close()


def exchange(google: str, audience: str, proven: Mapping[str, Any], **other: str) -> Answer:
    """The answer of Google's STS at `google` to a proof."""
    form = urlencode(exchange_form(audience, proven, **other)).encode()
    kind = {"content-type": "application/x-www-form-urlencoded"}
    return send(google, "POST", "/v1/token", form, kind)


def assume(aws: str, role: str, token: str, **other: str) -> Answer:
    """The answer of AWS STS at `aws` to AssumeRoleWithWebIdentity."""
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": role,
        "RoleSessionName": "store-1",
        "WebIdentityToken": token,
        **other,
    }
    # As the sandbox's DNS names it for its machines.
    headers = {"content-type": "application/x-www-form-urlencoded", "host": "sts.eu-central-1.aws.test"}
    return send(aws, "POST", "/", urlencode(form).encode(), headers)
