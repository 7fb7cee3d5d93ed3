"""A small fleet of real nodes for the node tests, made by hand: no Pulumi, only what the nodes themselves need."""

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailinfra.fleet import Cloud, Residency, Role, TlsVersion
from mailinfra.node.agent.bucket import Stored
from mailinfra.node.agent.issuer import certificate
from mailinfra.node.agent.node import Node, load
from mailinfra.node.agent.trust import anchors, common_name, pem, spki
from mailinfra.node.anchors import anchor_pem
from mailinfra.node.bootstrap import compressed, node_config, render
from mailinfra.node.pack import software
from mailinfra.node.spec import NodeSpec, SigningKey
from mailinfra.sandbox.control import ControlClient
from mailinfra.sandbox.model import FirewallRule, MachineSpec

DOMAIN = "example.test"
PASSWORD = "correct horse 7"
NODES = "eu-central-1.nodes.example.test"
HOST = f"edge-1.{NODES}"
PERMITTED = (NODES, "mx.example.test", "imap.eu.example.test")
WORLD = ("0.0.0.0/0", "::/0")
AWS_KEYS: dict[str, Any] = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


def node_spec(roles: Iterable[str], cloud: Cloud = Cloud.AWS, **changes: Any) -> NodeSpec:
    """A node of the fleet `example.test` in the zone `eu`, as the plans would describe it."""
    parts = {Role(role) for role in roles}
    group, region = changes.get("group", "edge"), changes.get("region", "eu-central-1")
    zone = changes.get("zone", "eu")
    services = ["mx1.aws.mx.example.test", "mta-sts.example.test"] if Role.MX in parts else []
    names = {Role.SUBMISSION: "smtp", Role.EGRESS: "egress", Role.IMAP: "imap", Role.POP3: "pop3"}
    services += [f"{names[role]}.{zone}.{DOMAIN}" for role in Role if role in parts and role in names]
    spec = NodeSpec(
        fleet="test",
        cloud=cloud,
        region=region,
        zone=zone,
        group=group,
        hostname=f"{group}-1.{region}.nodes.{DOMAIN}",
        roles=tuple(role for role in Role if role in parts),
        domains=(DOMAIN,),
        residency=Residency.STRICT,
        control_bucket=f"test-{region}-control",
        ca_key="",
        service_names=tuple(services),
        egress_hosts=(f"egress.{zone}.{DOMAIN}",),
        signing=SigningKey(f"{region}-1", "arn:aws:kms:eu-central-1:000000000000:key/1"),
        clients_tls=TlsVersion.TLS13,
        internet_tls=TlsVersion.TLS12,
        message_bytes=52_428_800,
        recipients=1000,
        queue_hours=120,
        mta_sts_policy="version: STSv1\nmode: enforce\nmx: *.mx.example.test\nmax_age: 604800\n",
        data_device="/dev/sdf" if Role.MAILBOX in parts else "",
        endpoints={},
    )
    return replace(spec, **changes)


class Authority:
    """A region's CA key, here in memory, and its anchor."""

    def __init__(
        self,
        name: str = "test eu-central-1",
        names: tuple[str, ...] = PERMITTED,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.text = anchor_pem(name, spki(self.key.public_key()), names)
        self.anchor = anchors(self.text.encode())[0]

    def sign(self, data: bytes) -> bytes:
        """What KMS would do."""
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))

    def issue(self, folder: Path, name: str, *names: str) -> tuple[Path, Path]:
        """A certificate with its anchor, and its key, as files; without the issuer's own checks."""
        key = ec.generate_private_key(ec.SECP256R1())
        entitled = names or (HOST,)
        free = anchor_pem(common_name(self.anchor), spki(self.key.public_key()), ("test",))
        now = datetime.now(UTC)
        leaf = certificate(anchors(free.encode())[0], self.sign, key.public_key(), entitled, now)
        cert, secret = folder / f"{name}.pem", folder / f"{name}.key"
        cert.write_bytes(pem(leaf) + self.text.encode())
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return cert, secret


class MemoryBucket:
    """A control bucket in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.puts = 0

    def get(self, key: str, known: str = "") -> Stored | None:
        """See `mailinfra.node.agent.bucket.Bucket`."""
        data = self.objects[key]
        version = hashlib.sha256(data).hexdigest()
        return None if version == known else Stored(data, version)

    def put(self, key: str, data: bytes) -> None:
        """See `mailinfra.node.agent.bucket.Bucket`."""
        self.objects[key] = data
        self.puts += 1

    def list(self, prefix: str) -> dict[str, str]:
        """See `mailinfra.node.agent.bucket.Bucket`."""
        found = {key: data for key, data in self.objects.items() if key.startswith(prefix)}
        return {key: hashlib.sha256(data).hexdigest() for key, data in found.items()}


def agent_node(folder: Path, roles: Iterable[str] = ("mx",), **changes: Any) -> Node:
    """A node as its agent sees it, with its state in a folder."""
    config = folder / "node.json"
    config.write_text(json.dumps({**node_config(node_spec(roles)), "state": str(folder)}))
    node = load(config)
    config.unlink()
    node.tls.mkdir(exist_ok=True)
    (folder / "directory").mkdir(exist_ok=True)
    return replace(node, **changes)


@dataclass
class Place:
    """A machine of the fleet: its node, its addresses."""

    spec: NodeSpec
    private: str
    public: str
    country: str

    @property
    def id(self) -> str:
        """The machine's id in the sandbox."""
        return f"{self.spec.region}-{self.spec.hostname.partition('.')[0]}"


class NodeFleet:
    """Nodes of one or more AWS regions, with keys, buckets, names and a directory. Users are `<name>@example.test`."""

    def __init__(self, client: ControlClient, nodes: list[Place], users: dict[str, Place]) -> None:
        self.client, self.nodes, self.users = client, nodes, users
        self.replicas: dict[str, str] = {}
        """The hosts of mailbox nodes' replicas, by their own."""
        self.endpoint: str = client.call("aws.info")["endpoint"]

    def aws(self, service: str, region: str) -> Any:
        """A boto3 client of the sandbox's AWS."""
        import boto3

        return boto3.client(service, region_name=region, endpoint_url=self.endpoint, **AWS_KEYS)

    @cached_property
    def regions(self) -> list[str]:
        """The fleet's regions."""
        return list(dict.fromkeys(node.spec.region for node in self.nodes))

    def prepare(self) -> None:
        """Make keys, buckets, trust, names and the directory, and fill in what the nodes are told of them."""
        anchors = ""
        for region in self.regions:
            kms = self.aws("kms", region)
            usage = {"KeyUsage": "SIGN_VERIFY"}
            ca = kms.create_key(KeySpec="ECC_NIST_P256", **usage)["KeyMetadata"]
            dkim = kms.create_key(KeySpec="RSA_2048", **usage)["KeyMetadata"]["Arn"]
            public = kms.get_public_key(KeyId=ca["Arn"])["PublicKey"]
            zone = next(node.spec.zone for node in self.nodes if node.spec.region == region)
            services = [f"{name}.{zone}.{DOMAIN}" for name in ("imap", "pop3", "smtp", "egress")]
            permitted = [f"{region}.nodes.{DOMAIN}", f"mx.{DOMAIN}", f"mta-sts.{DOMAIN}", *services]
            anchors += anchor_pem(f"test {region}", public, permitted)
            local = [node for node in self.nodes if node.spec.region == region]
            for node in local:
                endpoints = {
                    name: f"https://{host}.{region}.aws.test"
                    for name, host in (("kms", "kms"), ("storage", "s3"))
                }
                issuer = node is local[0]
                node.spec = replace(
                    node.spec,
                    endpoints=endpoints,
                    signing=SigningKey(f"{region}-1", dkim),
                    ca_key=ca["Arn"] if issuer else "",
                    entitlements={item.spec.group: item.spec.service_names for item in local}
                    if issuer
                    else {},
                )
            selector = base64.b64encode(kms.get_public_key(KeyId=dkim)["PublicKey"]).decode()
            self.dkim = {**getattr(self, "dkim", {}), f"{region}-1": selector}
        for region in self.regions:
            iam, s3 = self.aws("iam", region), self.aws("s3", region)
            place = (
                {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            )
            s3.create_bucket(Bucket=f"test-{region}-control", **place)
            trust = {
                "Effect": "Allow",
                "Principal": {"Service": "ec2.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
            document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
            iam.create_role(RoleName=f"test-{region}", AssumeRolePolicyDocument=document)
            allow = [{"Effect": "Allow", "Action": ["s3:*", "kms:Sign"], "Resource": "*"}]
            policy = json.dumps({"Version": "2012-10-17", "Statement": allow})
            iam.put_role_policy(RoleName=f"test-{region}", PolicyName="node", PolicyDocument=policy)
            self.put(region, "trust/anchors.pem", anchors)
            self.put(region, software().key, software().text)
        self.publish()
        self.name()

    def put(self, region: str, key: str, text: str) -> None:
        """Write into a region's control bucket."""
        self.aws("s3", region).put_object(Bucket=f"test-{region}-control", Key=key, Body=text.encode())

    def publish(self, more: Iterable[dict[str, Any]] = ()) -> None:
        """Publish the directory: the users, and more routes."""
        hashed = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
        routes = [
            {
                "address": f"{user}@{DOMAIN}",
                "kind": "user",
                "user": f"{user}@{DOMAIN}",
                "home": node.spec.region,
                "zone": node.spec.zone,
                "mailbox_host": node.spec.hostname,
                **({"replica": host} if (host := self.replicas.get(node.spec.hostname)) else {}),
            }
            for user, node in self.users.items()
        ]
        for region in self.regions:
            zone = next(node.spec.zone for node in self.nodes if node.spec.region == region)
            accounts = [
                {
                    "user": f"{user}@{DOMAIN}",
                    "password": "{ARGON2ID}" + hashed,
                    "senders": [f"{user}@{DOMAIN}"],
                    "quota_bytes": 0,
                    "enabled": True,
                }
                for user, node in self.users.items()
                if node.spec.zone == zone
            ]
            self.put(
                region, "directory/accounts.jsonl", "".join(json.dumps(item) + "\n" for item in accounts)
            )
            self.put(
                region,
                "directory/routes.jsonl",
                "".join(json.dumps(item) + "\n" for item in [*routes, *more]),
            )

    def name(self) -> None:
        """Put the fleet's names into the DNS."""
        self.client.call("dns.put_zone", provider="cloudflare", zone=DOMAIN)
        records: list[dict[str, Any]] = []
        for node in self.nodes:
            for name in (node.spec.hostname, *node.spec.service_names):
                records.append({"name": name, "type": "A", "content": node.public, "ttl": 60})
            self.client.call("dns.set_ptr", address=node.public, name=node.spec.hostname)
        records.append(
            {"name": DOMAIN, "type": "MX", "content": "mx1.aws.mx.example.test", "priority": 10, "ttl": 60}
        )
        senders = " ".join(f"ip4:{node.public}" for node in self.nodes if Role.EGRESS in node.spec.roles)
        records.append({"name": DOMAIN, "type": "TXT", "content": f'"v=spf1 {senders} -all"', "ttl": 60})
        for selector, key in self.dkim.items():
            text = f"v=DKIM1; k=rsa; p={key}"
            quoted = " ".join(f'"{text[at : at + 250]}"' for at in range(0, len(text), 250))
            records.append(
                {"name": f"{selector}._domainkey.{DOMAIN}", "type": "TXT", "content": quoted, "ttl": 60}
            )
        records.append(
            {"name": f"_dmarc.{DOMAIN}", "type": "TXT", "content": '"v=DMARC1; p=reject"', "ttl": 60}
        )
        for number, record in enumerate(records):
            record["id"] = f"r{number}"
        self.client.call("dns.put_records", provider="cloudflare", zone=DOMAIN, records=records)
        self.client.call("dns.set_dnssec", provider="cloudflare", zone=DOMAIN, on=True)

    def machine(self, node: Place) -> MachineSpec:
        """The machine of a node, as the components would ask for it."""
        ports = {
            Role.MX: (25, 443),
            Role.SUBMISSION: (465, 587),
            Role.IMAP: (993,),
            Role.POP3: (995,),
            Role.EGRESS: (2526,),
            Role.MAILBOX: (2525, 2527, 993, 995),
        }
        fleet = tuple(f"{item.public}/32" for item in self.nodes)
        rules = tuple(
            FirewallRule("tcp", (port, port), fleet if role in (Role.EGRESS, Role.MAILBOX) else WORLD)
            for role in node.spec.roles
            for port in ports[role]
        )
        return MachineSpec(
            id=node.id,
            kind="aws",
            hostname=node.spec.hostname,
            region=node.spec.region,
            country=node.country,
            private_ipv4=node.private,
            public_ipv4=node.public,
            user_data=base64.b64encode(compressed(render(node.spec))).decode(),
            metadata={"role": f"test-{node.spec.region}", "account_id": "000000000000"},
            firewall=rules,
            egress_port_25=Role.EGRESS in node.spec.roles,
            volumes={f"{node.id}-mail": "/dev/sdf"} if Role.MAILBOX in node.spec.roles else {},
        )

    def boot(self) -> None:
        """Create every machine, and wait until all have booted."""
        for node in self.nodes:
            self.client.call("machines.create", spec=self.machine(node).to_json())
        for node in self.nodes:
            self.client.call("machines.wait", id=node.id, states=["running", "failed"])

    def run(self, machine: str, *command: str, timeout: float = 60, stdin: str = "") -> tuple[int, str]:
        """Run a command on a machine: its exit code, and what it printed."""
        done = self.client.call(
            "machines.execute", id=machine, command=list(command), timeout=timeout, stdin=stdin
        )
        return done["code"], done["stdout"] + done["stderr"]

    def shell(self, machine: str, command: str, timeout: float = 60) -> str:
        """What a shell command prints on a machine; it has to succeed."""
        code, text = self.run(machine, "sh", "-c", command, timeout=timeout)
        assert code == 0, f"{machine}: {command}: {code}\n{text}"
        return text


def until(check: Callable[[], Any], seconds: float, what: str) -> Any:
    """What `check` gives as soon as it is true; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, f"after {seconds:g} s: {what}"
        time.sleep(0.5)
    return found
