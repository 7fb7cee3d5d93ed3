"""The sandbox's network, seen from its machines: addresses, firewalls, metadata, and no way out."""

import base64
import json
import socket
import subprocess
from dataclasses import replace

import pytest

from mailinfra.sandbox.model import FirewallRule, MachineSpec
from mailinfra.sandbox.network import NAMESPACES, NetworkError, run_in_namespace
from tests.sandbox_helpers import Sandbox, eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ANYWHERE = ("0.0.0.0/0", "::/0")
OPEN, CLOSED = 8025, 8026
SERVERS = "\n".join(
    [
        "#!/bin/sh",
        *(
            f"systemd-run --quiet --unit=web{port} python3 -u -m http.server --bind :: --directory /srv {port}"
            for port in (25, OPEN, CLOSED)
        ),
    ]
)
USER_DATA = base64.b64encode(f"{SERVERS}\necho by-cloud-init > /srv/marker\n".encode()).decode()
STARTUP = base64.b64encode(f"{SERVERS}\necho by-guest-agent > /srv/marker\n".encode()).decode()

NEAR = MachineSpec(
    id="i-near",
    kind="aws",
    hostname="mx-1.eu-central-1.nodes.example.test",
    region="eu-central-1",
    country="DE",
    private_ipv4="203.0.113.4",
    public_ipv4="198.51.100.4",
    ipv6="2001:db8:a1::4",
    user_data=USER_DATA,
    firewall=(FirewallRule("tcp", (OPEN, OPEN), ANYWHERE),),
    egress_port_25=True,
    metadata={
        "account_id": "000000000000",
        "role": "mx",
        "tags": {"Name": "mx-1"},
        "instance_metadata_tags": True,
    },
)
MATE = replace(
    NEAR,
    id="i-mate",
    hostname="mx-2.eu-central-1.nodes.example.test",
    private_ipv4="203.0.113.5",
    public_ipv4=None,
    ipv6=None,
    egress_port_25=False,
    firewall=(FirewallRule("tcp", (OPEN, OPEN), ("203.0.113.0/27",)),),
    metadata={},
)
FAR = MachineSpec(
    id="mx-1",
    kind="gcp",
    hostname="mx-1.europe-west3.nodes.example.test",
    region="europe-west3",
    country="DE",
    private_ipv4="203.0.113.36",
    public_ipv4="198.51.100.130",
    ipv6="2001:db8:c1::4",
    user_data=STARTUP,
    firewall=(FirewallRule("tcp", (OPEN, OPEN), ("198.51.100.4/32", "2001:db8:a1::/48")),),
    egress_port_25=True,
    metadata={"instance": {"attributes": {"fleet": "sandbox"}}, "project": {"projectId": "mail-sandbox"}},
)
OUTSIDE = MachineSpec(
    id="outside-de",
    kind="outside",
    hostname="mail.outside-de.test",
    region="outside-de",
    country="DE",
    private_ipv4="192.0.2.101",
    ipv6="2001:db8:0:de::25",
    addresses=("192.0.2.102", "2001:db8:0:de::26"),
)


@pytest.fixture(scope="module")
def fleet(sandbox: Sandbox) -> Sandbox:
    """Two machines of one AWS region, one of GCP, one outside; the outside one serves on port 25 too."""
    sandbox.create(NEAR, MATE, FAR, OUTSIDE)
    sandbox.shell(OUTSIDE.id, SERVERS.partition("\n")[2] + "\necho outside > /srv/marker")
    for machine in (NEAR, MATE, FAR, OUTSIDE):
        assert eventually(lambda m=machine: reaches(sandbox, m.id, "127.0.0.1", OPEN)), machine.id
    return sandbox


def fetch(sandbox: Sandbox, machine: str, address: str, port: int = OPEN, seconds: float = 1.5) -> str | None:
    """What `machine` reads from another's web server; None when it is not reached."""
    host = f"[{address}]" if ":" in address else address
    done = sandbox.execute(
        machine, "curl", "--silent", "--max-time", str(seconds), f"http://{host}:{port}/marker", timeout=20
    )
    return str(done["stdout"]).strip() if done["code"] == 0 else None


def reaches(sandbox: Sandbox, machine: str, address: str, port: int) -> bool:
    return fetch(sandbox, machine, address, port) is not None


def peers(sandbox: Sandbox, machine: str, port: int = OPEN) -> str:
    """Whom the machine's web server has seen so far."""
    return sandbox.shell(machine, f"journalctl --unit=web{port} --no-pager --output=cat")


def test_user_data_and_startup_script_ran(fleet: Sandbox) -> None:
    assert fleet.shell(NEAR.id, "cat /srv/marker").strip() == "by-cloud-init"
    assert fleet.shell(FAR.id, "cat /srv/marker").strip() == "by-guest-agent"


def test_machines_have_an_identity_of_their_own(fleet: Sandbox) -> None:
    ids = {fleet.shell(machine.id, "cat /etc/machine-id").strip() for machine in (NEAR, MATE, FAR, OUTSIDE)}
    assert len(ids) == 4
    assert all(len(identity) == 32 for identity in ids)
    assert fleet.shell(NEAR.id, "hostname --fqdn").strip() == NEAR.hostname


def test_the_public_address_leads_to_the_machine_and_the_firewall_holds(fleet: Sandbox) -> None:
    assert fetch(fleet, OUTSIDE.id, "198.51.100.4") == "by-cloud-init"
    assert fetch(fleet, OUTSIDE.id, "198.51.100.4", CLOSED) is None
    assert fetch(fleet, OUTSIDE.id, "2001:db8:a1::4") == "by-cloud-init"
    assert fetch(fleet, OUTSIDE.id, "2001:db8:a1::4", CLOSED) is None
    assert "192.0.2.101" in peers(fleet, NEAR.id), "the sender's address must not be changed"


def test_a_machine_is_seen_by_its_public_address(fleet: Sandbox) -> None:
    assert fetch(fleet, NEAR.id, "192.0.2.101") == "outside"
    seen = peers(fleet, OUTSIDE.id)
    assert "::ffff:198.51.100.4 " in seen
    assert "203.0.113" not in seen


def test_another_cloud_sees_public_addresses_and_its_firewall_too(fleet: Sandbox) -> None:
    assert fetch(fleet, NEAR.id, "198.51.100.130") == "by-guest-agent"
    assert fetch(fleet, NEAR.id, "2001:db8:c1::4") == "by-guest-agent"
    assert fetch(fleet, OUTSIDE.id, "198.51.100.130") is None, "only the near machine's address is allowed"
    assert "::ffff:198.51.100.4 " in peers(fleet, FAR.id)


def test_private_addresses_work_inside_a_region_only(fleet: Sandbox) -> None:
    assert fetch(fleet, NEAR.id, MATE.private_ipv4) == "by-cloud-init"
    assert "::ffff:203.0.113.4 " in peers(fleet, MATE.id), "no translation inside a network"
    assert fetch(fleet, NEAR.id, FAR.private_ipv4) is None
    assert fetch(fleet, OUTSIDE.id, NEAR.private_ipv4) is None


def test_a_machine_without_a_public_address_does_not_get_out(fleet: Sandbox) -> None:
    assert fetch(fleet, MATE.id, "192.0.2.101") is None
    fleet.client.call("network.map_address", public="198.51.100.5", private=MATE.private_ipv4)
    try:
        assert fetch(fleet, MATE.id, "192.0.2.101") == "outside"
        assert fleet.client.call("machines.get", id=MATE.id)["public_ipv4"] == "198.51.100.5"
    finally:
        fleet.client.call("network.map_address", public="198.51.100.5", private=None)
    assert fetch(fleet, MATE.id, "192.0.2.101") is None


def test_port_25_out_is_for_aws_machines_that_may(fleet: Sandbox) -> None:
    assert fetch(fleet, NEAR.id, "192.0.2.101", 25) == "outside"
    assert fetch(fleet, NEAR.id, "2001:db8:0:de::25", 25) == "outside"
    assert fetch(fleet, FAR.id, "192.0.2.101", OPEN) == "outside"
    assert fetch(fleet, FAR.id, "192.0.2.101", 25) is None, (
        "GCP never lets port 25 out, whatever was asked for"
    )
    assert fetch(fleet, FAR.id, "2001:db8:0:de::25", 25) is None
    fleet.client.call("machines.update", spec=replace(NEAR, egress_port_25=False).to_json())
    try:
        assert fetch(fleet, NEAR.id, "192.0.2.101", 25) is None
    finally:
        fleet.client.call("machines.update", spec=NEAR.to_json())
    assert fetch(fleet, NEAR.id, "192.0.2.101", 25) == "outside"


def test_a_firewall_changes_in_place(fleet: Sandbox) -> None:
    closed = [{"protocol": "tcp", "ports": [CLOSED, CLOSED], "sources": ["192.0.2.0/24", "192.0.2.101/32"]}]
    fleet.client.call("network.set_firewall", id=NEAR.id, rules=closed)
    try:
        assert fetch(fleet, OUTSIDE.id, "198.51.100.4", CLOSED) == "by-cloud-init"
        assert fetch(fleet, OUTSIDE.id, "198.51.100.4", OPEN) is None
    finally:
        fleet.client.call("machines.update", spec=NEAR.to_json())
    assert fetch(fleet, OUTSIDE.id, "198.51.100.4", OPEN) == "by-cloud-init"


def test_further_addresses_lead_to_the_machine(fleet: Sandbox) -> None:
    assert fetch(fleet, NEAR.id, "192.0.2.102") == "outside"
    assert fetch(fleet, NEAR.id, "2001:db8:0:de::26") == "outside"


def test_a_machine_cannot_borrow_an_address(fleet: Sandbox) -> None:
    borrowed = "192.0.2.77"
    fleet.shell(OUTSIDE.id, f"ip addr add {borrowed}/32 dev eth0")
    try:
        before = fleet.shell(NEAR.id, "nstat -asz IpInReceives | tail -1")
        done = fleet.execute(
            OUTSIDE.id,
            "curl",
            "--silent",
            "--max-time",
            "1",
            "--interface",
            borrowed,
            f"http://198.51.100.4:{OPEN}/",
        )
        assert done["code"] != 0
        assert borrowed not in peers(fleet, NEAR.id)
        assert before.split()[1] == fleet.shell(NEAR.id, "nstat -asz IpInReceives | tail -1").split()[1]
    finally:
        fleet.shell(OUTSIDE.id, f"ip addr del {borrowed}/32 dev eth0")


def test_ec2_metadata_wants_a_token_and_knows_who_asks(fleet: Sandbox) -> None:
    base = "http://169.254.169.254/latest"
    code = "curl -s -o /dev/null -w '%{http_code}'"
    assert fleet.shell(NEAR.id, f"{code} {base}/meta-data/instance-id") == "401"
    assert fleet.shell(NEAR.id, f"{code} -X PUT {base}/api/token") == "400"
    token = f"T=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' {base}/api/token); "
    get = f'{token} curl -sf -H "X-aws-ec2-metadata-token: $T" {base}'
    assert fleet.shell(NEAR.id, f"{get}/meta-data/instance-id") == "i-near"
    assert fleet.shell(MATE.id, f"{get}/meta-data/instance-id") == "i-mate"
    assert fleet.shell(NEAR.id, f"{get}/meta-data/public-ipv4") == "198.51.100.4"
    assert fleet.shell(NEAR.id, f"{get}/meta-data/placement/region") == "eu-central-1"
    assert fleet.shell(NEAR.id, f"{get}/meta-data/tags/instance/Name") == "mx-1"
    assert fleet.shell(NEAR.id, f"{get}/user-data") == base64.b64decode(USER_DATA).decode()
    document = json.loads(fleet.shell(NEAR.id, f"{get}/dynamic/instance-identity/document"))
    assert (document["accountId"], document["privateIp"]) == ("000000000000", "203.0.113.4")
    token_of_near = fleet.shell(NEAR.id, f"{token} echo $T").strip()
    stolen = fleet.shell(MATE.id, f"{code} -H 'X-aws-ec2-metadata-token: {token_of_near}' {base}/meta-data/")
    assert stolen == "401", "a token is good for one server only"


def test_gce_metadata_wants_its_header_and_knows_who_asks(fleet: Sandbox) -> None:
    base = "http://metadata.google.internal/computeMetadata/v1"
    assert fleet.shell(FAR.id, f"curl -s -o /dev/null -w '%{{http_code}}' {base}/instance/name") == "403"
    get = f"curl -sf -H 'Metadata-Flavor: Google' {base}"
    assert fleet.shell(FAR.id, f"{get}/instance/name") == "mx-1"
    assert fleet.shell(FAR.id, f"{get}/instance/attributes/fleet") == "sandbox"
    assert fleet.shell(FAR.id, f"{get}/instance/attributes/").split() == ["fleet", "startup-script"]
    assert fleet.shell(FAR.id, f"{get}/project/project-id") == "mail-sandbox"
    outside = f"{get}/instance/network-interfaces/0/access-configs/0/external-ip"
    assert fleet.shell(FAR.id, outside) == "198.51.100.130"


def test_nothing_gets_out(fleet: Sandbox) -> None:
    router = f"{fleet.paths.id}-net"
    for family in ("-4", "-6"):
        routes = subprocess.run(
            ["ip", "-n", router, family, "route", "show", "table", "all"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "default" not in routes.replace("unreachable default", ""), routes
        assert " via " not in routes
    links = json.loads(
        subprocess.run(["ip", "-n", router, "-j", "link"], capture_output=True, text=True, check=True).stdout
    )
    own = {entry.name for entry in NAMESPACES.glob(f"{fleet.paths.id}-*")}
    ends = 0
    for name in own - {router}:
        inside = json.loads(
            subprocess.run(
                ["ip", "-n", name, "-j", "link"], capture_output=True, text=True, check=True
            ).stdout
        )
        assert sorted(link["ifname"] for link in inside) == ["eth0", "lo"]
        ends += 1
    # Every cable of the router's ends in one of the sandbox's machines, so none leads to the host.
    assert len(links) == ends + 1
    # TEST-NET-2, but nobody's: a documentation address that the host would hand to its own default route.
    with pytest.raises(OSError, match="unreachable"):
        run_in_namespace(NAMESPACES / router, socket.create_connection, ("198.51.100.250", 25), 2)
    assert fetch(fleet, OUTSIDE.id, "198.51.100.250", 25) is None
    done = fleet.execute(OUTSIDE.id, "ping", "-c1", "-W1", "198.51.100.250")
    assert done["code"] != 0


def test_the_host_connects_through_the_router(fleet: Sandbox) -> None:
    path = NAMESPACES / f"{fleet.paths.id}-net"
    with run_in_namespace(path, socket.create_connection, ("198.51.100.4", CLOSED), 5) as connection:
        assert connection.getpeername()[0] == "198.51.100.4"
    assert not any("198.51.100" in line for line in _host_addresses())
    with pytest.raises(NetworkError, match="does not exist"):
        run_in_namespace(NAMESPACES / "not-there", socket.socket)


def _host_addresses() -> list[str]:
    return subprocess.run(
        ["ip", "-o", "addr"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
