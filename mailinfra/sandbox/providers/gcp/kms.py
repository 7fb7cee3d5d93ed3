"""Cloud KMS's types. Neither key rings nor keys can be deleted, and a name that was used is taken: as in the cloud."""

from typing import Any

from mailinfra.sandbox.providers.base import Adapter, Call
from mailinfra.sandbox.providers.diffs import Change, Rules
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.gcp.common import LABELLED, GcpAdapter, api, labels, nested, setting, settled
from mailinfra.sandbox.providers.values import Object


class KeyRing(Adapter):
    """`gcp.kms.KeyRing`; a destroy only forgets it."""

    rules = Rules(replaces=frozenset({"name", "location", "project"}))

    def create(self, call: Call) -> tuple[str, Object]:
        project = setting(call, "project")
        parent = f"projects/{project}/locations/{call.inputs['location']}"
        name = call.inputs["name"]
        made = api(call).call("POST", f"/v1/{parent}/keyRings", {}, {"keyRingId": name})
        return made["name"], {"project": project}

    def read(self, call: Call) -> Object | None:
        if api(call).find(f"/v1/{call.id}") is None:
            return None
        _, project, _, location, _, name = call.id.split("/")
        return {"project": project, "location": location, "name": name}

    def delete(self, call: Call) -> None:
        pass


class CryptoKey(GcpAdapter):
    """`gcp.kms.CryptoKey`; a destroy destroys its versions and ends its rotation."""

    computed = frozenset({"destroyScheduledDuration", "versionTemplate"})
    volatile = LABELLED
    rules = Rules(
        replaces=frozenset(
            {"keyRing", "name", "cryptoKeyBackend", "destroyScheduledDuration", "importOnly", "purpose"}
        )
    )

    def replaced_by(self, call: Call, changes: list[Change]) -> frozenset[str]:
        return nested(changes, frozenset({"versionTemplate.protectionLevel"}))

    def create(self, call: Call) -> tuple[str, Object]:
        inputs = call.inputs
        if inputs.get("importOnly"):
            raise ProviderError(f"{call.token} {call.name}: importOnly: the sandbox imports no keys")
        ring = inputs["keyRing"]
        ring = ring[ring.find("projects/") :]
        body = _body(call) | {"purpose": inputs.get("purpose", "ENCRYPT_DECRYPT")}
        if duration := inputs.get("destroyScheduledDuration"):
            body["destroyScheduledDuration"] = duration
        query = {"cryptoKeyId": inputs["name"]}
        if inputs.get("skipInitialVersionCreation"):
            query["skipInitialVersionCreation"] = "true"
        made = api(call).call("POST", f"/v1/{ring}/cryptoKeys", body, query)
        return made["name"], self._outputs(call, made)

    def read(self, call: Call) -> Object | None:
        found = api(call).find(f"/v1/{call.id}")
        if found is None:
            return None
        ring, _, name = call.id.partition("/cryptoKeys/")
        return settled(
            call,
            self._outputs(call, found)
            | {
                "name": name,
                "keyRing": ring,
                "purpose": found["purpose"],
                "rotationPeriod": found.get("rotationPeriod"),
            },
        )

    def update(self, call: Call) -> Object:
        mask = ["labels"]
        if call.changed("rotationPeriod"):
            mask.append("rotationPeriod")
        if call.changed("versionTemplate"):
            mask.append("versionTemplate.algorithm")
        return self._outputs(
            call, api(call).call("PATCH", f"/v1/{call.id}", _body(call), {"updateMask": ",".join(mask)})
        )

    def remove(self, call: Call) -> None:
        client = api(call)
        if client.find(f"/v1/{call.id}") is None:
            return
        for version in client.call("GET", f"/v1/{call.id}/cryptoKeyVersions")["cryptoKeyVersions"]:
            if version["state"] in {"ENABLED", "DISABLED"}:
                client.call("POST", f"/v1/{version['name']}:destroy", {})
        client.call("PATCH", f"/v1/{call.id}", {}, {"updateMask": "rotationPeriod,nextRotationTime"})

    @staticmethod
    def _outputs(call: Call, key: Object) -> Object:
        primary = key.get("primary")
        return labels(call) | {
            "primaries": [{"name": primary["name"], "state": primary["state"]}] if primary else [],
            "destroyScheduledDuration": key["destroyScheduledDuration"],
            "versionTemplate": key["versionTemplate"],
        }


def _body(call: Call) -> dict[str, Any]:
    inputs = call.inputs
    body: dict[str, Any] = {"labels": labels(call)["effectiveLabels"]}
    if period := inputs.get("rotationPeriod"):
        body["rotationPeriod"] = period
    if template := inputs.get("versionTemplate"):
        body["versionTemplate"] = template
    return body


ADAPTERS = {
    "gcp:kms/keyRing:KeyRing": KeyRing(),
    "gcp:kms/cryptoKey:CryptoKey": CryptoKey(),
}
