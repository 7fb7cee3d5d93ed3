"""MxRouting: one steering zone, with the MX hosts' health-checked answers."""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_aws as aws
import pulumi_gcp as gcp

from mailinfra.errors import ConfigError, Problem
from mailinfra.fleet import Fleet, SteeringProvider
from mailinfra.plan import FleetPlan, plan
from mailinfra.routing import CloudDnsSet, HealthProbe, Route53Set, SteeringPlan
from mailinfra_components.dns import CloudDnsZone, Route53Zone
from mailinfra_components.known import Answers, KnownArgs, value_keys
from mailinfra_components.options import Table, children, pick, received


class MxRoutingArgs(TypedDict):
    """Which of the fleet's steering zones, and what the clouds know of its nodes."""

    fleet: dict[str, Any]
    """The fleet's declaration, as in the stack's config."""
    label: str
    """The steering zone's label."""
    addresses: pulumi.Input[dict[str, dict[str, str]]]
    """Node FQDN to its addresses (`ipv4`, `ipv6`)."""
    ca: NotRequired[pulumi.Input[dict[str, str]]]
    """Region to its authority's public key (DER, base64): for the TLSA records of the MX hosts."""


class MxRouting(pulumi.ComponentResource):
    """A steering zone at Route 53 or Cloud DNS.

    The names that MX records point at, with weighted, geographic or latency answers from the healthy nodes of every
    cloud, and their TLSA records. It does not touch the parent zone: `MailRecords` delegates to it.
    """

    name_servers: pulumi.Output[list[str]]
    """The zone's name servers, with final dot."""
    signers: pulumi.Output[list[str]]
    """The zone's DS records, for the parent."""
    mx_hosts: pulumi.Output[list[str]]
    """The MX host names that the zone serves."""

    def __init__(self, name: str, args: MxRoutingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("mailinfra:index:MxRouting", name, {}, opts)
        args = received(args)
        fleet_plan = plan(Fleet.load(args["fleet"]))
        chosen = next((item for item in fleet_plan.steering if item.label == args["label"]), None)
        if chosen is None:
            labels = ", ".join(item.label for item in fleet_plan.steering)
            raise ConfigError([Problem("label", repr(args["label"]), labels)])
        addresses = Table(args["addresses"])
        dnssec = fleet_plan.fleet.dns.dnssec
        zone: Route53Zone | CloudDnsZone
        if chosen.provider is SteeringProvider.ROUTE53:
            zone = Route53Zone(name, chosen.zone, self, dnssec)
            self._route53(name, chosen, zone, addresses)
        else:
            zone = CloudDnsZone(name, chosen.zone, self, dnssec)
            self._clouddns(name, chosen, zone, addresses)
        if "ca" in args:
            self._static(fleet_plan, chosen, zone, {"ca": args["ca"], "addresses": args["addresses"]})
        self.name_servers = zone.name_servers
        self.signers = zone.signers
        self.mx_hosts = pulumi.Output.from_input(list(chosen.mx_hosts))
        self.register_outputs(
            {"name_servers": self.name_servers, "signers": self.signers, "mx_hosts": self.mx_hosts}
        )

    def _static(
        self, fleet_plan: FleetPlan, chosen: SteeringPlan, zone: Route53Zone | CloudDnsZone, known: KnownArgs
    ) -> None:
        answers = Answers(fleet_plan, known)
        for record in fleet_plan.records:
            if record.zone == chosen.zone:
                zone.add(record, answers.values(record), value_keys(fleet_plan, record))

    def _route53(
        self,
        name: str,
        chosen: SteeringPlan,
        zone: Route53Zone,
        addresses: Table,
    ) -> None:
        checks: dict[tuple[str, str], aws.route53.HealthCheck] = {
            (probe.host, probe.type): self._health_check(name, probe, addresses) for probe in chosen.probes
        }
        made: dict[str, list[pulumi.Resource]] = {}
        for item in chosen.route53:
            targets = made.get(item.alias, []) if item.alias else []
            record = aws.route53.Record(
                f"{name}-{item.key}",
                zone_id=zone.zone_id,
                name=item.name,
                type=item.type,
                set_identifier=item.set_identifier,
                **route53_answer(item, zone, checks, addresses),
                **route53_policy(item),
                opts=children(self, depends_on=targets),
            )
            made.setdefault(item.name, []).append(record)

    def _health_check(self, name: str, probe: HealthProbe, addresses: Table) -> aws.route53.HealthCheck:
        return aws.route53.HealthCheck(
            f"{name}-{probe.key}",
            type="TCP",
            ip_address=pick(addresses[probe.host], FAMILY[probe.type]),
            port=probe.port,
            request_interval=probe.interval_seconds,
            failure_threshold=probe.failures,
            tags={"Name": probe.key, "managed-by": "mailinfra"},
            opts=children(self),
        )

    def _clouddns(
        self,
        name: str,
        chosen: SteeringPlan,
        zone: CloudDnsZone,
        addresses: Table,
    ) -> None:
        probe = chosen.clouddns_probe
        if probe is None:
            raise ValueError(f"{name}: the plan of {chosen.zone} has no health check")
        check = gcp.compute.HealthCheck(
            f"{name}-smtp",
            name=f"{name}-smtp",
            check_interval_sec=probe.interval_seconds,
            timeout_sec=probe.timeout_seconds,
            unhealthy_threshold=probe.failures,
            healthy_threshold=1,
            source_regions=list(probe.source_regions),
            tcp_health_check={"port": probe.port},
            log_config={"enable": True},
            opts=children(self),
        )
        for item in chosen.clouddns:
            gcp.dns.RecordSet(
                f"{name}-{item.key}",
                managed_zone=zone.zone_id,
                name=f"{item.name}.",
                type=item.type,
                ttl=item.ttl,
                routing_policy=clouddns_policy(item, check.id, addresses),
                opts=children(self),
            )


FAMILY = {"A": "ipv4", "AAAA": "ipv6"}
"""Record type to the key of its address."""


def route53_answer(
    item: Route53Set,
    zone: Route53Zone,
    checks: Mapping[tuple[str, str], aws.route53.HealthCheck],
    addresses: Table,
) -> dict[str, Any]:
    """What a record set answers: a node's address while its health check passes, or another name of the zone."""
    if item.alias is not None:
        alias = {"name": item.alias, "zone_id": zone.zone_id, "evaluate_target_health": True}
        return {"aliases": [alias]}
    host = item.host or ""
    return {
        "ttl": item.ttl,
        "records": [pick(addresses[host], FAMILY[item.type])],
        "health_check_id": checks[host, item.type].id,
    }


def route53_policy(item: Route53Set) -> dict[str, Any]:
    """To whom a record set answers."""
    if item.weight is not None:
        return {"weighted_routing_policies": [{"weight": item.weight}]}
    if item.country is not None:
        return {"geolocation_routing_policies": [{"country": item.country}]}
    if item.continent is not None:
        return {"geolocation_routing_policies": [{"continent": item.continent}]}
    if item.latency_region is not None:
        return {"latency_routing_policies": [{"region": item.latency_region}]}
    return {}


def clouddns_policy(
    item: CloudDnsSet, check: pulumi.Output[str], addresses: Table
) -> gcp.dns.RecordSetRoutingPolicyArgs:
    """The routing policy of a Cloud DNS record set: geographic or weighted, with health-checked addresses."""

    def endpoints(hosts: tuple[str, ...]) -> list[pulumi.Output[str]]:
        return [pick(addresses[host], FAMILY[item.type]) for host in hosts]

    if item.kind == "geo":
        geos = [
            gcp.dns.RecordSetRoutingPolicyGeoArgs(
                location=entry.location or "",
                health_checked_targets=gcp.dns.RecordSetRoutingPolicyGeoHealthCheckedTargetsArgs(
                    external_endpoints=endpoints(entry.hosts)
                ),
            )
            for entry in item.items
        ]
        return gcp.dns.RecordSetRoutingPolicyArgs(geos=geos, health_check=check)
    wrrs = [
        gcp.dns.RecordSetRoutingPolicyWrrArgs(
            weight=entry.weight or 0.0,
            health_checked_targets=gcp.dns.RecordSetRoutingPolicyWrrHealthCheckedTargetsArgs(
                external_endpoints=endpoints(entry.hosts)
            ),
        )
        for entry in item.items
    ]
    return gcp.dns.RecordSetRoutingPolicyArgs(wrrs=wrrs, health_check=check)
