"""What the tests of the sandbox's Google APIs share: a client that speaks to the app without a socket."""

import base64
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from mailinfra.sandbox.gcp.api import GoogleApis
from mailinfra.sandbox.gcp.http import ApiError, Request, Response

PROJECT = "sandbox-project"
LOCATION = f"/v1/projects/{PROJECT}/locations/europe-west3"


@dataclass
class Client:
    """Calls the APIs with one bearer token."""

    apis: GoogleApis
    token: str

    def send(self, method: str, url: str, body: Any = None, **headers: str) -> Response:
        """The whole answer. Raises ApiError."""
        parts = urlsplit(url)
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        bearer = {"authorization": f"Bearer {self.token}"}
        return self.apis(Request(method, parts.path, query, bearer | named, data))

    def __call__(self, method: str, url: str, body: Any = None, **headers: str) -> dict[str, Any]:
        """The JSON answer. Raises ApiError."""
        answer = self.send(method, url, body, **headers).body
        assert isinstance(answer, dict)
        return answer

    def code(self, method: str, url: str, body: Any = None) -> int:
        """The status, also of an error."""
        try:
            return self.send(method, url, body).status
        except ApiError as error:
            return error.code


def operator(apis: GoogleApis) -> Client:
    """Who may do everything."""
    return Client(apis, apis.identity.operator_token)


def account(apis: GoogleApis, name: str) -> tuple[str, Client]:
    """A new service account: its member name, and a client with its token."""
    made = operator(apis)("POST", f"/v1/projects/{PROJECT}/serviceAccounts", {"accountId": name})
    token = apis.identity.issue(made["email"])["access_token"]
    return f"serviceAccount:{made['email']}", Client(apis, token)


def grant(apis: GoogleApis, resource: str, role: str, member: str, expression: str = "") -> None:
    """Adds a binding to the policy of a resource of Cloud KMS or a project (its path after /v1/)."""
    client = operator(apis)
    policy = client("GET", f"/v1/{resource}:getIamPolicy")
    policy["bindings"].append(binding(role, member, expression))
    client("POST", f"/v1/{resource}:setIamPolicy", {"policy": policy})


def binding(role: str, member: str, expression: str = "") -> dict[str, Any]:
    """A binding of one member."""
    made: dict[str, Any] = {"role": role, "members": [member]}
    if expression:
        made["condition"] = {"title": "condition", "expression": expression}
    return made


def crypto_key(apis: GoogleApis, name: str, **fields: Any) -> str:
    """A new key in the ring `ring`, which is made at need; the key's name."""
    client = operator(apis)
    if client.code("GET", f"{LOCATION}/keyRings/ring") == 404:
        client("POST", f"{LOCATION}/keyRings?keyRingId=ring", {})
    body = {"purpose": "ENCRYPT_DECRYPT", **fields}
    made: str = client("POST", f"{LOCATION}/keyRings/ring/cryptoKeys?cryptoKeyId={name}", body)["name"]
    return made


def b64(data: bytes) -> str:
    """Base64 text."""
    return base64.b64encode(data).decode()
