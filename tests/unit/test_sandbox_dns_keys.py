"""Keys: what is told of them is what a validator computes."""

import base64

import dns.dnssec
import dns.name
import dns.rdata
from cryptography.hazmat.primitives.asymmetric import ec

from mailinfra.sandbox.dns.keys import ZoneKey


def test_the_public_half_belongs_to_the_private_one() -> None:
    key = ZoneKey.make()
    lines = dict(line.split(": ", 1) for line in key.private_key_file().splitlines())
    number = int.from_bytes(base64.b64decode(lines["PrivateKey"]), "big")
    point = ec.derive_private_key(number, ec.SECP256R1()).public_key().public_numbers()
    assert base64.b64decode(key.public_key()) == point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")
    assert lines["Algorithm"].startswith("13 ")


def test_the_ds_is_that_of_the_dnskey() -> None:
    key = ZoneKey.make()
    dnskey = dns.rdata.from_text("IN", "DNSKEY", key.dnskey())
    ds = dns.rdata.from_text("IN", "DS", key.ds_value("example.test."))
    assert ds == dns.dnssec.make_ds(dns.name.from_text("example.test."), dnskey, "SHA256")


def test_no_two_keys_are_alike_and_a_key_stays_what_it_is() -> None:
    key = ZoneKey.make()
    assert key != ZoneKey.make()
    assert ZoneKey(key.secret).ds_value("a.test.") == key.ds_value("a.test.")
    assert key.ds_value("a.test.") != key.ds_value("b.test.")
