"""Who calls the sandbox's Google APIs, and what they may do: service accounts, access tokens, IAM policies.

Enforced: every call carries a bearer token that the sandbox issued (to a machine's service account through the
metadata service, to a federated principal by the exchange in `federation`, or the operator's own); a policy on the
resource, or on what contains it, must grant the permission to that member; conditions are evaluated by a real CEL
implementation. Not enforced: deny policies, organisation policies, principal access boundaries, groups (a `group:`
member is nobody), ACLs.
"""

import hashlib
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import cel

from mailinfra.sandbox.gcp.http import ApiError, Request, Router
from mailinfra.sandbox.gcp.roles import PREDEFINED
from mailinfra.sandbox.gcp.store import Document, Store, now
from mailinfra.sandbox.providers.guard import PROJECT_NUMBER

OPERATOR: Final = "user:operator@mailinfra.test"
"""The member that provisions: it may do everything, as a project's owner with the service admin roles."""

TOKEN_LIFE: Final = timedelta(hours=1)
_EMAIL = re.compile(r"[a-z]([-a-z0-9]{4,28}[a-z0-9])$")
_MEMBER = re.compile(
    r"(user|serviceAccount|group|domain|deleted|projectOwner|projectEditor|projectViewer|principal|principalSet):.+"
)


def project_number(project: str) -> str:
    """The number of a project: that of the sandbox, which tells programs that this is no real one."""
    return PROJECT_NUMBER


def storage_agent(project: str) -> str:
    """The e-mail of Cloud Storage's service agent in a project, which uses the customer's keys."""
    return f"service-{project_number(project)}@gs-project-accounts.iam.gserviceaccount.com"


@dataclass(frozen=True)
class Resource:
    """What a permission is asked on.

    `name` and `type` are what conditions see; `policies` are the names of the policies that count, nearest first.
    """

    name: str
    type: str
    policies: tuple[str, ...]


class Identity:
    """Tokens, service accounts and policies, kept in the store. Safe to use from threads."""

    def __init__(self, store: Store, operator_token_file: Path) -> None:
        self._store = store
        self._issued: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._programs: dict[str, Any] = {}
        if not operator_token_file.exists():
            draft = operator_token_file.with_suffix(f".{secrets.token_hex(4)}")
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(32))
            draft.replace(operator_token_file)
        self.operator_token = operator_token_file.read_text()

    # Tokens

    def issue(self, email: str) -> dict[str, Any]:
        """An access token of a service account, as the metadata service answers it.

        The same token is given until five minutes before its end, as on Compute Engine. Raises ApiError 404 when
        there is no such account, 403 when it is disabled.
        """
        account = self._store.get("serviceAccount", email)
        if account is None:
            raise ApiError(404, f"Service account {email} does not exist.")
        if account.get("disabled"):
            raise ApiError(403, f"Service account {email} is disabled.")
        moment = now().timestamp()
        with self._lock:
            token, ends = self._issued.get(email, ("", 0.0))
            if ends - moment < 300:
                token, ends = f"ya29.{secrets.token_urlsafe(48)}", moment + TOKEN_LIFE.total_seconds()
                self._issued[email] = (token, ends)
                with self._store.transaction():
                    for name, old in self._store.list("token"):
                        if old["ends"] < moment:
                            self._store.delete("token", name)
                    self._store.put("token", _digest(token), {"email": email, "ends": ends})
        return {"access_token": token, "expires_in": int(ends - moment), "token_type": "Bearer"}

    def issue_federated(self, principal: str, names: list[str]) -> tuple[str, int]:
        """An access token of a federated principal (`principal://…`) and its life in seconds. `names` are all names
        that a policy may call it by; they follow from the principal and its pool's mapping."""
        seconds = int(TOKEN_LIFE.total_seconds())
        token, ends = f"ya29.d.{secrets.token_urlsafe(48)}", now().timestamp() + seconds
        with self._store.transaction():
            self._store.put("federated", principal, {"names": names})
            self._store.put("token", _digest(token), {"principal": principal, "ends": ends})
        return token, seconds

    def identity_claims(self, email: str, audience: str) -> Document:
        """What the metadata service says of a service account to an audience. Raises ApiError as `issue` does."""
        self.issue(email)  # whoever gets no access token gets no identity either
        account = self._store.get("serviceAccount", email) or {}
        return {"aud": audience, "azp": account["uniqueId"], "sub": account["uniqueId"]}

    def _names(self, principal: str) -> frozenset[str]:
        """The names by which policies may mean a member."""
        own = {principal, "allUsers", "allAuthenticatedUsers"}
        if principal.startswith("principal://"):
            own |= set((self._store.get("federated", principal) or {}).get("names", ()))
        return frozenset(own)

    def principal(self, headers: Any) -> str:
        """The member that a request's Authorization header names. Raises ApiError 401."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            if secrets.compare_digest(token.encode(), self.operator_token.encode()):
                return OPERATOR
            known = self._store.get("token", _digest(token))
            if known is not None and known["ends"] > now().timestamp():
                if "principal" in known:
                    principal: str = known["principal"]
                    return principal
                account = self._store.get("serviceAccount", known["email"])
                if account is not None and not account.get("disabled"):
                    return f"serviceAccount:{known['email']}"
        raise ApiError(
            401,
            "Request had invalid authentication credentials. Expected OAuth 2 access token.",
            reason="authError",
        )

    # Policies

    def policy(self, name: str) -> Document:
        """The policy of a resource, with its etag."""
        return self._store.get("policy", name) or {"version": 1, "bindings": [], "etag": "ACAB"}

    def set_policy(self, name: str, policy: Document) -> Document:
        """Replaces the policy. Raises ApiError: 409 when `etag` is given and stale, 400 for a malformed binding."""
        with self._store.transaction():
            present = self.policy(name)
            known = {member for binding in present["bindings"] for member in binding["members"]}
            bindings = [self._checked(binding, known) for binding in policy.get("bindings", ())]
            if policy.get("etag", present["etag"]) != present["etag"]:
                raise ApiError(
                    409,
                    "There were concurrent policy changes. Please retry the whole read-modify-write.",
                    status="ABORTED",
                )
            kept = {
                "version": 3 if any("condition" in b for b in bindings) else 1,
                "bindings": [b for b in bindings if b["members"]],
                "etag": secrets.token_urlsafe(9),
            }
            self._store.put("policy", name, kept)
        return kept

    def drop_policy(self, name: str) -> None:
        """Forgets the policy of a resource that is gone."""
        self._store.delete("policy", name)

    def _checked(self, binding: Document, known: set[str]) -> Document:
        role, members = binding.get("role", ""), binding.get("members", [])
        if not re.fullmatch(r"(roles|projects/[^/]+/roles|organizations/[^/]+/roles)/[\w.]+", role):
            raise ApiError(400, f"Role {role} is not supported for this resource.")
        for member in members:
            if member in known or member in {"allUsers", "allAuthenticatedUsers"}:
                continue
            if not _MEMBER.fullmatch(member):
                raise ApiError(
                    400, f"Invalid member {member!r}: use a prefix such as serviceAccount: or user:."
                )
            kind, _, email = member.partition(":")
            if (
                kind == "serviceAccount"
                and email.endswith(".iam.gserviceaccount.com")
                and "@gs-project-accounts." not in email
                and not re.fullmatch(r"service-\d+@.+", email)
                and self._store.get("serviceAccount", email) is None
            ):
                raise ApiError(400, f"Service account {email} does not exist.")
        kept: Document = {"role": role, "members": sorted(set(members))}
        if condition := binding.get("condition"):
            self._program(condition.get("expression", ""))
            kept["condition"] = {
                k: condition[k] for k in ("title", "description", "expression") if condition.get(k)
            }
        return kept

    def _program(self, expression: str) -> Any:
        if expression not in self._programs:
            try:
                self._programs[expression] = cel.compile(expression)
            except ValueError as error:
                raise ApiError(400, f"Condition expression is no CEL: {error}") from error
        return self._programs[expression]

    def allowed(
        self, principal: str, permission: str, resource: Resource, attributes: dict[str, str] | None = None
    ) -> bool:
        """Whether a policy on the resource or above grants the permission to the member."""
        if principal == OPERATOR:
            return True
        mine = self._names(principal)
        for name in resource.policies:
            for binding in self.policy(name)["bindings"]:
                if (
                    not mine.isdisjoint(binding["members"])
                    and permission in self._permissions(binding["role"])
                    and self._holds(binding.get("condition"), resource, attributes or {})
                ):
                    return True
        return False

    def require(
        self, principal: str, permission: str, resource: Resource, attributes: dict[str, str] | None = None
    ) -> None:
        """Raises ApiError 403 unless `allowed`."""
        if not self.allowed(principal, permission, resource, attributes):
            who = principal.partition(":")[2]
            raise ApiError(
                403,
                f"{who} does not have {permission} access to {resource.name}. Permission '{permission}' denied on "
                "resource (or it may not exist).",
                reason="forbidden",
            )

    def _permissions(self, role: str) -> frozenset[str]:
        if role in PREDEFINED:
            return PREDEFINED[role]
        custom = self._store.get("role", role)
        return frozenset(custom.get("includedPermissions", ())) if custom else frozenset()

    def _holds(self, condition: Document | None, resource: Resource, attributes: dict[str, str]) -> bool:
        if not condition:
            return True
        context = cel.Context()
        service = resource.type.partition("/")[0]
        context.add_variable("resource", {"name": resource.name, "type": resource.type, "service": service})
        context.add_variable("request", {"time": now()})
        context.add_variable("api", {})
        context.add_function("getAttribute", lambda _api, name, default: attributes.get(name, default))
        context.add_function("extract", extract)
        try:
            return self._program(condition["expression"]).execute(context) is True
        except (ValueError, RuntimeError, TypeError, LookupError, ArithmeticError):
            return False  # as IAM does: a condition that cannot be evaluated grants nothing

    # The IAM API

    def routes(self, router: Router) -> None:
        """Adds iam.googleapis.com's service accounts and roles, and the project's policy."""
        accounts = "/v1/projects/{project}/serviceAccounts"
        router.add("POST", accounts, self._create_account)
        router.add("GET", accounts, self._list_accounts)
        router.add("GET", f"{accounts}/{{email}}", self._get_account)
        router.add("PATCH", f"{accounts}/{{email}}", self._patch_account)
        router.add("DELETE", f"{accounts}/{{email}}", self._delete_account)
        router.add("POST", "/v1/projects/{project}/roles", self._create_role)
        router.add("GET", "/v1/projects/{project}/roles/{role}", self._get_role)
        router.add("PATCH", "/v1/projects/{project}/roles/{role}", self._patch_role)
        router.add("DELETE", "/v1/projects/{project}/roles/{role}", self._delete_role)
        self.policy_routes(router, "/v1/projects/{project}", _project_resource, "resourcemanager.projects")
        self.policy_routes(router, f"{accounts}/{{email}}", _account_resource, "iam.serviceAccounts")

    def policy_routes(
        self, router: Router, path: str, resource_of: Callable[..., Resource], permission: str
    ) -> None:
        """Adds `:getIamPolicy`, `:setIamPolicy` and `:testIamPermissions` of a kind of resource."""

        def get(request: Request, **names: str) -> Document:
            resource = resource_of(**names)
            self.require(request.principal, f"{permission}.getIamPolicy", resource)
            return self.policy(resource.policies[0])

        def put(request: Request, **names: str) -> Document:
            resource = resource_of(**names)
            self.require(request.principal, f"{permission}.setIamPolicy", resource)
            return self.set_policy(resource.policies[0], request.json().get("policy", {}))

        def test(request: Request, **names: str) -> Document:
            return self.test(request.principal, resource_of(**names), request.json().get("permissions", ()))

        router.add("GET", f"{path}:getIamPolicy", get)
        router.add("POST", f"{path}:getIamPolicy", get)
        router.add("POST", f"{path}:setIamPolicy", put)
        router.add("POST", f"{path}:testIamPermissions", test)

    def test(self, principal: str, resource: Resource, permissions: Iterable[str]) -> Document:
        """Which of the permissions the member has."""
        return {"permissions": [p for p in permissions if self.allowed(principal, p, resource)]}

    def _create_account(self, request: Request, project: str) -> Document:
        self.require(request.principal, "iam.serviceAccounts.create", _project_resource(project))
        body = request.json()
        account_id = body.get("accountId", "")
        if not _EMAIL.fullmatch(account_id):
            raise ApiError(
                400,
                f"accountId {account_id!r}: 6 to 30 lower-case letters, digits and hyphens, the first a letter, "
                "the last no hyphen.",
            )
        email = f"{account_id}@{project}.iam.gserviceaccount.com"
        with self._store.transaction():
            if self._store.get("serviceAccount", email):
                raise ApiError(409, f"Service account {account_id} already exists within project {project}.")
            account = {
                **{
                    k: v
                    for k, v in body.get("serviceAccount", {}).items()
                    if k in {"displayName", "description"}
                },
                "name": f"projects/{project}/serviceAccounts/{email}",
                "projectId": project,
                "uniqueId": "1" + "".join(secrets.choice("0123456789") for _ in range(20)),
                "email": email,
                "etag": "MDEwMjE5MjA=",
            }
            self._store.put("serviceAccount", email, account)
        return account

    def _account(self, project: str, email: str) -> Document:
        account = self._store.get("serviceAccount", email)
        if account is None or project not in {"-", account["projectId"]}:
            raise ApiError(404, f"Unknown service account {email}")
        return account

    def _list_accounts(self, request: Request, project: str) -> Document:
        self.require(request.principal, "iam.serviceAccounts.list", _project_resource(project))
        return {"accounts": [a for _, a in self._store.list("serviceAccount") if a["projectId"] == project]}

    def _get_account(self, request: Request, project: str, email: str) -> Document:
        self.require(request.principal, "iam.serviceAccounts.get", _account_resource(project, email))
        return self._account(project, email)

    def _patch_account(self, request: Request, project: str, email: str) -> Document:
        self.require(request.principal, "iam.serviceAccounts.update", _account_resource(project, email))
        changes = request.json().get("serviceAccount", {})
        with self._store.transaction():
            account = self._account(project, email) | {
                k: v for k, v in changes.items() if k in {"displayName", "description", "disabled"}
            }
            self._store.put("serviceAccount", email, account)
        return account

    def _delete_account(self, request: Request, project: str, email: str) -> Document:
        self.require(request.principal, "iam.serviceAccounts.delete", _account_resource(project, email))
        with self._store.transaction():
            account = self._account(project, email)
            self._store.delete("serviceAccount", email)
            # Another account of this name, made later, must not inherit the grants.
            gone = f"deleted:serviceAccount:{email}?uid={account['uniqueId']}"
            for name, policy in self._store.list("policy"):
                for binding in policy["bindings"]:
                    if f"serviceAccount:{email}" in binding["members"]:
                        binding["members"] = sorted({*binding["members"], gone} - {f"serviceAccount:{email}"})
                        self._store.put("policy", name, policy)
        with self._lock:
            self._issued.pop(email, None)
        return {}

    def _create_role(self, request: Request, project: str) -> Document:
        self.require(request.principal, "iam.roles.create", _project_resource(project))
        body = request.json()
        name = f"projects/{project}/roles/{body.get('roleId', '')}"
        with self._store.transaction():
            if self._store.get("role", name):
                raise ApiError(409, f"A role named {name} already exists.")
            self._store.put("role", name, {**body.get("role", {}), "name": name})
        return self._store.get("role", name) or {}

    def _role(self, project: str, role: str) -> Document:
        found = self._store.get("role", f"projects/{project}/roles/{role}")
        if found is None:
            raise ApiError(404, f"The role named projects/{project}/roles/{role} was not found.")
        return found

    def _get_role(self, request: Request, project: str, role: str) -> Document:
        self.require(request.principal, "iam.roles.get", _project_resource(project))
        return self._role(project, role)

    def _patch_role(self, request: Request, project: str, role: str) -> Document:
        self.require(request.principal, "iam.roles.update", _project_resource(project))
        with self._store.transaction():
            found = self._role(project, role) | {k: v for k, v in request.json().items() if k != "name"}
            self._store.put("role", found["name"], found)
        return found

    def _delete_role(self, request: Request, project: str, role: str) -> Document:
        self.require(request.principal, "iam.roles.delete", _project_resource(project))
        found = self._role(project, role)
        self._store.delete("role", found["name"])
        return {**found, "deleted": True}


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def extract(text: str, template: str) -> str:
    """CEL's `extract` as IAM has it: the part of the text at the template's `{name}`."""
    before, _, rest = template.partition("{")
    after = rest.partition("}")[2]
    start = text.find(before)
    if start < 0:
        return ""
    start += len(before)
    end = text.find(after, start) if after else len(text)
    return text[start:end] if end >= 0 else ""


def project_policy(project: str) -> str:
    """The name of a project's policy."""
    return f"//cloudresourcemanager/projects/{project}"


def _project_resource(project: str) -> Resource:
    return Resource(
        f"projects/{project}", "cloudresourcemanager.googleapis.com/Project", (project_policy(project),)
    )


def _account_resource(project: str, email: str) -> Resource:
    name = f"projects/{project}/serviceAccounts/{email}"
    return Resource(name, "iam.googleapis.com/ServiceAccount", (f"//iam/{name}", project_policy(project)))


def token_info(identity: Identity) -> Callable[[Request], Document]:
    """oauth2.googleapis.com/tokeninfo: whose token it is. Raises ApiError 400 for an unknown one."""

    def answer(request: Request) -> Document:
        token = request.query.get("access_token", "")
        try:
            member = identity.principal({"authorization": f"Bearer {token}"})
        except ApiError as error:
            raise ApiError(400, "Invalid Value", reason="invalid_token") from error
        return {"email": member.partition(":")[2], "scope": "https://www.googleapis.com/auth/cloud-platform"}

    return answer
