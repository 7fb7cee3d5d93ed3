"""All of the sandbox's Google APIs as one app: who calls is found out first, then the path decides."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from mailinfra.sandbox.gcp.federation import POOL, PROVIDER, Aws, Exchange, Pool, Provider
from mailinfra.sandbox.gcp.hsm import Hsm
from mailinfra.sandbox.gcp.http import Request, Response, Router
from mailinfra.sandbox.gcp.identity import Identity, token_info
from mailinfra.sandbox.gcp.kms import Kms
from mailinfra.sandbox.gcp.resources import Resources
from mailinfra.sandbox.gcp.storage import Storage
from mailinfra.sandbox.gcp.store import Document, Store
from mailinfra.sandbox.web_identity import Issuer

HOSTS = ("cloudkms", "storage", "oauth2", "iam", "cloudresourcemanager", "sts", "www")
"""The APIs' names below `googleapis.test`."""


class Routed(Protocol):
    """An API."""

    def routes(self, router: Router) -> None:
        """Adds its paths."""


class GoogleApis:
    """Cloud KMS, Cloud Storage and IAM over one store and one token in `folder`. Paths tell the APIs apart.

    `aws` has AWS answer a signed request, for the exchange of its roles' sessions; without it every one is refused.
    """

    def __init__(self, folder: Path, aws: Aws = lambda _method, _path, _headers: None) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.store = Store(folder / "resources.sqlite")
        self.hsm = Hsm(folder / "hsm")
        self.identity = Identity(self.store, folder / "operator.token")
        self.kms = Kms(self.store, self.hsm, self.identity)
        self.storage = Storage(self.store, folder / "objects", self.identity, self.kms)
        self.resources = Resources(self.store)
        self.resources.add(POOL, Pool(self.store))
        self.resources.add(PROVIDER, Provider(self.store))
        self.issuer = Issuer(folder)
        self._open: dict[tuple[str, str], Callable[[Request], Response | Document]] = {
            ("GET", "/tokeninfo"): token_info(self.identity),
            ("GET", "/oauth2/v3/certs"): lambda _: self.issuer.certs,
            ("POST", "/v1/token"): Exchange(self.store, self.identity, aws),
        }
        self._router = Router()
        for part in (self.kms, self.storage, self.identity, self.resources):
            part.routes(self._router)
        self.kms.sweep()

    def __call__(self, request: Request) -> Response:
        """Answers a request. Raises ApiError."""
        if found := self._open.get((request.method, request.path)):
            answer = found(request)
            return answer if isinstance(answer, Response) else Response(answer)
        return self._router.handle(replace(request, principal=self.identity.principal(request.headers)))

    def add(self, part: Routed) -> None:
        """Makes another API known."""
        part.routes(self._router)

    def close(self) -> None:
        """Ends the token's sessions and closes the store."""
        self.hsm.close()
        self.store.close()
