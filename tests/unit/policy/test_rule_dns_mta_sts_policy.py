"""MTA-STS policies enforce TLS, for long enough."""

import base64

import pytest

from mailinfra_policy.rules.dns_mta_sts_policy import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_dns import POLICY
from tests.policy_helpers import found, resource
from tests.unit.policy.test_rule_dns_mta_sts import GOOD as STACKS
from tests.unit.policy.test_rule_dns_mta_sts import SCRIPT

GOOD = STACKS


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("enforce", "testing", "mode: testing"),
        ("enforce", "Enforced", "mode: enforced"),
        ("mode: enforce\r\n", "", "mode: "),
        ("604800", "86400", "max_age: 86400"),
        ("max_age: 604800\r\n", "", "max_age: "),
    ],
)
def test_a_policy_that_does_not_hold_is_found_where_it_stands(old: str, new: str, fault: str) -> None:
    text = SCRIPT.replace(old, new)
    for path, value in (("userData", text), ("userDataBase64", base64.b64encode(text.encode()).decode())):
        items = found(RULE, [resource("aws:ec2/instance:Instance", "node", {path: value})])
        assert [(item.finding.path, item.finding.found) for item in items] == [(path, fault)]


def test_lines_may_end_either_way() -> None:
    text = POLICY.replace("\r\n", "\n")
    assert found(RULE, [resource("aws:s3/bucketObject:BucketObject", "it", {"content": text})]) == []


def test_unknown_is_found_and_said() -> None:
    (item,) = found(RULE, [resource("aws:ec2/instance:Instance", "node", {"userDataBase64": UNKNOWN})])
    assert item.finding.unknown


@pytest.mark.parametrize(
    ("kind", "faults"),
    [
        ("application/json", 0),
        ("text/plain", 1),
        ("text/plain; charset=utf-8", 1),
        ("", 1),
        (None, 1),
        (UNKNOWN, 1),
    ],
)
@pytest.mark.parametrize(
    "token", ["aws:s3/bucketObjectv2:BucketObjectv2", "gcp:storage/bucketObject:BucketObject"]
)
def test_an_object_of_another_media_type_is_no_policy(token: str, kind: object, faults: int) -> None:
    props = {"content": UNKNOWN, **({} if kind is None else {"contentType": kind})}
    items = found(RULE, [resource(token, "it", props)])
    assert [item.finding.unknown for item in items] == [True] * faults


def test_a_policy_is_judged_whatever_its_media_type() -> None:
    props = {"content": POLICY.replace("enforce", "none"), "contentType": "application/json"}
    (item,) = found(RULE, [resource("aws:s3/bucketObject:BucketObject", "it", props)])
    assert item.finding.found == "mode: none"


def test_a_script_without_a_policy_is_left_alone() -> None:
    assert found(RULE, [resource("aws:ec2/instance:Instance", "node", {"userData": "#!/bin/sh\n"})]) == []
