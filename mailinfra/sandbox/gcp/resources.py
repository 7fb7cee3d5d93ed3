"""Resources of Google Cloud that only the provider speaks of (Compute Engine, Cloud DNS), kept in the daemon.

They have no REST face of Google's: the provider hands a resource's inputs over as the Pulumi SDK has them (camelCase),
under its name in the cloud (`projects/P/zones/Z/instances/N`), and gets the outputs back. What a kind of resource does
is a `Kind`. Only the operator may call.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from mailinfra.sandbox.gcp.http import ApiError, Request, Router
from mailinfra.sandbox.gcp.identity import OPERATOR
from mailinfra.sandbox.gcp.store import Document, Store, timestamp
from mailinfra.sandbox.paths import SandboxError

COMPUTE: str = "https://www.googleapis.com/compute/v1/"
"""What a `selfLink` of Compute Engine begins with."""


def relative(reference: str) -> str:
    """A resource's name without what comes before `projects/` in a link to it."""
    return reference[reference.find("projects/") :] if "projects/" in reference else reference


def in_use(what: str, by: str) -> ApiError:
    """The error for removing something that another resource needs."""
    return ApiError(
        400,
        f"The resource '{what}' is already being used by '{by}'",
        reason="resourceInUseByAnotherResource",
    )


@contextmanager
def _refusals() -> Iterator[None]:
    """What the sandbox's other parts refuse comes out as an error of the API."""
    try:
        yield
    except SandboxError as error:
        raise ApiError(400, f"{type(error).__name__}: {error}", reason="invalid") from error


class Kind:
    """What stands behind one kind of resource."""

    def plan(self, name: str, inputs: Document, before: Document | None) -> Document:
        """The outputs for these inputs, addresses taken and so on; called inside a transaction.

        `before` is the document as it was, None for a new one. Raises ApiError for what cannot be.
        """
        return {}

    def apply(self, name: str, document: Document, before: Document | None) -> None:
        """Makes it so. Called once the document is written; if it raises, a new document is taken back."""

    def user(self, name: str, document: Document) -> str | None:
        """Another resource that needs this one, which then cannot go."""
        return None

    def remove(self, name: str, document: Document) -> None:
        """Undoes `apply`; what is gone already is fine."""


class Resources:
    """The kinds and their documents. A document is `{"inputs": …, "outputs": …}`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kinds: dict[str, Kind] = {}

    def add(self, kind: str, handler: Kind) -> None:
        """Makes a kind of resource known."""
        self._kinds[kind] = handler

    def routes(self, router: Router) -> None:
        """Adds `/sandbox/KIND/NAME`, the name percent-encoded."""
        path = "/sandbox/{kind}/{object}"
        router.add("POST", path, self._insert)
        router.add("GET", path, self._get)
        router.add("PATCH", path, self._update)
        router.add("DELETE", path, self._delete)

    def _handler(self, request: Request, kind: str) -> Kind:
        if request.principal != OPERATOR:
            raise ApiError(403, "Only the sandbox's operator may call this.")
        if kind not in self._kinds:
            raise ApiError(404, f"The sandbox has no {kind}.")
        return self._kinds[kind]

    def known(self, kind: str, name: str) -> Document:
        """The document. Raises ApiError 404."""
        document = self._store.get(kind, name)
        if document is None:
            raise ApiError(404, f"The resource '{name}' was not found", reason="notFound")
        return document

    def _insert(self, request: Request, kind: str, object: str) -> Document:
        self._handler(request, kind)
        return self.insert(kind, object, request.json())

    def insert(self, kind: str, name: str, inputs: Document, at: datetime | None = None) -> Document:
        """Makes a resource; one that tells its time was made `at` that time. Raises ApiError."""
        handler = self._kinds[kind]
        with self._store.transaction():
            if self._store.get(kind, name):
                raise ApiError(409, f"The resource '{name}' already exists", reason="alreadyExists")
            document = {"inputs": inputs, "outputs": handler.plan(name, inputs, None)}
            if at is not None:
                document["outputs"]["creationTimestamp"] = timestamp(at)
            self._store.put(kind, name, document)
        try:
            with _refusals():
                handler.apply(name, document, None)
        except BaseException:
            self._store.delete(kind, name)
            raise
        return document

    def _get(self, request: Request, kind: str, object: str) -> Document:
        self._handler(request, kind)
        return self.known(kind, object)

    def _update(self, request: Request, kind: str, object: str) -> Document:
        handler, name = self._handler(request, kind), object
        with self._store.transaction():
            before = self.known(kind, name)
            inputs = request.json()
            document = {"inputs": inputs, "outputs": before["outputs"] | handler.plan(name, inputs, before)}
            self._store.put(kind, name, document)
        try:
            with _refusals():
                handler.apply(name, document, before)
        except BaseException:
            self._store.put(kind, name, before)
            raise
        return document

    def _delete(self, request: Request, kind: str, object: str) -> Document:
        self._handler(request, kind)
        self.remove(kind, object)
        return {}

    def remove(self, kind: str, name: str) -> None:
        """Ends a resource. Raises ApiError, 404 when there is none."""
        handler, document = self._kinds[kind], self.known(kind, name)
        if user := handler.user(name, document):
            raise in_use(name, user)
        with _refusals():
            handler.remove(name, document)
        self._store.delete(kind, name)
