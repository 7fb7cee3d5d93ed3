"""MTA-STS makes senders use TLS with a checked certificate."""

import base64
import gzip

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.dns_mta_sts import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_dns import AWS_DOMAIN, DOMAIN, DOMAINS, POLICY, instead, route53, without
from tests.policy_helpers import changed, found, places, resource

NAME = f"_mta-sts.{DOMAIN}"
SCRIPT = f"#!/bin/sh\ncat > /srv/mta-sts.txt <<'END'\n{POLICY}END\n"
PACKED = base64.b64encode(gzip.compress(SCRIPT.encode())).decode()
CODED = base64.b64encode(SCRIPT.encode()).decode()


def served(token: str, **props: object) -> list[Resource]:
    """The domain with its policy on this resource only."""
    return instead(without(AWS_DOMAIN, "policy"), resource(token, "server", props))


GOOD = (
    *DOMAINS,
    served("aws:ec2/instance:Instance", userDataBase64=PACKED),
    served("aws:ec2/instance:Instance", userData=SCRIPT),
    served("aws:ec2/launchTemplate:LaunchTemplate", userData=CODED),
    served("gcp:compute/instance:Instance", metadata={"startup-script": SCRIPT}),
    served("gcp:compute/instance:Instance", metadataStartupScript=SCRIPT),
    served("gcp:compute/instanceTemplate:InstanceTemplate", metadata={"startup-script": SCRIPT}),
    served("gcp:compute/instanceTemplate:InstanceTemplate", metadataStartupScript=SCRIPT),
    served("aws:s3/bucketObject:BucketObject", content=POLICY),
    served("aws:s3/bucketObject:BucketObject", contentBase64=CODED),
    served("aws:s3/bucketObjectv2:BucketObjectv2", contentBase64=CODED),
)


@pytest.mark.parametrize("part", [f"TXT-{NAME}", "CNAME-mta-sts", "policy"])
def test_what_is_missing_blames_the_mx(part: str) -> None:
    assert places(RULE, without(AWS_DOMAIN, part)) == [(f"MX-{DOMAIN}", "")]


@pytest.mark.parametrize("text", ["v=STSv1", "v=STSv1; id=", "v=STSv1; id=a-b", "v=STSv1; id=" + "9" * 33])
def test_a_record_needs_an_id(text: str) -> None:
    assert places(RULE, instead(AWS_DOMAIN, route53(NAME, "TXT", [text]))) == [(f"TXT-{NAME}", "records[0]")]


def test_a_policy_names_all_hosts() -> None:
    text = SCRIPT.replace("mx: mx2.example.test\r\n", "")
    (item,) = found(RULE, served("aws:ec2/instance:Instance", userData=text))
    assert (item.finding.path, item.finding.found) == ("userData", "mx: mx1.example.test")


def test_a_wildcard_names_all_hosts_below() -> None:
    text = POLICY.replace("mx: mx1.example.test\r\nmx: mx2", "mx: *")
    assert found(RULE, served("aws:s3/bucketObject:BucketObject", content=text)) == []


def test_a_script_that_is_not_known_is_the_other_rules_business() -> None:
    assert found(RULE, served("aws:ec2/instance:Instance", userData=UNKNOWN)) == []
    assert found(RULE, served("aws:ec2/instance:Instance", userData="#!/bin/sh")) != []


def test_a_record_that_is_not_known_is_said() -> None:
    items = found(RULE, instead(AWS_DOMAIN, changed(route53(NAME, "TXT", []), records=UNKNOWN)))
    assert items and all(item.finding.unknown for item in items)


def test_a_domain_without_mail_needs_none() -> None:
    testing = resource(
        "aws:s3/bucketObject:BucketObject", "policy", {"content": POLICY.replace("enforce", "none")}
    )
    assert found(RULE, [route53("www.example.org", "A", ["192.0.2.1"]), testing]) == []
