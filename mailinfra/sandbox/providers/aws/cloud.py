"""AWS as a `Cloud`: its configuration, its clients, its tags and ids."""

import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from mailinfra.sandbox.aws.moto_server import ACCOUNT
from mailinfra.sandbox.aws.service import moto_endpoint
from mailinfra.sandbox.paths import SandboxError
from mailinfra.sandbox.providers.aws.ec2_machines import Machines
from mailinfra.sandbox.providers.base import Adapter, Call, Cloud, Invoke, unique
from mailinfra.sandbox.providers.diffs import Rules
from mailinfra.sandbox.providers.errors import ProviderError, Unfinished
from mailinfra.sandbox.providers.schema import Schema
from mailinfra.sandbox.providers.values import UNKNOWN, Object

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
        return inputs

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
                    config=Config(retries={"max_attempts": 3}, max_pool_connections=32),
                )
            return self._clients[key]


class Locks:
    """Locks by name, for what one plugin must not do twice at a time (rules of one firewall, records of one zone)."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, threading.RLock] = {}

    def of(self, name: str) -> Any:
        """The lock of that name."""
        with self._guard:
            return self._locks.setdefault(name, threading.RLock())


def is_gone(error: Exception) -> bool:
    """Whether an error of botocore's says that the resource does not exist."""
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError):
        return False
    code = str(error.response.get("Error", {}).get("Code", ""))
    return "NotFound" in code or "NoSuch" in code or code in {"404", "Gone"}


def region_of(call: Call) -> str:
    """The region that a resource is in."""
    return str(call.inputs.get("region") or call.state.get("region") or call.cloud.config.get("region") or "")


def arn(call: Call, service: str, resource: str, regional: bool = True) -> str:
    """An ARN of the sandbox's account."""
    return f"arn:aws:{service}:{region_of(call) if regional else ''}:{ACCOUNT}:{resource}"


class AwsAdapter(Adapter):
    """A live type made of calls to one service.

    A subclass makes the bare resource in `make`, completes it in `set_up` (what fails there leaves an unfinished resource,
    which the next `up` completes), looks at it in `find`, and ends it in `remove`. What does not exist any more is no error
    in `remove`, and None from `find`.
    """

    service = ""

    def api(self, call: Call) -> Any:
        """The client of this type's service in the resource's region."""
        return call.cloud.client(self.service, region_of(call))

    @abstractmethod
    def make(self, api: Any, call: Call) -> str:
        """Make the resource and return its id."""

    def set_up(self, api: Any, call: Call) -> None:
        """Complete it: what takes further calls. Called again by an update after it failed."""

    @abstractmethod
    def find(self, api: Any, call: Call) -> Object | None:
        """What is there now."""

    @abstractmethod
    def remove(self, api: Any, call: Call) -> None:
        """End it."""

    def change(self, api: Any, call: Call) -> None:
        """Change it in place."""
        self.set_up(api, call)

    def create(self, call: Call) -> tuple[str, Object]:
        api = self.api(call)
        identifier = self.make(api, call)
        made = replace(call, id=identifier)
        try:
            self.set_up(api, made)
            outputs = self._look(api, made)
        except Exception as error:
            reason = str(error) if isinstance(error, ProviderError) else call.cloud.explain(error)
            if reason is None:
                raise
            raise Unfinished(f"create {call.token}: {reason}", identifier, {}) from error
        return identifier, outputs or {}

    def read(self, call: Call) -> Object | None:
        return self._look(self.api(call), call)

    def update(self, call: Call) -> Object:
        api = self.api(call)
        self.change(api, call)
        found = self._look(api, call)
        if found is None:
            raise ProviderError(
                f"update {call.token} {call.id}: it does not exist any more; refresh the stack"
            )
        return found

    def delete(self, call: Call) -> None:
        try:
            self.remove(self.api(call), call)
        except Exception as error:
            if not is_gone(error):
                raise

    def _look(self, api: Any, call: Call) -> Object | None:
        try:
            found = self.find(api, call)
        except Exception as error:
            if is_gone(error):
                return None
            raise
        if found is not None and self.service not in {"iam", "route53"}:
            found.setdefault("region", region_of(call))
        return found


def tag_list(tags: Mapping[str, str] | None) -> list[dict[str, str]]:
    """Tags as most services take them."""
    return [{"Key": key, "Value": value} for key, value in (tags or {}).items()]


def tag_map(tags: list[dict[str, str]] | None) -> dict[str, str]:
    """Tags as Pulumi has them; AWS's own (`aws:`) and the sandbox's own are left out."""
    return {tag["Key"]: tag["Value"] for tag in tags or [] if not tag["Key"].startswith(("aws:", "sandbox:"))}


def tag_outputs(tags: list[dict[str, str]] | None) -> Object:
    """`tags` and `tagsAll`."""
    found = tag_map(tags)
    return {"tags": found, "tagsAll": found}


def removed_tags(call: Call) -> list[str]:
    """Keys of tags that an update takes away."""
    return sorted((call.old_inputs.get("tags") or {}).keys() - (call.inputs.get("tags") or {}).keys())


def known(value: Any) -> bool:
    """Whether a value is there and not unknown."""
    return value is not None and value != UNKNOWN
