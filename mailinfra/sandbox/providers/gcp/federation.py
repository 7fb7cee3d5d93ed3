"""Workload identity pools and their providers, which the daemon keeps."""

from mailinfra.sandbox.providers.base import Adapter, Call
from mailinfra.sandbox.providers.checks import Failure
from mailinfra.sandbox.providers.diffs import Rules
from mailinfra.sandbox.providers.gcp.common import DaemonAdapter, setting

_SHOWN = frozenset({"name", "state", "project"})


def _pool(call: Call) -> str:
    where = f"projects/{setting(call, 'project')}/locations/global"
    return f"{where}/workloadIdentityPools/{call.inputs['workloadIdentityPoolId']}"


class Pool(DaemonAdapter):
    """`gcp.iam.WorkloadIdentityPool`."""

    kind = "workloadIdentityPool"
    shown = _SHOWN
    rules = Rules(replaces=frozenset({"project", "workloadIdentityPoolId", "mode"}))
    computed = frozenset({"mode"})

    def full_name(self, call: Call) -> str:
        return _pool(call)


class Provider(DaemonAdapter):
    """`gcp.iam.WorkloadIdentityPoolProvider` of kind `aws`."""

    kind = "workloadIdentityPoolProvider"
    shown = _SHOWN
    rules = Rules(replaces=frozenset({"project", "workloadIdentityPoolId", "workloadIdentityPoolProviderId"}))

    def check(self, call: Call) -> list[Failure]:
        return [
            Failure(name, "found a value; allowed in the sandbox: a provider of kind aws")
            for name in ("oidc", "saml", "x509")
            if call.inputs.get(name)
        ]

    def full_name(self, call: Call) -> str:
        return f"{_pool(call)}/providers/{call.inputs['workloadIdentityPoolProviderId']}"


ADAPTERS: dict[str, Adapter] = {
    "gcp:iam/workloadIdentityPool:WorkloadIdentityPool": Pool(),
    "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider": Provider(),
}
