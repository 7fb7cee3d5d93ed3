"""Hosts outside the fleet: mail servers of other domains in two countries, which send to the fleet and
receive from it.

Each has a validating resolver of its own and a Postfix that sends with DANE where a domain publishes it, and
keeps whatever comes for its domain in the maildir `/var/mail/outside/inbox`. `verify-message` on it judges a
message as a receiver would (DKIM twice over, SPF, DMARC). `public-authorities.pem` is what it trusts as
browsers trust the public authorities; the probe adds the fleet's anchors there.
"""

from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from mailinfra.sandbox.dns import geo
from mailinfra.sandbox.dns.internet import text
from mailinfra.sandbox.model import MachineFile, MachineSpec

AUTHORITIES = "/etc/mailinfra-sandbox/public-authorities.pem"
INBOX = "/var/mail/outside/inbox"
VERIFIER = "/usr/local/bin/verify-message"


@dataclass(frozen=True)
class OutsideHost:
    """A mail host outside. `domain` is the domain whose mail it sends and receives."""

    id: str
    domain: str
    country: str
    ipv4: str
    ipv6: str

    @property
    def fqdn(self) -> str:
        """Its host name."""
        return f"mail.{self.domain}"


OUTSIDE_HOSTS = (
    OutsideHost("outside-de", "outside-de.test", "DE", "192.0.2.101", "2001:db8:0:de::25"),
    OutsideHost("outside-us", "outside-us.test", "US", "192.0.2.102", "2001:db8:0:5::25"),
)


def locations() -> dict[str, geo.Location]:
    """Where they are, for GeoIP."""
    return {
        network: geo.location(host.country)
        for host in OUTSIDE_HOSTS
        for network in (f"{host.ipv4}/32", f"{host.ipv6}/128")
    }


def pointers() -> dict[str, str]:
    """Their reverse names."""
    return {a: f"{host.fqdn}." for host in OUTSIDE_HOSTS for a in (host.ipv4, host.ipv6)}


def records(certificates: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Their DNS: MX, addresses, SPF, DMARC, and TLSA over the certificates (PEM by host id)."""
    found: dict[str, list[dict[str, Any]]] = {}
    for host in OUTSIDE_HOSTS:
        found[f"{host.domain}."] = [
            {"type": "MX", "values": [f"10 {host.fqdn}."]},
            {"type": "TXT", "values": [f"v=spf1 a:{host.fqdn} -all"]},
        ]
        found[f"_dmarc.{host.domain}."] = [{"type": "TXT", "values": ["v=DMARC1; p=none"]}]
        found[f"{host.fqdn}."] = [
            {"type": "A", "values": [host.ipv4]},
            {"type": "AAAA", "values": [host.ipv6]},
        ]
        found[f"_25._tcp.{host.fqdn}."] = [{"type": "TLSA", "values": [_tlsa(certificates[host.id])]}]
    return found


def _tlsa(certificate: str) -> str:
    """DANE-EE over the key: `3 1 1` (RFC 7672 3.1.1)."""
    key = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    digest = hashes.Hash(hashes.SHA256())
    digest.update(
        key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return f"3 1 1 {digest.finalize().hex()}"


def machine(host: OutsideHost, certificate: str, key: str, authority: str) -> MachineSpec:
    """One outside host, with its TLS certificate and key and the authority that it trusts at first (all PEM)."""
    return MachineSpec(
        id=host.id,
        kind="outside",
        hostname=host.fqdn,
        region=host.id,
        country=host.country,
        private_ipv4=host.ipv4,
        ipv6=host.ipv6,
        files={
            AUTHORITIES: MachineFile.text(authority),
            "/etc/postfix/main.cf": MachineFile.text(
                text("image/outside-main.cf", host=host.fqdn, domain=host.domain)
            ),
            "/etc/postfix/mailboxes": MachineFile.text("/./ inbox/\n"),
            "/etc/postfix/tls.pem": MachineFile.text(key + certificate, 0o600),
            "/etc/mailname": MachineFile.text(host.domain + "\n"),
            "/etc/tmpfiles.d/outside.conf": MachineFile.text("d /var/mail/outside 0770 mail mail\n"),
            VERIFIER: MachineFile.text(text("verify_message.py"), 0o755),
        },
        units=("unbound.service", "postfix.service"),
    )
