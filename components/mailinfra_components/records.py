"""MailRecords: the parent zones of the mail domains and every static record in them."""

from typing import Any, NotRequired, TypedDict

import pulumi

from mailinfra.fleet import Fleet
from mailinfra.plan import plan
from mailinfra_components.dns import DnsZone, zone
from mailinfra_components.known import Answers, KnownArgs, value_keys
from mailinfra_components.options import received


class MailRecordsArgs(TypedDict):
    """The fleet and what the clouds know of it."""

    fleet: dict[str, Any]
    """The fleet's declaration, as in the stack's config."""
    addresses: pulumi.Input[dict[str, dict[str, str]]]
    """Node FQDN to its addresses (`ipv4`, `ipv6`)."""
    dkim: pulumi.Input[dict[str, str]]
    """Selector to DKIM public key (DER, base64)."""
    ca: NotRequired[pulumi.Input[dict[str, str]]]
    """Region to its authority's public key (DER, base64)."""
    name_servers: pulumi.Input[dict[str, list[str]]]
    """Steering zone to its name servers."""
    signers: pulumi.Input[dict[str, list[str]]]
    """Steering zone to its DS records."""


class MailRecords(pulumi.ComponentResource):
    """The zones of the mail domains at Cloudflare, Route 53 or Cloud DNS.

    MX, SPF, DKIM, DMARC, MTA-STS, TLS-RPT, client autoconfiguration, the nodes' names and the delegation of the
    steering zones. It does not register domains: its name servers and DS records are to be told to the registrar.
    """

    name_servers: pulumi.Output[dict[str, list[str]]]
    """Domain to the name servers that the registrar must be told; none for a zone that existed before."""
    signers: pulumi.Output[dict[str, list[str]]]
    """Domain to the DS records that the registrar must be told; none for a zone that existed before."""

    def __init__(self, name: str, args: MailRecordsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("mailinfra:index:MailRecords", name, {}, opts)
        args = received(args)
        fleet_plan = plan(Fleet.load(args["fleet"]))
        dns = fleet_plan.fleet.dns
        zones: dict[str, DnsZone] = {
            domain: zone(
                dns.parent.provider,
                f"{name}-{domain.replace('.', '-')}",
                domain,
                self,
                dnssec=dns.dnssec,
                account_id=dns.parent.account_id,
                existing=dns.parent.existing.get(domain, ""),
            )
            for domain in fleet_plan.fleet.domains
        }
        known: KnownArgs = {
            "addresses": args["addresses"],
            "dkim": args["dkim"],
            "name_servers": args["name_servers"],
            "signers": args["signers"],
        }
        if "ca" in args:
            known["ca"] = args["ca"]
        answers = Answers(fleet_plan, known)
        self.of_name: dict[str, list[pulumi.Resource]] = {}
        for record in fleet_plan.records:
            if record.zone in zones:
                self.of_name.setdefault(record.name, []).extend(
                    zones[record.zone].add(record, answers.values(record), value_keys(fleet_plan, record))
                )
        self.name_servers = pulumi.Output.all(**{domain: made.name_servers for domain, made in zones.items()})
        self.signers = pulumi.Output.all(**{domain: made.signers for domain, made in zones.items()})
        self.register_outputs({"name_servers": self.name_servers, "signers": self.signers})
