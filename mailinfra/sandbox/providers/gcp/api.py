"""The provider's side of the sandbox's Google APIs (`mailinfra.sandbox.gcp`), over HTTP on loopback."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.values import Object

_TIMEOUT = 300.0
"""Seconds; a 4096-bit RSA key takes some, and a server's end waits for its shutdown."""


class GoogleError(ProviderError):
    """An error that an API answered, worded as Google's Go client words it."""

    def __init__(self, code: int, message: str, reason: str) -> None:
        super().__init__(f"googleapi: Error {code}: {message}, {reason}")
        self.code = code
        self.reason = reason


class GoogleApi:
    """Calls as the operator. `url` and `token` are what `gcp.endpoint` of the control socket answers."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """The JSON answer of a call; a body of bytes goes as it is. Raises GoogleError."""
        text = self.raw(method, path, body, query, content_type)
        answer: Object = json.loads(text) if text else {}
        return answer

    def raw(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """The answer's bytes. Raises GoogleError, and ProviderError when the sandbox is gone."""
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        url = f"{self._url}{path}" + (f"?{urlencode(query)}" if query else "")
        request = urllib.request.Request(url, data, method=method)  # noqa: S310 - a fixed scheme, loopback
        request.add_header("Authorization", f"Bearer {self._token}")
        if data is not None:
            request.add_header("Content-Type", content_type)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
                read: bytes = answer.read()
                return read
        except urllib.error.HTTPError as error:
            with error:
                raise _google_error(error.code, error.read()) from None
        except urllib.error.URLError as error:
            raise ProviderError(
                f"the sandbox's Google APIs at {self._url} do not answer ({error.reason}): is the sandbox up?"
            ) from error

    def find(self, path: str, query: Mapping[str, str] | None = None) -> Object | None:
        """What is at a path; None if nothing is."""
        try:
            return self.call("GET", path, query=query)
        except GoogleError as error:
            if error.code == 404:
                return None
            raise


def _google_error(code: int, body: bytes) -> GoogleError:
    try:
        error = json.loads(body)["error"]
        return GoogleError(code, error["message"], error["errors"][0]["reason"])
    except (ValueError, KeyError, IndexError, TypeError):
        return GoogleError(code, body.decode(errors="replace")[:200] or "no message", "unknown")


def segment(text: str) -> str:
    """Text as one segment of a path."""
    return quote(text, safe="")
