"""AWS as a `Cloud`: its configuration, its clients, its tags and ids."""

import json
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from mailinfra.sandbox.aws.moto_server import ACCOUNT
from mailinfra.sandbox.aws.service import moto_endpoint
from mailinfra.sandbox.paths import SandboxError
from mailinfra.sandbox.providers.aws.ec2_machines import Machines
from mailinfra.sandbox.providers.base import Adapter, Call, Cloud, Invoke, unique
from mailinfra.sandbox.providers.diffs import Rules
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.schema import Property, Schema
from mailinfra.sandbox.providers.values import Object, has_unknown

_NAME_LENGTHS = {"aws:s3/bucket:Bucket": 63, "aws:iam/role:Role": 64, "aws:iam/policy:Policy": 128}


class AwsCloud(Cloud):
    """AWS: one account, every region."""

    name = "aws"
    package = "pulumi_aws"
    always_replaces = frozenset({"region"})

    def __init__(self, paths: Any) -> None:
        super().__init__(paths)
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()
        self.locks = Locks()
        self.machines = Machines(self)

    @cached_property
    def adapters(self) -> Mapping[str, Adapter]:
        """The live types."""
        from mailinfra.sandbox.providers.aws.registry import adapters

        return adapters()

    @cached_property
    def functions(self) -> Mapping[str, Invoke]:
        """The functions that are answered."""
        from mailinfra.sandbox.providers.aws.functions import FUNCTIONS

        return FUNCTIONS

    @cached_property
    def recorded_rules(self) -> Mapping[str, Rules]:
        """What the documentation of recorded types leaves out."""
        from mailinfra.sandbox.providers.aws.registry import RECORDED_RULES

        return RECORDED_RULES

    def prepare(self, schema: Schema, inputs: Object) -> Object:
        """Add the provider's region and default tags, as pulumi-aws does before it checks.

        A resource's own tags win over default tags of the same name.
        """
        region = self.config.get("region")
        if "region" in schema.inputs and region:
            inputs = {"region": region, **inputs}
        defaults = (self.config.get("defaultTags") or {}).get("tags") or {}
        own = inputs.get("tags", {})
        if defaults and "tags" in schema.inputs and "tagsAll" in schema.outputs and isinstance(own, dict):
            inputs = {**inputs, "tags": {**defaults, **own}}
        return {name: _document(value, schema.inputs.get(name)) for name, value in inputs.items()}

    def auto_name(self, schema: Schema) -> tuple[str, Callable[[str], str]] | None:
        """Buckets are named in lower case, key aliases below `alias/`; lengths are AWS's."""
        if schema.token == "aws:s3/bucket:Bucket":  # noqa: S105
            return "bucket", lambda unique_name: unique_name.lower()[-63:]
        if schema.token == "aws:kms/alias:Alias":  # noqa: S105
            return "name", lambda unique_name: f"alias/{unique_name}"
        found = super().auto_name(schema)
        limit = _NAME_LENGTHS.get(schema.token, 255)
        return found and (found[0], lambda unique_name: unique_name[-limit:])

    def synthesise(self, call: Call) -> tuple[str, Object]:
        """A recorded resource's id is its name, or made up; its ARN has the general form of ARNs."""
        module, _, kind = call.token.removeprefix("aws:").rpartition(":")[0].partition("/")
        identifier = str(call.inputs.get("name") or f"{kind.lower()}-{unique(call.urn, 17)}")
        region = call.inputs.get("region", "")
        schema_outputs: Object = {"arn": f"arn:aws:{module}:{region}:{ACCOUNT}:{kind}/{identifier}"}
        if call.inputs.get("tags"):
            schema_outputs["tagsAll"] = call.inputs["tags"]
        return identifier, schema_outputs

    def explain(self, error: Exception) -> str | None:
        """botocore's errors and a daemon that does not run."""
        if isinstance(error, SandboxError):
            return str(error)
        from botocore.exceptions import BotoCoreError, ClientError

        if isinstance(error, ClientError):
            details = error.response.get("Error", {})
            message = " ".join(str(details.get("Message", "")).split())
            return f"{error.operation_name}: {details.get('Code')}: {message}"
        if isinstance(error, BotoCoreError):
            return f"{type(error).__name__}: {' '.join(str(error).split())}"
        return None

    def client(self, service: str, region: str) -> Any:
        """A boto3 client for a service in a region; made once, safe for threads."""
        if not region:
            raise ProviderError("no region: set `aws:region`, the provider's `region` or the resource's")
        with self._lock:
            key = (service, region)
            if key not in self._clients:
                import boto3
                from botocore.config import Config

                self._clients[key] = boto3.client(
                    service,
                    region_name=region,
                    endpoint_url=moto_endpoint(self.paths),
                    aws_access_key_id="sandbox",
                    aws_secret_access_key="sandbox",  # noqa: S106
                    config=Config(retries={"max_attempts": 3}, max_pool_connections=32, read_timeout=180),
                )
            return self._clients[key]


def _document(value: Any, known: Property | None) -> Any:
    """A policy given as an object, as the text that AWS takes; unknown parts leave it an object (at preview)."""
    kinds = {option.kind for option in known.type.options} if known else set()
    if kinds == {"string", "object"} and isinstance(value, dict) and not has_unknown(value):
        return json.dumps(value)
    return value


class Locks:
    """Locks by name, for what one plugin must not do twice at a time (rules of one firewall, records of one zone)."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, threading.RLock] = {}

    def of(self, name: str) -> Any:
        """The lock of that name."""
        with self._guard:
            return self._locks.setdefault(name, threading.RLock())
