"""Cloud DNS's types."""

from mailinfra.sandbox.providers.base import Call
from mailinfra.sandbox.providers.checks import Failure
from mailinfra.sandbox.providers.diffs import Change, Rules
from mailinfra.sandbox.providers.gcp.common import LABELLED, DaemonAdapter, labels, nested, setting
from mailinfra.sandbox.providers.values import Object


class ManagedZone(DaemonAdapter):
    """`gcp.dns.ManagedZone`."""

    kind = "managedZone"
    shown = frozenset({"managedZoneId", "creationTime", "nameServers", "project"})
    volatile = LABELLED
    rules = Rules(replaces=frozenset({"dnsName", "name", "visibility", "project"}))

    def full_name(self, call: Call) -> str:
        return f"projects/{setting(call, 'project')}/managedZones/{call.inputs['name']}"

    def outputs(self, call: Call, answer: Object) -> Object:
        return super().outputs(call, answer) | labels(call)


class RecordSet(DaemonAdapter):
    """`gcp.dns.RecordSet`. A new type makes a new record set, where the real provider changes it in one step."""

    kind = "recordSet"
    rules = Rules(
        replaces=frozenset({"managedZone", "name", "project", "type"}), unordered=frozenset({"rrdatas"})
    )

    def full_name(self, call: Call) -> str:
        project = setting(call, "project")
        zone = call.inputs["managedZone"].rsplit("/", 1)[-1]
        return f"projects/{project}/managedZones/{zone}/rrsets/{call.inputs['name']}/{call.inputs['type']}"

    def replaced_by(self, call: Call, changes: list[Change]) -> frozenset[str]:
        return nested(changes, frozenset({"routingPolicy.healthCheck"}))

    def check(self, call: Call) -> list[Failure]:
        given = [field for field in ("rrdatas", "routingPolicy") if field in call.inputs]
        if len(given) == 1:
            return []
        found = " and ".join(given) or "neither"
        return [Failure("rrdatas", f"found {found}; allowed: one of rrdatas and routingPolicy")]

    def outputs(self, call: Call, answer: Object) -> Object:
        return {"project": answer["outputs"]["zone"].split("/")[1]}


ADAPTERS = {
    "gcp:dns/managedZone:ManagedZone": ManagedZone(),
    "gcp:dns/recordSet:RecordSet": RecordSet(),
}
