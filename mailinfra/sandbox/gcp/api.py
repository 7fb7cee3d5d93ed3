"""All of the sandbox's Google APIs as one app: who calls is found out first, then the path decides."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from mailinfra.sandbox.gcp.hsm import Hsm
from mailinfra.sandbox.gcp.http import Request, Response, Router
from mailinfra.sandbox.gcp.identity import Identity, token_info
from mailinfra.sandbox.gcp.kms import Kms
from mailinfra.sandbox.gcp.resources import Resources
from mailinfra.sandbox.gcp.storage import Storage
from mailinfra.sandbox.gcp.store import Document, Store

HOSTS = ("cloudkms", "storage", "oauth2", "iam", "cloudresourcemanager", "www")
"""The APIs' names below `googleapis.test`."""


class Routed(Protocol):
    """An API."""

    def routes(self, router: Router) -> None:
        """Adds its paths."""


class GoogleApis:
    """Cloud KMS, Cloud Storage and IAM over one store and one token in `folder`. Paths tell the APIs apart."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.store = Store(folder / "resources.sqlite")
        self.hsm = Hsm(folder / "hsm")
        self.identity = Identity(self.store, folder / "operator.token")
        self.kms = Kms(self.store, self.hsm, self.identity)
        self.storage = Storage(self.store, folder / "objects", self.identity, self.kms)
        self.resources = Resources(self.store)
        self._open: dict[str, Callable[[Request], Document]] = {"/tokeninfo": token_info(self.identity)}
        self._router = Router()
        for part in (self.kms, self.storage, self.identity, self.resources):
            part.routes(self._router)
        self.kms.sweep()

    def __call__(self, request: Request) -> Response:
        """Answers a request. Raises ApiError."""
        if request.path in self._open:
            return Response(self._open[request.path](request))
        return self._router.handle(replace(request, principal=self.identity.principal(request.headers)))

    def add(self, part: Routed) -> None:
        """Makes another API known."""
        part.routes(self._router)

    def close(self) -> None:
        """Ends the token's sessions and closes the store."""
        self.hsm.close()
        self.store.close()
