"""Google Cloud as a provider of the sandbox."""

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from mailinfra.sandbox.providers.base import Adapter, Call, Cloud, Invoke, unique
from mailinfra.sandbox.providers.diffs import Rules
from mailinfra.sandbox.providers.gcp import compute, dns, federation, functions, iam, kms, storage
from mailinfra.sandbox.providers.gcp.api import GoogleApi
from mailinfra.sandbox.providers.guard import PROJECT_NUMBER
from mailinfra.sandbox.providers.schema import Schema
from mailinfra.sandbox.providers.values import Object

_CASED = frozenset({"gcp:storage/bucketObject:BucketObject"})
"""Types whose names may hold any letter."""

_AGENTS: Mapping[str, str] = {
    "compute.googleapis.com": "compute-system",
    "logging.googleapis.com": "gcp-sa-logging",
    "pubsub.googleapis.com": "gcp-sa-pubsub",
    "secretmanager.googleapis.com": "gcp-sa-secretmanager",
    "sqladmin.googleapis.com": "gcp-sa-cloud-sql",
    "storage.googleapis.com": "gs-project-accounts",
}
"""The domain part of a service's agent (https://cloud.google.com/iam/docs/service-agents)."""

_RECORDED: Mapping[str, frozenset[str]] = {
    # What replaces, from the schemas of the Terraform provider.
    "gcp:compute/globalAddress:GlobalAddress": frozenset(
        {
            "name",
            "address",
            "addressType",
            "description",
            "ipVersion",
            "network",
            "prefixLength",
            "project",
            "purpose",
        }
    ),
    "gcp:logging/projectBucketConfig:ProjectBucketConfig": frozenset({"bucketId", "location", "project"}),
    "gcp:logging/projectSink:ProjectSink": frozenset({"name", "project", "uniqueWriterIdentity"}),
    "gcp:projects/service:Service": frozenset({"service", "project"}),
    "gcp:projects/serviceIdentity:ServiceIdentity": frozenset({"service", "project"}),
}


class GcpCloud(Cloud):
    """The types and functions of `pulumi_gcp`; what its live types do is done by the daemon's service `gcp`."""

    name = "gcp"
    package = "pulumi_gcp"

    @cached_property
    def endpoint(self) -> Mapping[str, str]:
        """Where the APIs are, and the operator's token."""
        found: Mapping[str, str] = self.control.call("gcp.endpoint")
        return found

    @cached_property
    def api(self) -> GoogleApi:
        """The APIs' client."""
        return GoogleApi(self.endpoint["url"], self.endpoint["token"])

    @cached_property
    def adapters(self) -> Mapping[str, Adapter]:
        parts = (compute, kms, storage, iam, federation, dns)
        return {token: adapter for part in parts for token, adapter in part.ADAPTERS.items()}

    @cached_property
    def functions(self) -> Mapping[str, Invoke]:
        return functions.FUNCTIONS

    @cached_property
    def recorded_rules(self) -> Mapping[str, Rules]:
        return {token: Rules(replaces=replaces) for token, replaces in _RECORDED.items()}

    def auto_name(self, schema: Schema) -> tuple[str, Callable[[str], str]] | None:
        rule = super().auto_name(schema)
        if rule is None or schema.token in _CASED:
            return rule
        return rule[0], fit

    def synthesise(self, call: Call) -> tuple[str, Object]:
        project = call.inputs.get("project") or self.config.get("project", "")
        outputs: dict[str, Any] = {}
        identifier = call.inputs.get("name") or f"recorded-{unique(call.urn, 17)}"
        match call.token:
            case "gcp:projects/service:Service":
                identifier = f"{project}/{call.inputs['service']}"
                outputs = {"project": project}
            case "gcp:projects/serviceIdentity:ServiceIdentity":
                service = call.inputs["service"]
                domain = _AGENTS.get(service, f"gcp-sa-{service.partition('.')[0]}")
                email = f"service-{PROJECT_NUMBER}@{domain}.iam.gserviceaccount.com"
                identifier = f"projects/{project}/services/{service}"
                outputs = {"project": project, "email": email, "member": f"serviceAccount:{email}"}
            case "gcp:logging/projectSink:ProjectSink":
                identifier = f"projects/{project}/sinks/{call.inputs['name']}"
                email = f"service-{PROJECT_NUMBER}@gcp-sa-logging.iam.gserviceaccount.com"
                outputs = {"project": project, "writerIdentity": f"serviceAccount:{email}"}
            case "gcp:logging/projectBucketConfig:ProjectBucketConfig":
                where = f"projects/{project}/locations/{call.inputs['location']}"
                identifier = f"{where}/buckets/{call.inputs['bucketId']}"
                outputs = {"name": identifier, "lifecycleState": "ACTIVE"}
        return identifier, outputs


def fit(name: str) -> str:
    """A name that Google's rules allow (RFC 1035): lower case, digits and hyphens, at most 63, its end kept."""
    clean = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")
    if len(clean) > 63:
        clean = f"{clean[: 63 - 8].rstrip('-')}{clean[-8:]}"
    return clean if clean[:1].isalpha() else f"r{clean}"[:63]
