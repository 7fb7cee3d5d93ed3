"""Checks the signature of a request to AWS (Signature Version 4, in the Authorization header).

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote

SKEW_SECONDS = 900
"""How far a request's date may be from now."""
_HEADER = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<key>[^/,\s]+)/(?P<scope>(?P<day>\d{8})/[^/]+/[^/]+/aws4_request), *"
    r"SignedHeaders=(?P<names>[a-z0-9;-]+), *Signature=(?P<signature>[0-9a-f]{64})"
)


class BadSignature(Exception):  # noqa: N818 - an answer, not a failure
    """The request is not the one that the key's owner signed, or not now."""


def check(
    *,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    secret: str,
    now: datetime | None = None,
) -> None:
    """Raises BadSignature unless `secret` signed this request, not long ago. `headers` have lower-case names, `path` is
    percent-encoded as sent."""
    found = _HEADER.fullmatch(headers.get("authorization", "").strip())
    date = headers.get("x-amz-date", "")
    if found is None:
        raise BadSignature("the Authorization header is not of Signature Version 4")
    names = found["names"].split(";")
    unsigned = {"host", "x-amz-date"} - set(names)
    if unsigned or any(name not in headers for name in names):
        raise BadSignature("SignedHeaders must have host and x-amz-date, and only what is sent")
    try:
        sent = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise BadSignature("x-amz-date is no date") from error
    if abs(((now or datetime.now(UTC)) - sent).total_seconds()) > SKEW_SECONDS or date[:8] != found["day"]:
        raise BadSignature(f"Signature expired: {date} is not within {SKEW_SECONDS // 60} minutes of now")
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(query, keep_blank_values=True)
    )
    canonical = "\n".join(
        [
            method,
            path or "/",
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{' '.join(headers[name].split())}" for name in names),
            "",
            found["names"],
            hashlib.sha256(body).hexdigest(),
        ]
    )
    text = "\n".join(
        ["AWS4-HMAC-SHA256", date, found["scope"], hashlib.sha256(canonical.encode()).hexdigest()]
    )
    key = f"AWS4{secret}".encode()
    for part in found["scope"].split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    if not hmac.compare_digest(hmac.new(key, text.encode(), "sha256").hexdigest(), found["signature"]):
        raise BadSignature("The request signature we calculated does not match the signature you provided.")
