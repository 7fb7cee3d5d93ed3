"""DNSSEC keys of the sandbox's zones: one ECDSA P-256 key a zone signs everything (algorithm 13, RFC 6605).

The keys are made here, not on the name server, so that a zone's DS record is known before any machine boots
and stays the same when the name server's machine is made anew.
"""

import base64
from dataclasses import dataclass

import dns.dnssec
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from cryptography.hazmat.primitives.asymmetric import ec

ALGORITHM = 13
DIGEST_TYPE = 2  # SHA-256
FLAGS = 257  # zone key, secure entry point
PROTOCOL = 3


@dataclass(frozen=True)
class ZoneKey:
    """A zone's private key: the secret number, 32 octets, base64."""

    secret: str

    @classmethod
    def make(cls) -> "ZoneKey":
        """A fresh key."""
        number = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
        return cls(base64.b64encode(number.to_bytes(32, "big")).decode())

    def private_key_file(self) -> str:
        """The key in the form that BIND writes and PowerDNS imports."""
        return (
            f"Private-key-format: v1.2\nAlgorithm: {ALGORITHM} (ECDSAP256SHA256)\nPrivateKey: {self.secret}\n"
        )

    def public_key(self) -> str:
        """The public key as a DNSKEY record has it, base64 (RFC 6605 4)."""
        number = int.from_bytes(base64.b64decode(self.secret), "big")
        point = ec.derive_private_key(number, ec.SECP256R1()).public_key().public_numbers()
        return base64.b64encode(point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")).decode()

    def dnskey(self) -> str:
        """The DNSKEY record's value."""
        return f"{FLAGS} {PROTOCOL} {ALGORITHM} {self.public_key()}"

    def ds(self, zone: str) -> tuple[int, str]:
        """Key tag and SHA-256 digest (hex, upper case) of the zone's DS record."""
        rdata = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.DNSKEY, self.dnskey())
        made = dns.dnssec.make_ds(dns.name.from_text(zone), rdata, "SHA256")
        return int(made.key_tag), made.digest.hex().upper()

    def ds_value(self, zone: str) -> str:
        """The DS record's value: `12345 13 2 HEX`."""
        tag, digest = self.ds(zone)
        return f"{tag} {ALGORITHM} {DIGEST_TYPE} {digest}"
