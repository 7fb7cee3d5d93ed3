"""The outside hosts and their DNS."""

import hashlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mailinfra.sandbox.dns import outside, zones
from mailinfra.sandbox.dns.zones import Declared
from mailinfra.sandbox.pki import Authority


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, str]:
    authority = Authority.ensure(tmp_path)
    return {host.id: authority.issue([host.fqdn])[0].read_text() for host in outside.OUTSIDE_HOSTS}


def test_they_are_in_at_least_two_countries() -> None:
    assert len({host.country for host in outside.OUTSIDE_HOSTS}) >= 2
    assert {place.country for place in outside.locations().values()} == {
        h.country for h in outside.OUTSIDE_HOSTS
    }


def test_names_and_addresses_confirm_each_other(certificates: dict[str, str]) -> None:
    declared = Declared(
        hosts=outside.records(certificates), pointers=outside.pointers(), locations=outside.locations()
    )
    plan = zones.plan(declared)
    top = {(r.name, r.rtype): r.contents for r in plan.zones["root", zones.TLD].rrsets}
    for host in outside.OUTSIDE_HOSTS:
        assert top[f"{host.domain}.", "MX"] == (f"10 {host.fqdn}.",)
        assert top[f"{host.fqdn}.", "A"] == (host.ipv4,)
        assert top[f"{host.fqdn}.", "AAAA"] == (host.ipv6,)
        for address in (host.ipv4, host.ipv6):
            assert outside.pointers()[address] == f"{host.fqdn}."


def test_the_tlsa_record_is_of_the_certificates_key(certificates: dict[str, str]) -> None:
    for host in outside.OUTSIDE_HOSTS:
        key = x509.load_pem_x509_certificate(certificates[host.id].encode()).public_key()
        der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        record = outside.records(certificates)[f"_25._tcp.{host.fqdn}."][0]
        assert record["values"] == [f"3 1 1 {hashlib.sha256(der).hexdigest()}"]


def test_the_private_key_is_readable_by_root_only() -> None:
    spec = outside.machine(outside.OUTSIDE_HOSTS[0], "CERTIFICATE", "KEY", "AUTHORITY")
    held = [(path, file.mode) for path, file in spec.files.items() if b"KEY" in file.data()]
    assert held == [("/etc/postfix/tls.pem", 0o600)]
    assert spec.files[outside.AUTHORITIES].data() == b"AUTHORITY"
    assert "$" not in spec.files["/etc/postfix/main.cf"].data().decode()
