"""AssumeRoleWithWebIdentity: a token that Google signed becomes a session of a role that trusts it.

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html; what Google's claims are called
in a trust policy: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mailinfra.sandbox.aws.policy import judge, statements
from mailinfra.sandbox.web_identity import TokenError, verify

ACTION = "sts:AssumeRoleWithWebIdentity"
GOOGLE = "accounts.google.com"
"""The one provider of identities that IAM knows here."""


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """The request is answered with an error of the service."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Trust:
    """Whom a role trusts, and how long a session of it may be (seconds)."""

    document: Mapping[str, Any]
    seconds: int


def check(parameters: Mapping[str, str], trust: Trust | None, certs: Mapping[str, Any]) -> None:
    """Raises Refusal unless the request's token is one of Google's and the role (None: there is none of that ARN)
    trusts whoever bears it. `certs` are Google's public keys."""
    missing = [
        name for name in ("RoleArn", "RoleSessionName", "WebIdentityToken") if not parameters.get(name)
    ]
    if missing:
        raise Refusal("ValidationError", f"Missing: {', '.join(missing)}")
    if any(name.startswith(("Policy", "ProviderId")) for name in parameters):
        raise Refusal("ValidationError", "The sandbox has neither session policies nor OAuth 2.0 providers")
    try:
        claims = verify(parameters["WebIdentityToken"], certs)
    except TokenError as error:
        code = "ExpiredTokenException" if error.expired else "InvalidIdentityToken"
        raise Refusal(code, str(error)) from error
    if trust is None or not _trusted(trust, claims, parameters["RoleSessionName"]):
        # One answer for both: who is not trusted is not told which roles there are.
        raise Refusal("AccessDenied", f"Not authorized to perform {ACTION}")
    duration = parameters.get("DurationSeconds", "3600")
    if not duration.isdigit() or not 900 <= int(duration) <= trust.seconds:
        raise Refusal(
            "ValidationError", f"DurationSeconds: found {duration}; allowed: 900 to {trust.seconds}"
        )


def _trusted(trust: Trust, claims: Mapping[str, Any], session: str) -> bool:
    audience = str(claims.get("aud", ""))
    context = {
        # To IAM the audience is whom the token was made for by whom: `azp`, where Google says one.
        f"{GOOGLE}:aud": str(claims.get("azp") or audience),
        f"{GOOGLE}:oaud": audience,
        f"{GOOGLE}:sub": str(claims.get("sub", "")),
        "aws:federatedprovider": GOOGLE,
        "sts:rolesessionname": session,
    }
    return judge(statements(trust.document), ACTION, "*", context, frozenset({GOOGLE})) == "allow"
