"""What all live AWS types share: the run of an operation, regions, ARNs and tags."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mailinfra.sandbox.aws.moto_server import ACCOUNT
from mailinfra.sandbox.providers.base import Adapter, Call
from mailinfra.sandbox.providers.errors import ProviderError, Unfinished
from mailinfra.sandbox.providers.values import UNKNOWN, Object


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

    A subclass makes the bare resource in `make`, completes it in `set_up` (what fails there leaves an
    unfinished resource, which the next `up` completes), looks at it in `find`, and ends it in `remove`. What
    does not exist any more is no error in `remove`, and None from `find`.
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
        if call.state.keys() <= call.old_inputs.keys():
            # Nothing that the cloud answered is known: its making was cut off before it was set up.
            self.set_up(api, call)
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
