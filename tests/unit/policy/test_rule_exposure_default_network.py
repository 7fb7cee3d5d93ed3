"""Nothing uses a default network, group or identity."""

from typing import Any

import pytest

from mailinfra_policy.rules.exposure_default_network import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource

NEVER = {"aws:ec2/defaultVpc:DefaultVpc", "aws:ec2/defaultSubnet:DefaultSubnet"}
EMAIL = "mail@example-mail.iam.gserviceaccount.com"
NETWORK = resource("gcp:compute/network:Network", "net", {"name": "mail", "autoCreateSubnetworks": False})
NODE_PROPS: dict[str, Any] = {
    "networkInterfaces": [{"subnetwork": "subnet-id"}],
    "serviceAccount": {"email": EMAIL},
}
NODE = resource("gcp:compute/instance:Instance", "node", NODE_PROPS)
AWS_NODE = resource(
    "aws:ec2/instance:Instance", "node", {"subnetId": "subnet-1", "vpcSecurityGroupIds": ["sg-1"]}
)
FIREWALL = resource("gcp:compute/firewall:Firewall", "wall", {"network": "net-id"})
DEFAULT = resource("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup", "default", {"vpcId": "vpc-1"})
GROUPS = {"dbSubnetGroupName": "mail", "vpcSecurityGroupIds": ["sg-1"]}
RUN = resource("gcp:cloudrunv2/service:Service", "run", {"template": {"serviceAccount": EMAIL}})
GOOD = (
    [NETWORK, NODE, FIREWALL],
    [AWS_NODE, DEFAULT],
    [
        resource("aws:ec2/securityGroup:SecurityGroup", "group", {"vpcId": "vpc-1"}),
        resource("aws:rds/instance:Instance", "db", GROUPS),
        resource("aws:rds/cluster:Cluster", "db", GROUPS),
        resource(
            "aws:redshift/cluster:Cluster",
            "db",
            {"clusterSubnetGroupName": "a", "vpcSecurityGroupIds": ["sg-1"]},
        ),
        resource(
            "aws:elasticache/replicationGroup:ReplicationGroup",
            "cache",
            {"subnetGroupName": "a", "securityGroupIds": ["sg-1"]},
        ),
        resource("aws:efs/mountTarget:MountTarget", "mount", {"securityGroups": ["sg-1"]}),
        resource("aws:lb/loadBalancer:LoadBalancer", "lb", {"securityGroups": ["sg-1"]}),
    ],
    [
        resource("gcp:compute/instanceTemplate:InstanceTemplate", "t", NODE_PROPS),
        resource("gcp:compute/regionInstanceTemplate:RegionInstanceTemplate", "t", NODE_PROPS),
    ],
    [
        resource("gcp:compute/subnetwork:Subnetwork", "s", {"network": "net-id"}),
        resource("gcp:compute/route:Route", "s", {"network": "net-id"}),
        resource("gcp:compute/router:Router", "s", {"network": "net-id"}),
        resource(
            "gcp:sql/databaseInstance:DatabaseInstance",
            "db",
            {"settings": {"ipConfiguration": {"privateNetwork": "projects/p/global/networks/mail"}}},
        ),
        resource("gcp:organizations/project:Project", "mail", {"autoCreateNetwork": False}),
    ],
    [
        RUN,
        resource("gcp:cloudrunv2/job:Job", "run", {"template": {"template": {"serviceAccount": EMAIL}}}),
        resource("gcp:container/nodePool:NodePool", "pool", {"nodeConfig": {"serviceAccount": EMAIL}}),
        resource("gcp:cloudfunctions/function:Function", "f", {"serviceAccountEmail": EMAIL}),
        resource(
            "gcp:cloudfunctionsv2/function:Function", "f", {"serviceConfig": {"serviceAccountEmail": EMAIL}}
        ),
    ],
)


def test_what_says_nothing_lands_in_the_default_vpc() -> None:
    assert places(RULE, [resource("aws:ec2/instance:Instance", "node", {})]) == [
        ("node", "subnetId"),
        ("node", "vpcSecurityGroupIds"),
    ]
    assert found(RULE, [resource("aws:ec2/instance:Instance", "node", {"networkInterfaces": [{}]})]) == []


def test_the_default_group_lets_nothing_through() -> None:
    rule = [{"protocol": "-1", "fromPort": 0, "toPort": 0, "cidrBlocks": ["0.0.0.0/0"]}]
    assert places(RULE, [changed(DEFAULT, egress=rule)]) == [("default", "egress")]


@pytest.mark.parametrize(
    "email", ["12345-compute@developer.gserviceaccount.com", "p@appspot.gserviceaccount.com"]
)
def test_default_service_accounts(email: str) -> None:
    assert places(RULE, [changed(NODE, serviceAccount={"email": email})]) == [
        ("node", "serviceAccount.email")
    ]
    assert places(RULE, [changed(RUN, template={"serviceAccount": email})]) == [
        ("run", "template.serviceAccount")
    ]


def test_a_block_without_an_address_means_the_default_one() -> None:
    assert places(RULE, [changed(NODE, serviceAccount={"scopes": ["cloud-platform"]})]) == [
        ("node", "serviceAccount.email")
    ]
    assert found(RULE, [changed(NODE, serviceAccount=None)]) == []
    assert places(RULE, [changed(RUN, template={})]) == [("run", "template.serviceAccount")]


@pytest.mark.parametrize(
    "network", ["default", "global/networks/default", "projects/p/global/networks/default"]
)
def test_the_default_network_of_google_cloud(network: str) -> None:
    assert places(RULE, [changed(FIREWALL, network=network)]) == [("wall", "network")]
    interfaces = [{"network": network}]
    assert places(RULE, [changed(NODE, networkInterfaces=interfaces)]) == [
        ("node", "networkInterfaces[0].network")
    ]


def test_a_network_called_like_the_default_one() -> None:
    assert found(RULE, [changed(FIREWALL, network="projects/p/global/networks/default-mail")]) == []


def test_networks_make_no_subnets_by_themselves() -> None:
    assert places(RULE, [changed(NETWORK, autoCreateSubnetworks=None)]) == [("net", "autoCreateSubnetworks")]


def test_unknown_is_undecided_unless_it_is_of_this_stack() -> None:
    (item,) = found(RULE, [changed(FIREWALL, network=UNKNOWN)])
    assert item.finding.unknown
    made = resource(
        FIREWALL.type, "wall", {"network": UNKNOWN}, property_dependencies={"network": (NETWORK.urn,)}
    )
    assert found(RULE, [NETWORK, made]) == []
