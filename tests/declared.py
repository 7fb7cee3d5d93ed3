"""Runs a Pulumi program under mocks and gives what it declared. For tests of one component alone."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pulumi
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mailinfra.sandbox.providers.guard import ACCOUNT


def public_key(owner: str) -> str:
    """The public key that a KMS answers with for the key called `owner`: DER, base64."""
    number = int.from_bytes(hashlib.sha256(owner.encode()).digest()) % (1 << 200) + 1
    key = ec.derive_private_key(number, ec.SECP256R1()).public_key()
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(spki).decode()


@dataclass
class Declared:
    """One resource that a program declared; inputs are camelCase, as on the wire."""

    type: str
    name: str
    inputs: dict[str, Any]


@dataclass
class Program(pulumi.runtime.Mocks):
    """What a program declared, and the clouds' answers that it gets."""

    resources: list[Declared] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        """Every resource gets an id, and the outputs that others ask for."""
        self.resources.append(Declared(args.typ, args.name, dict(args.inputs)))
        number = len(self.resources)
        outputs = {
            "arn": f"arn:aws:test:::{args.name}",
            "keyId": f"key-{args.name}",
            "ipv6CidrBlock": f"2001:db8:{number:x}::/56"
            if args.typ == "aws:ec2/vpc:Vpc"
            else args.inputs.get("ipv6CidrBlock"),
            "publicIp": f"198.51.100.{number % 250}",
            "allocationId": f"eipalloc-{number}",
            "address": f"2001:db8:ffff::{number:x}"
            if args.inputs.get("ipVersion") == "IPV6"
            else f"198.51.100.{number % 250}",
            "email": f"{args.inputs.get('accountId')}@project.iam.gserviceaccount.com",
            "uniqueId": f"unique-{args.name}",
            "zoneId": f"Z{number}",
            "nameServers": [f"ns{n}.provider.test" for n in range(4)],
            "dsRecord": "12345 13 2 AB",
            "keyTag": 12345,
            "algorithm": "13",
            "digestType": "2",
            "digest": "AB",
            "name": args.name,
            "bucket": args.name,
        }
        known = {key: value for key, value in outputs.items() if value is not None}
        return f"{args.name}-id", {**known, **args.inputs}

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        """The clouds' answers to look-ups."""
        self.functions.append(args.token)
        answers: dict[str, dict[str, Any]] = {
            "aws:kms/getPublicKey:getPublicKey": {"publicKey": public_key(str(args.args.get("keyId")))},
            "aws:index/getCallerIdentity:getCallerIdentity": {"accountId": ACCOUNT},
            "aws:ec2/getAmi:getAmi": {"id": "ami-1"},
            "gcp:kms/getKMSCryptoKeyVersion:getKMSCryptoKeyVersion": {
                "publicKeys": [{"pem": pem(public_key(str(args.args.get("cryptoKey")))), "algorithm": ""}]
            },
            "gcp:organizations/getProject:getProject": {"number": "0"},
            "gcp:storage/getProjectServiceAccount:getProjectServiceAccount": {
                "emailAddress": "agent@gs.test"
            },
            "gcp:compute/getImage:getImage": {"selfLink": "images/debian-12"},
            "gcp:dns/getKeys:getKeys": {"keySigningKeys": [{"dsRecord": "12345 13 2 AB", "isActive": True}]},
        }
        if args.token not in answers:
            raise AssertionError(f"the program asked for {args.token}, which has no answer here")
        return answers[args.token]

    def of(self, token: str) -> list[Declared]:
        """The resources of one type, in the order of their names."""
        return sorted((r for r in self.resources if r.type == token), key=lambda r: r.name)

    def named(self, name: str) -> Declared:
        """The resource with this name; AssertionError with the names that there are."""
        found = [resource for resource in self.resources if resource.name == name]
        assert len(found) == 1, f"{name}: found {sorted(r.name for r in self.resources)}"
        return found[0]


def pem(key: str) -> str:
    """A base64 DER public key as PEM."""
    return f"-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n"


def declare(program: Callable[[], object]) -> Program:
    """What the program declares, all registrations finished. Errors of the program come through."""
    mocks = Program()
    pulumi.runtime.set_mocks(mocks, project="mailinfra", stack="test", preview=False)

    @pulumi.runtime.test
    def run() -> None:
        program()

    run()
    assert mocks.resources, "the program declared nothing"
    return mocks
