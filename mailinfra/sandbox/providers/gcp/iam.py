"""Service accounts, custom roles, and the grants on projects, buckets, keys and accounts."""

from typing import Any

from mailinfra.sandbox.providers.base import Adapter, Call
from mailinfra.sandbox.providers.diffs import Rules
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.gcp.api import GoogleApi, GoogleError
from mailinfra.sandbox.providers.gcp.common import GcpAdapter, api, setting, settled
from mailinfra.sandbox.providers.values import Object

_ATTEMPTS = 20
"""How often a policy is read, changed and written again when others change it meanwhile."""


class Policy:
    """The policy of one resource. `id` is how the provider names the resource; the paths are the API's."""

    def __init__(
        self, client: GoogleApi, identifier: str, get: tuple[str, str], put: tuple[str, str]
    ) -> None:
        self.id = identifier
        self._client = client
        self._get = get
        self._put = put

    def read(self) -> Object:
        """The policy."""
        return self._client.call(*self._get)

    def change(self, edit: Any) -> Object:
        """Changes the bindings with `edit(bindings)`, again and again while others do; the policy as it is then."""
        for attempt in range(_ATTEMPTS):
            policy = self.read()
            edit(policy["bindings"])
            body = policy if self._put[0] == "PUT" else {"policy": policy}
            try:
                return self._client.call(*self._put, body)
            except GoogleError as error:
                if error.code != 409 or attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("the loop returns or raises")


def _bucket(call: Call, reference: str) -> Policy:
    name = reference.removeprefix("b/")
    path = f"/storage/v1/b/{name}/iam"
    return Policy(api(call), f"b/{name}", ("GET", path), ("PUT", path))


def _named(call: Call, name: str) -> Policy:
    return Policy(api(call), name, ("GET", f"/v1/{name}:getIamPolicy"), ("POST", f"/v1/{name}:setIamPolicy"))


def _key(call: Call, reference: str) -> Policy:
    if "projects/" in reference:
        return _named(call, reference[reference.find("projects/") :])
    parts = reference.split("/")
    if len(parts) == 3:
        parts.insert(0, setting(call, "project"))
    if len(parts) != 4:
        raise ProviderError(
            f"cryptoKeyId: found {reference!r}; allowed: projects/P/locations/L/keyRings/R/cryptoKeys/K"
        )
    return _named(call, "projects/{}/locations/{}/keyRings/{}/cryptoKeys/{}".format(*parts))


def _ring(call: Call, reference: str) -> Policy:
    if "projects/" in reference:
        return _named(call, reference[reference.find("projects/") :])
    parts = reference.split("/")
    if len(parts) == 2:
        parts.insert(0, setting(call, "project"))
    if len(parts) != 3:
        raise ProviderError(f"keyRingId: found {reference!r}; allowed: projects/P/locations/L/keyRings/R")
    return _named(call, "projects/{}/locations/{}/keyRings/{}".format(*parts))


def _project(call: Call, reference: str) -> Policy:
    project = reference.removeprefix("projects/")
    return Policy(
        api(call),
        project,
        ("GET", f"/v1/projects/{project}:getIamPolicy"),
        ("POST", f"/v1/projects/{project}:setIamPolicy"),
    )


def _same(binding: Object, role: str, condition: Object | None) -> bool:
    return bool(binding["role"] == role and _condition(binding.get("condition")) == _condition(condition))


def _condition(condition: Object | None) -> Object:
    return {k: v for k, v in (condition or {}).items() if v and k in {"title", "description", "expression"}}


class _Grant(Adapter):
    """What members and bindings share."""

    def __init__(self, field: str, policy_of: Any) -> None:
        self._field = field
        self._policy_of = policy_of

    def policy(self, call: Call) -> Policy:
        """The policy that the grant is in."""
        values = call.inputs or call.state
        found: Policy = self._policy_of(call, values[self._field])
        return found

    def identifier(self, call: Call, policy: Policy, *members: str) -> str:
        """The id as the real provider makes it."""
        title = call.inputs.get("condition", {}).get("title")
        return "/".join([policy.id, call.inputs["role"], *members, *([title] if title else [])])


class Member(_Grant):
    """`…IAMMember`: one member has one role, whoever else has it."""

    def __init__(self, field: str, policy_of: Any) -> None:
        super().__init__(field, policy_of)
        self.rules = Rules(replaces=frozenset({field, "role", "member", "condition"}))

    def create(self, call: Call) -> tuple[str, Object]:
        inputs = call.inputs

        def add(bindings: list[Object]) -> None:
            for binding in bindings:
                if _same(binding, inputs["role"], inputs.get("condition")):
                    binding["members"] = sorted({*binding["members"], inputs["member"]})
                    return
            binding = {"role": inputs["role"], "members": [inputs["member"]]}
            if condition := _condition(inputs.get("condition")):
                binding["condition"] = condition
            bindings.append(binding)

        policy = self.policy(call)
        return self.identifier(call, policy, inputs["member"]), {"etag": policy.change(add)["etag"]}

    def read(self, call: Call) -> Object | None:
        if not call.inputs:
            raise ProviderError(f"{call.token} {call.id}: the sandbox does not import grants")
        found = _read(self.policy(call))
        for binding in found["bindings"] if found else ():
            if (
                _same(binding, call.inputs["role"], call.inputs.get("condition"))
                and call.inputs["member"] in binding["members"]
            ):
                # The policy's etag changes with everybody's grants: it says nothing of this one.
                return {
                    "member": call.inputs["member"],
                    "etag": call.state.get("etag", found["etag"] if found else ""),
                }
        return None

    def delete(self, call: Call) -> None:
        state = call.state

        def drop(bindings: list[Object]) -> None:
            for binding in bindings:
                if _same(binding, state["role"], state.get("condition")):
                    binding["members"] = [m for m in binding["members"] if m != state["member"]]

        policy = self.policy(call)
        if _read(policy) is not None:
            policy.change(drop)


class Binding(_Grant):
    """`…IAMBinding`: the members of a role, and no others."""

    def __init__(self, field: str, policy_of: Any) -> None:
        super().__init__(field, policy_of)
        self.rules = Rules(replaces=frozenset({field, "role", "condition"}), unordered=frozenset({"members"}))
        self.volatile = frozenset({"etag"})

    def _set(self, call: Call, members: list[str]) -> Object:
        values = call.inputs or call.state

        def put(bindings: list[Object]) -> None:
            bindings[:] = [b for b in bindings if not _same(b, values["role"], values.get("condition"))]
            binding: Object = {"role": values["role"], "members": members}
            if condition := _condition(values.get("condition")):
                binding["condition"] = condition
            if members:
                bindings.append(binding)

        return {"etag": self.policy(call).change(put)["etag"]}

    def create(self, call: Call) -> tuple[str, Object]:
        return self.identifier(call, self.policy(call)), self._set(call, call.inputs["members"])

    def read(self, call: Call) -> Object | None:
        if not call.inputs:
            raise ProviderError(f"{call.token} {call.id}: the sandbox does not import grants")
        found = _read(self.policy(call))
        for binding in found["bindings"] if found else ():
            if _same(binding, call.inputs["role"], call.inputs.get("condition")):
                return {
                    "members": binding["members"],
                    "etag": call.state.get("etag", found["etag"] if found else ""),
                }
        return None

    def update(self, call: Call) -> Object:
        return self._set(call, call.inputs["members"])

    def delete(self, call: Call) -> None:
        if _read(self.policy(call)) is not None:
            self._set(call, [])


def _read(policy: Policy) -> Object | None:
    try:
        return policy.read()
    except GoogleError as error:
        if error.code == 404:
            return None
        raise


class Account(GcpAdapter):
    """`gcp.serviceaccount.Account`."""

    rules = Rules(replaces=frozenset({"accountId", "project"}))

    def create(self, call: Call) -> tuple[str, Object]:
        inputs, project = call.inputs, setting(call, "project")
        body = {
            "accountId": inputs["accountId"],
            "serviceAccount": {k: inputs[k] for k in ("displayName", "description") if k in inputs},
        }
        try:
            made = api(call).call("POST", f"/v1/projects/{project}/serviceAccounts", body)
        except GoogleError as error:
            if error.code != 409 or not inputs.get("createIgnoreAlreadyExists"):
                raise
            email = f"{inputs['accountId']}@{project}.iam.gserviceaccount.com"
            made = api(call).call("GET", f"/v1/projects/{project}/serviceAccounts/{email}")
        if inputs.get("disabled"):
            self._patch(call, made["name"])
        return made["name"], self._outputs(made)

    def read(self, call: Call) -> Object | None:
        found = api(call).find(f"/v1/{call.id}")
        if found is None:
            return None
        optional = {k: found[k] for k in ("displayName", "description", "disabled") if found.get(k)}
        gone = {k: "" for k in ("displayName", "description") if k in call.inputs and k not in optional}
        return settled(
            call,
            self._outputs(found) | optional | gone | {"accountId": found["email"].partition("@")[0]},
        )

    def update(self, call: Call) -> Object:
        self._patch(call, call.id)
        return {}

    @staticmethod
    def _patch(call: Call, name: str) -> None:
        account = {
            "displayName": call.inputs.get("displayName", ""),
            "description": call.inputs.get("description", ""),
            "disabled": call.inputs.get("disabled", False),
        }
        api(call).call("PATCH", f"/v1/{name}", {"serviceAccount": account})

    def remove(self, call: Call) -> None:
        if api(call).find(f"/v1/{call.id}") is not None:
            api(call).call("DELETE", f"/v1/{call.id}")

    @staticmethod
    def _outputs(account: Object) -> Object:
        return {
            "email": account["email"],
            "member": f"serviceAccount:{account['email']}",
            "name": account["name"],
            "uniqueId": account["uniqueId"],
            "project": account["projectId"],
        }


class CustomRole(GcpAdapter):
    """`gcp.projects.IAMCustomRole`."""

    rules = Rules(replaces=frozenset({"project", "roleId"}), unordered=frozenset({"permissions"}))

    def create(self, call: Call) -> tuple[str, Object]:
        project = setting(call, "project")
        body = {"roleId": call.inputs["roleId"], "role": self._role(call)}
        made = api(call).call("POST", f"/v1/projects/{project}/roles", body)
        return made["name"], {"name": made["name"], "deleted": False, "project": project}

    def read(self, call: Call) -> Object | None:
        found = api(call).find(f"/v1/{call.id}")
        if found is None:
            return None
        return {
            "name": found["name"],
            "title": found["title"],
            "permissions": found["includedPermissions"],
            "roleId": found["name"].rsplit("/", 1)[1],
            "deleted": False,
        }

    def update(self, call: Call) -> Object:
        api(call).call("PATCH", f"/v1/{call.id}", self._role(call))
        return {}

    def remove(self, call: Call) -> None:
        if api(call).find(f"/v1/{call.id}") is not None:
            api(call).call("DELETE", f"/v1/{call.id}")

    @staticmethod
    def _role(call: Call) -> Object:
        return {
            "title": call.inputs["title"],
            "description": call.inputs.get("description", ""),
            "includedPermissions": call.inputs["permissions"],
            "stage": call.inputs.get("stage", "GA"),
        }


ADAPTERS: dict[str, Adapter] = {
    "gcp:serviceaccount/account:Account": Account(),
    "gcp:projects/iAMCustomRole:IAMCustomRole": CustomRole(),
    "gcp:projects/iAMMember:IAMMember": Member("project", _project),
    "gcp:projects/iAMBinding:IAMBinding": Binding("project", _project),
    "gcp:storage/bucketIAMMember:BucketIAMMember": Member("bucket", _bucket),
    "gcp:storage/bucketIAMBinding:BucketIAMBinding": Binding("bucket", _bucket),
    "gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember": Member("cryptoKeyId", _key),
    "gcp:kms/cryptoKeyIAMBinding:CryptoKeyIAMBinding": Binding("cryptoKeyId", _key),
    "gcp:kms/keyRingIAMMember:KeyRingIAMMember": Member("keyRingId", _ring),
    "gcp:kms/keyRingIAMBinding:KeyRingIAMBinding": Binding("keyRingId", _ring),
    "gcp:serviceaccount/iAMMember:IAMMember": Member("serviceAccountId", _named),
    "gcp:serviceaccount/iAMBinding:IAMBinding": Binding("serviceAccountId", _named),
}
