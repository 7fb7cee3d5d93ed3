"""Google Cloud's REST APIs with the instance's own service account; the token comes from the metadata server."""

import json
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

METADATA = "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token"
SPARE_SECONDS = 300
"""How long before its end a token is no longer used."""


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


class Token(ABC):
    """An identity's access token, asked for again before it ends."""

    def __init__(self) -> None:
        self.text, self.end = "", 0.0

    @abstractmethod
    def request(self) -> urllib.request.Request:
        """What is asked for a new one."""

    def get(self) -> str:
        """The token. Raises `ApiError`."""
        if time.monotonic() >= self.end:
            answer = fetch(self.request()).json()
            self.text = answer["access_token"]
            self.end = time.monotonic() + max(float(answer["expires_in"]) - SPARE_SECONDS, 10.0)
        return self.text


class InstanceToken(Token):
    """The token of the instance's own service account."""

    def request(self) -> urllib.request.Request:
        """Asks the metadata server."""
        return urllib.request.Request(METADATA, headers={"Metadata-Flavor": "Google"})


TOKEN = InstanceToken()


def call(
    method: str,
    url: str,
    data: bytes | None = None,
    content_type: str = "application/json",
    *,
    token: Token | None = None,
    more: Mapping[str, str] | None = None,
) -> Answer:
    """Call an API, as the instance's service account unless a `token` is given. Raises `ApiError`."""
    headers = {"Authorization": f"Bearer {(token or TOKEN).get()}", **(more or {})} | (
        {"Content-Type": content_type} if data is not None else {}
    )
    return fetch(urllib.request.Request(url, data, headers, method=method))  # noqa: S310
