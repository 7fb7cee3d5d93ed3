"""Google Cloud's REST APIs with the instance's own service account; the token comes from the metadata server."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

METADATA = "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token"


class ApiError(Exception):
    """The API refused, or gave no answer (status 0)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status


@dataclass(frozen=True)
class Answer:
    """An answer with a status of 2xx."""

    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def fetch(request: urllib.request.Request) -> Answer:
    """Do one request. Raises `ApiError`."""
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - the URLs are ours
            return Answer(answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            raise ApiError(error.code, error.read(500).decode(errors="replace")) from error
    except OSError as error:
        raise ApiError(0, f"{request.full_url}: {error}") from error


class Token:
    """The access token of the instance's service account, asked for again a minute before it ends."""

    def __init__(self) -> None:
        self.text, self.end = "", 0.0

    def get(self) -> str:
        """The token. Raises `ApiError`."""
        if time.monotonic() >= self.end:
            data = fetch(urllib.request.Request(METADATA, headers={"Metadata-Flavor": "Google"})).json()
            self.text, self.end = data["access_token"], time.monotonic() + data["expires_in"] - 60
        return self.text


TOKEN = Token()


class TokenSource(Protocol):
    """Whose access token it is: the instance's service account's, or another identity's."""

    def get(self) -> str:
        """The token. Raises `ApiError`."""
        ...


def call(
    method: str,
    url: str,
    data: bytes | None = None,
    content_type: str = "application/json",
    *,
    token: TokenSource | None = None,
    more: Mapping[str, str] | None = None,
) -> Answer:
    """Call an API, as the instance's service account unless a `token` is given. Raises `ApiError`."""
    headers = {"Authorization": f"Bearer {(token or TOKEN).get()}", **(more or {})} | (
        {"Content-Type": content_type} if data is not None else {}
    )
    return fetch(urllib.request.Request(url, data, headers, method=method))  # noqa: S310
