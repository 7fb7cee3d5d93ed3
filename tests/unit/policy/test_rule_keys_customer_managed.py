"""What is stored is encrypted with a key of the fleet's own."""

from typing import Any

import pytest

from mailinfra_policy.encryption import KEYLESS, STORES, AtRest
from mailinfra_policy.mutants import put
from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.keys_customer_managed import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource

OWN = {
    "aws": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "gcp": "projects/example-mail/locations/europe-west3/keyRings/mail/cryptoKeys/storage",
}
NEVER = KEYLESS


def full(token: str, alternative: int = 0) -> Resource:
    """A resource of the type in which every store has its key, by one of the inputs that can name it."""
    props: dict[str, Any] = {}
    for store in STORES[token]:
        set_store(props, store, OWN[token.split(":", maxsplit=1)[0]], alternative)
    return resource(token, token.rsplit(":", 1)[1], props)


def set_store(props: dict[str, Any], store: AtRest, key: str, alternative: int) -> None:
    for path in [store.keys[min(alternative, len(store.keys) - 1)], *(store.switches or {})]:
        whole = f"{store.at}.{path}" if store.at else path
        value = key if path in store.keys else (store.switches or {})[path][0]
        concrete = whole.replace("[*]", "[0]")
        put(props, concrete.removesuffix("[0]"), [value]) if concrete.endswith("[0]") else put_in(
            props, concrete, value
        )


def put_in(props: dict[str, Any], path: str, value: Any) -> None:
    """`put`, with every list on the way long enough."""
    at: Any = props
    *way, last = path.split(".")
    for step in way:
        name, index, _ = step.partition("[0]")
        at = at.setdefault(name, [{}] if index else {})
        at = at[0] if index else at
    at[last] = value


KEY = resource("aws:kms/key:Key", "storage", outputs={"arn": "arn:aws:test:::storage"})
VOLUME = full("aws:ebs/volume:Volume")
BY_REFERENCE = resource(
    "aws:ebs/volume:Volume",
    "mail",
    {"encrypted": True, "kmsKeyId": UNKNOWN},
    property_dependencies={"kmsKeyId": (KEY.urn,)},
)
GOOD = (
    *([full(token)] for token in STORES),
    *([full(token, 1)] for token in STORES if any(len(store.keys) > 1 for store in STORES[token])),
    [KEY, BY_REFERENCE],
    [KEY, changed(VOLUME, kmsKeyId="arn:aws:test:::storage")],
)


def test_a_disk_without_a_key_is_found_twice() -> None:
    bare = resource("aws:ebs/volume:Volume", "mail", {"size": 8})
    assert places(RULE, [bare]) == [("mail", "encrypted"), ("mail", "kmsKeyId")]


@pytest.mark.parametrize(
    "key",
    [
        "alias/aws/ebs",
        "arn:aws:kms:eu-central-1:111122223333:alias/aws/ebs",
        "1234abcd-12ab-34cd-56ef-1234567890",
        "arn:aws:kms:eu-central-1:111122223333:key/storage",
        "",
        "AES256",
    ],
)
def test_a_key_of_the_cloud_or_no_key_is_found(key: str) -> None:
    assert places(RULE, [changed(VOLUME, kmsKeyId=key)]) == [("Volume", "kmsKeyId")]


@pytest.mark.parametrize(
    "key", ["alias/mail", "mrk-1234abcd12ab34cd56ef1234567890ab", "1234abcd-12ab-34cd-56ef-1234567890ab"]
)
def test_ids_and_aliases_of_own_keys_are_taken(key: str) -> None:
    assert found(RULE, [changed(VOLUME, kmsKeyId=key)]) == []


@pytest.mark.parametrize("encrypted", [False, "true", 1])
def test_encryption_is_on(encrypted: Any) -> None:
    assert places(RULE, [changed(VOLUME, encrypted=encrypted)]) == [("Volume", "encrypted")]


def test_an_unknown_key_that_comes_from_elsewhere_is_undecided() -> None:
    (item,) = found(RULE, [changed(VOLUME, kmsKeyId=UNKNOWN)])
    assert (item.finding.path, item.finding.unknown) == ("kmsKeyId", True)


def test_the_root_disk_of_a_launch_template_is_that_ones_business() -> None:
    node = resource("aws:ec2/instance:Instance", "node", {"launchTemplate": {"id": "lt-1"}})
    assert found(RULE, [node]) == []
    assert places(RULE, [changed(node, launchTemplate=None)]) == [
        ("node", "rootBlockDevice.encrypted"),
        ("node", "rootBlockDevice.kmsKeyId"),
    ]


def test_a_template_that_says_nothing_of_its_disks_is_found() -> None:
    assert places(RULE, [resource("aws:ec2/launchTemplate:LaunchTemplate", "t", {})]) == [
        ("t", "blockDeviceMappings")
    ]


def test_each_disk_of_a_list_is_judged() -> None:
    node = full("aws:ec2/instance:Instance")
    disks = [{"encrypted": True, "kmsKeyId": OWN["aws"]}, {"encrypted": True}]
    assert places(RULE, [changed(node, ebsBlockDevices=disks)]) == [
        ("Instance", "ebsBlockDevices[1].kmsKeyId")
    ]


def test_a_boot_disk_that_exists_already_is_judged_where_it_is_made() -> None:
    node = resource("gcp:compute/instance:Instance", "node", {"bootDisk": {"source": "disks/boot"}})
    assert found(RULE, [node]) == []


def test_the_sse_of_a_queue_that_sqs_manages_is_not_enough() -> None:
    queue = resource("aws:sqs/queue:Queue", "q", {"sqsManagedSseEnabled": True})
    assert places(RULE, [queue]) == [("q", "kmsMasterKeyId")]


def test_what_inherits_a_key_is_found_only_with_a_wrong_one() -> None:
    table = resource("gcp:bigquery/table:Table", "t", {})
    assert found(RULE, [table]) == []
    wrong = changed(table, encryptionConfiguration={"kmsKeyName": "google"})
    assert places(RULE, [wrong]) == [("t", "encryptionConfiguration.kmsKeyName")]
