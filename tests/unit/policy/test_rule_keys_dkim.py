"""Keys that sign stay in their HSM, and only their signer uses them."""

import json
from typing import Any

import pytest

from mailinfra_policy.grants import IDENTITY_POLICIES, KEY_GRANTS, KEY_POLICIES
from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.keys_dkim import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

ROLE = "arn:aws:iam::111122223333:role/submission"
KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
SIGNER = "serviceAccount:mail@example-mail.iam.gserviceaccount.com"


def policy(**statement: Any) -> str:
    return json.dumps(
        {"Statement": [{"Effect": "Allow", "Action": "kms:Sign", "Resource": "*", **statement}]}
    )


BY_ROLE = policy(Principal={"AWS": ROLE})
ON_KEY = policy(Resource=KEY)
AWS = resource(
    "aws:kms/key:Key",
    "dkim",
    {"keyUsage": "SIGN_VERIFY", "customerMasterKeySpec": "RSA_2048", "policy": BY_ROLE},
)
GCP = resource(
    "gcp:kms/cryptoKey:CryptoKey",
    "dkim",
    {
        "purpose": "ASYMMETRIC_SIGN",
        "versionTemplate": {"algorithm": "RSA_SIGN_PKCS1_2048_SHA256", "protectionLevel": "HSM"},
        "name": "dkim",
    },
)
VERSION = resource("gcp:kms/cryptoKeyVersion:CryptoKeyVersion", "1", {"cryptoKey": "dkim-id"})
GRANT = resource(
    "aws:kms/grant:Grant", "grant", {"keyId": KEY, "operations": ["Sign"], "granteePrincipal": ROLE}
)
IDENTITY = resource("aws:iam/rolePolicy:RolePolicy", "nodes", {"policy": ON_KEY})


def granted(token: str, member: str = SIGNER, role: str = "roles/cloudkms.signer") -> Resource:
    props: dict[str, Any] = {"role": role, "member": member}
    if token.endswith("Binding"):
        props = {"role": role, "members": [member]}
    elif token.endswith("Policy"):
        props = {"policyData": json.dumps({"bindings": [{"role": role, "members": [member]}]})}
    return resource(token, "grant", props)


READ = policy(Action="s3:GetObject")
GOOD = (
    [AWS],
    [GCP, VERSION],
    [GRANT],
    [resource(token, "key", {"policy": BY_ROLE}) for token in KEY_POLICIES if token != AWS.type],
    [resource("aws:kms/externalKey:ExternalKey", "own", {"keyUsage": "ENCRYPT_DECRYPT"})],
    [resource("aws:kms/key:Key", "storage", {"enableKeyRotation": True})],
    [resource("gcp:kms/cryptoKey:CryptoKey", "storage", {"rotationPeriod": "7776000s"})],
    [
        resource(token, "it", {path: READ if "user" in token or "group" in token else ON_KEY})
        for token, (path,) in IDENTITY_POLICIES.items()
        if "[" not in path
    ],
    [resource("aws:iam/role:Role", "nodes", {"inlinePolicies": [{"name": "sign", "policy": ON_KEY}]})],
    [granted(token) for token in KEY_GRANTS],
)


@pytest.mark.parametrize(
    ("spec", "right"),
    [
        ("RSA_2048", True),
        ("RSA_4096", True),
        ("ECC_NIST_P256", True),
        ("ECC_NIST_EDWARDS25519", True),
        ("RSA_1024", False),
        ("rsa_2048", False),
        ("ECC_SECG_P256K1", False),
        (None, False),
    ],
)
def test_what_the_key_is_made_of(spec: str | None, right: bool) -> None:
    assert (found(RULE, [changed(AWS, customerMasterKeySpec=spec)]) == []) is right


def test_the_smallest_key_is_configured() -> None:
    conf = settings(keys={"dkim_bits": 3072})
    assert places(RULE, [AWS, GCP], conf) == [
        ("dkim", "customerMasterKeySpec"),
        ("dkim", "versionTemplate.algorithm"),
    ]


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ({"algorithm": "RSA_SIGN_PKCS1_2048_SHA256"}, "protectionLevel"),
        ({"algorithm": "RSA_SIGN_PKCS1_2048_SHA256", "protectionLevel": "SOFTWARE"}, "protectionLevel"),
        ({"algorithm": "RSA_SIGN_PKCS1_2048_SHA256", "protectionLevel": "Hsm"}, "protectionLevel"),
        ({"algorithm": "RSA_SIGN_PKCS1_2048", "protectionLevel": "HSM"}, "algorithm"),
        ({"protectionLevel": "HSM"}, "algorithm"),
    ],
)
def test_protection_and_algorithm_on_google_cloud(template: dict[str, str], path: str) -> None:
    assert places(RULE, [changed(GCP, versionTemplate=template)]) == [("dkim", f"versionTemplate.{path}")]


@pytest.mark.parametrize(
    ("of", "props", "path"),
    [
        (GCP, {"importOnly": True}, "importOnly"),
        (GCP, {"skipInitialVersionCreation": True}, "skipInitialVersionCreation"),
        (GCP, {"cryptoKeyBackend": "projects/p/locations/l/ekmConnections/e"}, "cryptoKeyBackend"),
        (AWS, {"multiRegion": True}, "multiRegion"),
        (AWS, {"customKeyStoreId": "cks-1"}, "customKeyStoreId"),
        (AWS, {"xksKeyId": "1"}, "xksKeyId"),
    ],
)
def test_nothing_imported_and_nothing_that_leaves(of: Resource, props: dict[str, Any], path: str) -> None:
    assert places(RULE, [changed(of, **props)]) == [("dkim", path)]


def test_imported_material_does_not_sign() -> None:
    key = resource("aws:kms/externalKey:ExternalKey", "own", {"keyUsage": "SIGN_VERIFY"})
    assert places(RULE, [key]) == [("own", "keyUsage")]


def test_a_version_in_an_external_key_manager_does_not_sign() -> None:
    version = changed(VERSION, externalProtectionLevelOptions={"externalKeyUri": "https://ekm.test/1"})
    assert places(RULE, [GCP, version]) == [("1", "externalProtectionLevelOptions")]


@pytest.mark.parametrize(
    ("principal", "right"),
    [
        ({"AWS": ROLE}, True),
        ({"AWS": "arn:aws:iam::111122223333:root"}, True),
        ({"Service": "dnssec-route53.amazonaws.com"}, True),
        ({"AWS": "arn:aws:iam::111122223333:user/admin"}, False),
        ({"AWS": "arn:aws:iam::111122223333:role/*"}, False),
        ({"Federated": "cognito-identity.amazonaws.com"}, False),
        ("*", False),
    ],
)
def test_whom_a_key_policy_lets_sign(principal: Any, right: bool) -> None:
    assert (found(RULE, [changed(AWS, policy=policy(Principal=principal))]) == []) is right


@pytest.mark.parametrize(
    ("token", "statement", "right"),
    [
        ("aws:iam/rolePolicy:RolePolicy", {"Resource": KEY}, True),
        ("aws:iam/rolePolicy:RolePolicy", {"Resource": [KEY, f"{KEY[:-4]}*"]}, False),
        ("aws:iam/rolePolicy:RolePolicy", {"Action": "kms:*", "Resource": "*"}, False),
        ("aws:iam/rolePolicy:RolePolicy", {"Action": "*", "Resource": "*"}, False),
        ("aws:iam/rolePolicy:RolePolicy", {"Action": "kms:Decrypt", "Resource": "*"}, True),
        ("aws:iam/userPolicy:UserPolicy", {"Resource": KEY}, False),
        ("aws:iam/groupPolicy:GroupPolicy", {"Resource": KEY}, False),
    ],
)
def test_which_identities_sign(token: str, statement: dict[str, Any], right: bool) -> None:
    item = resource(token, "nodes", {"policy": policy(**statement)})
    assert (found(RULE, [item]) == []) is right


@pytest.mark.parametrize(
    ("changes", "right"),
    [
        ({"granteePrincipal": "arn:aws:iam::111122223333:user/admin"}, False),
        ({"granteePrincipal": "arn:aws:iam::111122223333:user/admin", "operations": ["Decrypt"]}, True),
        ({"granteePrincipal": "arn:aws:iam::111122223333:user/admin", "operations": UNKNOWN}, False),
    ],
)
def test_grants_to_sign_are_a_roles(changes: dict[str, Any], right: bool) -> None:
    assert (found(RULE, [changed(GRANT, **changes)]) == []) is right


@pytest.mark.parametrize("member", ["user:a@example.test", "group:all@example.test", "allUsers"])
def test_signers_on_google_cloud_are_service_accounts(member: str) -> None:
    token = KEY_GRANTS[0]
    assert places(RULE, [granted(token, member)]) == [("grant", "member")]
    assert found(RULE, [granted(token, member, "roles/cloudkms.publicKeyViewer")]) == []


@pytest.mark.parametrize("of", [AWS, GCP])
def test_unknown_is_undecided(of: Resource) -> None:
    use = "keyUsage" if of is AWS else "purpose"
    items = found(RULE, [changed(of, **{use: UNKNOWN})])
    assert items and all(item.finding.unknown for item in items)
