"""DKIM keys are published, in force and long enough."""

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.dns_dkim import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_dns import AWS_DOMAIN, DOMAIN, DOMAINS, PUBLIC, instead, route53, without
from tests.policy_helpers import changed, found, places, resource, settings

GOOD = DOMAINS
NAME = f"s1._domainkey.{DOMAIN}"
ED25519 = "k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


def said(text: str) -> list[str]:
    """What is found of a key record beside the good one."""
    stack = [*AWS_DOMAIN, route53(f"s2._domainkey.{DOMAIN}", "TXT", [text])]
    return [item.finding.found for item in found(RULE, stack)]


def unknown(*keys: Resource, kind: str = "TXT") -> list[Resource]:
    """The domain with a key record made from these."""
    record = resource(
        "aws:route53/record:Record",
        "made",
        {"zoneId": "zone-id", "name": NAME, "type": kind, "records": UNKNOWN},
        property_dependencies={"records": tuple(key.urn for key in keys)},
    )
    return [*without(AWS_DOMAIN, f"TXT-{NAME}"), record, *keys]


def kms(spec: str, usage: str = "SIGN_VERIFY") -> Resource:
    return resource("aws:kms/key:Key", "dkim", {"customerMasterKeySpec": spec, "keyUsage": usage})


def test_a_domain_without_a_key_blames_its_mx() -> None:
    assert places(RULE, without(AWS_DOMAIN, f"TXT-{NAME}")) == [(f"MX-{DOMAIN}", "")]


def test_a_revoked_key_alone_is_none() -> None:
    stack = instead(AWS_DOMAIN, route53(NAME, "TXT", ["v=DKIM1; p="]))
    assert places(RULE, stack) == [(f"MX-{DOMAIN}", "")]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"v=DKIM1; t=y; p={PUBLIC}", "t=y: receivers treat the mail as not signed"),
        (f"v=DKIM1; h=sha1; p={PUBLIC}", "h=sha1"),
        (f"v=DKIM2; p={PUBLIC}", "v=DKIM2"),
        (f"k=dsa; p={PUBLIC}", "k=dsa"),
        ("v=DKIM1; p=AAAA", 'p="AAAA": no public key'),
        ("v=DKIM1; p=!", 'p="!": no base64'),
        ("k=ed25519; p=AAAA", "an Ed25519 key of 3 octets"),
    ],
)
def test_a_fault_is_named(text: str, fault: str) -> None:
    assert said(text) == [fault]


@pytest.mark.parametrize("text", ["v=DKIM1; p=", ED25519, f"p={PUBLIC}", f"v=DKIM1; t=s; p= {PUBLIC} ;"])
def test_what_holds_is_clean(text: str) -> None:
    assert said(text) == []


def test_the_length_is_the_configs() -> None:
    stack = instead(AWS_DOMAIN)
    items = found(RULE, stack, settings(keys={"dkim_bits": 3072}))
    assert "2048 bits" in {item.finding.found for item in items}


@pytest.mark.parametrize(
    "key",
    [
        kms("RSA_2048"),
        kms("RSA_4096"),
        resource(
            "gcp:kms/cryptoKey:CryptoKey",
            "dkim",
            {"versionTemplate": {"algorithm": "RSA_SIGN_PKCS1_2048_SHA256"}},
        ),
        resource("tls:index/privateKey:PrivateKey", "dkim", {"algorithm": "RSA", "rsaBits": 2048}),
    ],
)
def test_a_key_that_is_not_known_is_judged_by_what_it_is_made_from(key: Resource) -> None:
    assert found(RULE, unknown(key)) == []


@pytest.mark.parametrize(
    "key",
    [
        kms("RSA_1024"),
        kms("SYMMETRIC_DEFAULT"),
        kms("RSA_2048", "ENCRYPT_DECRYPT"),
        resource("tls:index/privateKey:PrivateKey", "dkim", {"algorithm": "RSA", "rsaBits": 1024}),
        resource("gcp:kms/cryptoKey:CryptoKey", "dkim", {}),
    ],
)
def test_a_short_key_is_found_before_its_public_half_is_known(key: Resource) -> None:
    assert ("made", "records[*]") in places(RULE, unknown(key))


def test_a_key_from_nowhere_is_not_known() -> None:
    items = found(RULE, unknown())
    assert any(item.finding.unknown for item in items)


def test_the_selectors_of_ses_are_judged_by_its_identity() -> None:
    identity = resource(
        "aws:sesv2/emailIdentity:EmailIdentity",
        "ses",
        {"dkimSigningAttributes": {"nextSigningKeyLength": "RSA_2048_BIT"}},
    )
    assert found(RULE, unknown(identity, kind="CNAME")) == []
    short = changed(identity, dkimSigningAttributes={"nextSigningKeyLength": "RSA_1024_BIT"})
    assert found(RULE, unknown(short, kind="CNAME")) != []


def test_an_alias_is_followed_within_the_stack_only() -> None:
    name = f"s3._domainkey.{DOMAIN}"
    assert found(RULE, [*AWS_DOMAIN, route53(name, "CNAME", [NAME])]) == []
    stack = [*AWS_DOMAIN, route53(name, "CNAME", ["s3.dkim.elsewhere.test"])]
    assert places(RULE, stack) == [(f"CNAME-{name}", "records[0]")]


def test_a_domain_without_mail_needs_none() -> None:
    assert found(RULE, [route53("www.example.org", "A", ["192.0.2.1"])]) == []
