"""The sandbox's providers as far as they need no cloud: checks, names, defaults, identities, some data sources."""

import importlib
from collections.abc import Mapping
from typing import Any

from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.providers import checks
from mailinfra.sandbox.providers.base import DEFAULTS, Adapter, Call, Cloud, SandboxProvider, unique
from mailinfra.sandbox.providers.checks import Failure
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.guard import PROJECT_NUMBER
from mailinfra.sandbox.providers.schema import Sdk, UnknownTypeError
from mailinfra.sandbox.providers.values import UNKNOWN, Object, has_unknown
from mailinfra_policy.sources.identities import Identity, identity

CLOUDS = ("aws", "gcp", "cloudflare")

_ANSWERED = frozenset(
    {
        "aws:ec2/getAmi:getAmi",
        "aws:iam/getPolicyDocument:getPolicyDocument",
        "aws:index/getAvailabilityZones:getAvailabilityZones",
        "aws:index/getCallerIdentity:getCallerIdentity",
        "aws:index/getPartition:getPartition",
        "aws:index/getRegion:getRegion",
        "gcp:compute/getImage:getImage",
        "gcp:compute/getZones:getZones",
        "gcp:organizations/getProject:getProject",
    }
)
"""The data sources that the sandbox answers from tables, with no daemon."""


class Offline(SandboxProvider):
    """One provider of a program: checks and completes inputs as the engine and the plugin would."""

    def __init__(self, cloud: Cloud, sdk: Sdk, config: Object) -> None:
        """`config` as the SDK sends it: nested values are JSON texts."""
        super().__init__(cloud)
        self.sdk = sdk
        known, self.failures = self._decode_config(sdk.provider(), config)
        self.failures = self.failures + checks.check(known, sdk.provider().inputs, sdk.provider().objects)
        self.props = known
        cloud.config = {name: value for name, value in known.items() if not has_unknown(value)}

    def adapter(self, token: str) -> Adapter:
        """What the sandbox lets a type do is the sandbox's; any program's resource is taken as the SDK takes it."""
        return self._recorded

    def complete(self, urn: str, inputs: Object) -> tuple[Object, list[Failure]]:
        """The inputs with names and defaults filled in, and what the SDK does not take of them."""
        try:
            found, failures = self.check(urn, {}, inputs, b"")
        except ProviderError as error:
            return inputs, [Failure("", str(error))]
        found.pop(DEFAULTS, None)
        region = self.props.get("region")
        if region == UNKNOWN and "region" not in found and "region" in self.sdk.schema(_token(urn)).inputs:
            found["region"] = UNKNOWN
        return found, failures

    def identify(self, urn: str, inputs: Object) -> Identity:
        """Id and outputs as far as they follow from the inputs."""
        token = _token(urn)
        known = identity(token, urn, inputs, self.props.get)
        if known is None:
            known = self._general(urn, token, inputs)
        outputs = self.sdk.schema(token).outputs
        return known[0], {name: value for name, value in known[1].items() if name in outputs}

    def _general(self, urn: str, token: str, inputs: Object) -> Identity:
        if self.cloud.name != "gcp":
            return unique(urn, 32) if self.cloud.name == "cloudflare" else UNKNOWN, {}
        name = urn.rpartition("::")[2]
        try:
            identifier, outputs = self.cloud.synthesise(Call(self.cloud, urn, token, name, inputs=inputs))
        except KeyError:  # an input that is missing or is not known
            return UNKNOWN, {}
        # The cloud's general answer, made up from the URN's hash, says nothing.
        made_up = identifier.startswith("recorded-") or has_unknown([identifier, *outputs.values()])
        return (UNKNOWN, {}) if made_up or not outputs else (identifier, outputs)

    def ask(self, token: str, arguments: Object) -> Object | None:
        """A data source's answer; None where only the cloud has it. Raises ProviderError with what is wrong."""
        if token == "gcp:storage/getProjectServiceAccount:getProjectServiceAccount":  # noqa: S105
            return self._storage_agent(arguments)
        if token == "gcp:organizations/getClientConfig:getClientConfig":  # noqa: S105
            settings = {name: self.cloud.config.get(name, UNKNOWN) for name in ("project", "region", "zone")}
            return {**settings, "id": UNKNOWN, "accessToken": UNKNOWN, "defaultLabels": {}}
        if token not in _ANSWERED or has_unknown(arguments):
            return None
        try:
            found, failures = self.invoke(token, arguments)
        except ProviderError:
            # The sandbox has few images and knows few projects; the cloud has more.
            return _image(token, arguments)
        if failures:
            raise ProviderError("; ".join(str(failure) for failure in failures))
        return found

    def _storage_agent(self, arguments: Object) -> Object | None:
        project = arguments.get("project") or self.cloud.config.get("project")
        if not project:
            return None
        email = f"service-{PROJECT_NUMBER}@gs-project-accounts.iam.gserviceaccount.com"
        return {"id": email, "emailAddress": email, "member": f"serviceAccount:{email}", "project": project}


def _image(token: str, arguments: Object) -> Object | None:
    if token != "aws:ec2/getAmi:getAmi":  # noqa: S105
        return None
    return {"id": f"ami-{unique(repr(sorted(arguments.items(), key=str)), 17)}"}


def _token(urn: str) -> str:
    return urn.split("::", 3)[2].rpartition("$")[2]


class Clouds:
    """The providers of one program, made when they are first needed."""

    def __init__(self) -> None:
        self._paths = Paths.of("check")
        self._sdks: dict[str, Sdk] = {}

    def sdk(self, package: str) -> Sdk:
        """The SDK of a cloud, as it is installed beside this command."""
        if package not in self._sdks:
            self._sdks[package] = Sdk(f"pulumi_{package}", self._paths.cache)
        return self._sdks[package]

    def provider(self, package: str, config: Mapping[str, Any]) -> Offline:
        """A provider with a configuration."""
        module = importlib.import_module(f"mailinfra.sandbox.providers.{package}")
        return Offline(module.cloud(self._paths), self.sdk(package), dict(config))

    def knows(self, token: str) -> bool:
        """Whether a type is one of the three SDKs'."""
        package = token.partition(":")[0]
        if package not in CLOUDS:
            return False
        try:
            self.sdk(package).schema(token)
        except UnknownTypeError:
            return False
        return True
