"""Whom the fleet's nodes trust: one authority for each region, good for that region's names only."""

import base64
from collections.abc import Mapping

from mailinfra import names
from mailinfra.fleet import Fleet
from mailinfra.node.anchors import anchor_pem


def authority_name(fleet: Fleet, region: str) -> str:
    """The common name of a region's authority."""
    return f"{fleet.name} {region}"


def permitted_names(fleet: Fleet, region: str) -> tuple[str, ...]:
    """The DNS names, each with everything below it, that a region's authority may certify (RFC 5280 4.2.1.10):
    its own nodes, and what every region serves."""
    zone = fleet.region(region).zone
    return (
        names.nodes_domain(fleet, region),
        f"mx.{fleet.primary_domain}",
        *(names.service_host(fleet, service, zone) for service in names.SERVICES),
        *(names.mta_sts_host(domain) for domain in fleet.domains),
    )


def anchors(fleet: Fleet, public_keys: Mapping[str, str]) -> str:
    """The trust anchors of all regions, PEM, in the config's order.

    `public_keys` maps a region to its authority's public key (SubjectPublicKeyInfo, DER, base64).
    """
    return "".join(
        anchor_pem(
            authority_name(fleet, region.region),
            base64.b64decode(public_keys[region.region]),
            permitted_names(fleet, region.region),
        )
        for region in fleet.regions
    )
