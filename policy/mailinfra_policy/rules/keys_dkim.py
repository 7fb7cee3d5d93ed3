"""Keys that sign (mail, certificates, zones) live in an HSM, only sign, and only their signer may use them."""

import json
import re
from collections.abc import Callable, Iterator

from mailinfra_policy.config import Keys
from mailinfra_policy.expect import absent, holds, is_false, one_of, unknown
from mailinfra_policy.grants import (
    IDENTITY_POLICIES,
    KEY_GRANTS,
    KEY_POLICIES,
    SERVICE_ACCOUNT,
    bindings,
    guarded_paths,
    told,
    wildcard,
)
from mailinfra_policy.keys import AWS_EXTERNAL, AWS_KEY, GCP_KEY, Purpose, purpose
from mailinfra_policy.policies import Answer, Statement, all_of
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN, Unknown, show

_GRANT = "aws:kms/grant:Grant"
_VERSION = "gcp:kms/cryptoKeyVersion:CryptoKeyVersion"
_PEOPLE = ("aws:iam/userPolicy:UserPolicy", "aws:iam/groupPolicy:GroupPolicy")
_RSA = (2048, 3072, 4096)
_CURVES = ("ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_NIST_EDWARDS25519")
_GCP_CURVES = ("EC_SIGN_P256_SHA256", "EC_SIGN_P384_SHA384", "EC_SIGN_ED25519")
_HSM = ("HSM", "HSM_SINGLE_TENANT")
_SIGNERS = frozenset(
    {"roles/cloudkms.signer", "roles/cloudkms.signerVerifier", "roles/cloudkms.cryptoOperator"}
)
_SIGNER = re.compile(
    r"AWS:arn:aws[a-z-]*:iam::\d{12}:role/[^*?]+"
    # The account itself: its own identity policies decide, and they are judged too.
    r"|AWS:(?:\d{12}|arn:aws[a-z-]*:iam::\d{12}:root)"
    r"|Service:[a-z0-9.-]+\.amazonaws\.com"
)
_ROLE = re.compile(r"arn:aws[a-z-]*:(?:iam::\d{12}:role/[^*?]+|sts::\d{12}:assumed-role/[^*?]+)")


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """What a signing key is made of, and whom each kind of grant lets sign."""
    if resource.type == GCP_KEY:
        yield from _of_signing(resource, context, _gcp_key)
    elif resource.type == AWS_KEY:
        yield from _of_signing(resource, context, _aws_key)
    elif resource.type == AWS_EXTERNAL:
        # Its material was made elsewhere, and whoever made it may still have it.
        yield from one_of(resource, "keyUsage", ("ENCRYPT_DECRYPT",), default="ENCRYPT_DECRYPT")
    elif resource.type == _VERSION:
        yield from _version(resource, context)
    elif resource.type == _GRANT:
        yield from _grant(resource, context)
    elif resource.type in KEY_GRANTS:
        yield from _members(resource, context)
    else:
        yield from _identity(resource)
    if resource.type in KEY_POLICIES:
        yield from _key_policy(resource)


def _of_signing(
    resource: Resource, context: Context, judge_key: Callable[[Resource, Keys], Iterator[Finding]]
) -> Iterator[Finding]:
    use = purpose(resource)
    if isinstance(use, Unknown):
        yield unknown(
            resource, "purpose" if resource.type == GCP_KEY else "keyUsage", "a key's use that is known"
        )
    elif use is Purpose.SIGNS:
        yield from judge_key(resource, context.config.keys)


def _aws_key(resource: Resource, keys: Keys) -> Iterator[Finding]:
    yield from one_of(resource, "keyUsage", ("SIGN_VERIFY",))
    specs = (*(f"RSA_{bits}" for bits in _RSA if bits >= keys.dkim_bits), *_CURVES)
    yield from one_of(resource, "customerMasterKeySpec", specs, default="SYMMETRIC_DEFAULT")
    yield from is_false(resource, "multiRegion", default=False)
    for path in ("customKeyStoreId", "xksKeyId"):
        yield from absent(resource, path, "nothing: the key is made in AWS KMS's own HSMs")


def _gcp_key(resource: Resource, keys: Keys) -> Iterator[Finding]:
    yield from one_of(resource, "purpose", ("ASYMMETRIC_SIGN",))
    yield from one_of(resource, "versionTemplate.protectionLevel", _HSM, default="SOFTWARE")
    algorithms = [
        f"RSA_SIGN_{padding}_{bits}_{hash_}"
        for padding in ("PKCS1", "PSS")
        for bits, hash_ in (*((bits, "SHA256") for bits in _RSA), (4096, "SHA512"))
        if bits >= keys.dkim_bits
    ]
    yield from one_of(resource, "versionTemplate.algorithm", (*algorithms, *_GCP_CURVES))
    yield from is_false(resource, "importOnly", default=False)
    yield from is_false(resource, "skipInitialVersionCreation", default=False)
    yield from absent(resource, "cryptoKeyBackend", "nothing: the key is made in Cloud HSM")


def _version(resource: Resource, context: Context) -> Iterator[Finding]:
    for key in context.stack.referred(resource, "cryptoKey", GCP_KEY):
        if purpose(key) is Purpose.SIGNS:
            yield from absent(
                resource, "externalProtectionLevelOptions", "nothing: the key is made in Cloud HSM"
            )


def _key_policy(resource: Resource) -> Iterator[Finding]:
    def strangers(statement: Statement) -> Answer:
        names = statement.principals
        if names is None:
            return False
        strange: Answer = names.excluded or not all(_SIGNER.fullmatch(name) for name in names.patterns)
        if not strange and names.unknown:
            strange = UNKNOWN
        return all_of((statement.allows, statement.actions.touches("kms:Sign"), strange))

    yield from told(resource, KEY_POLICIES, strangers, "kms:Sign for named roles only")


def _identity(resource: Resource) -> Iterator[Finding]:
    def signs(statement: Statement) -> Answer:
        resources = statement.resources
        wide: Answer = (
            resource.type in _PEOPLE
            or resources.excluded
            or any(wildcard(name) for name in resources.patterns)
        )
        if not wide and resources.unknown:
            wide = UNKNOWN
        return all_of((statement.allows, statement.actions.touches("kms:Sign"), wide))

    allowed = "kms:Sign for a role, on one key's own ARN"
    yield from told(resource, IDENTITY_POLICIES, signs, allowed)


def _grant(resource: Resource, context: Context) -> Iterator[Finding]:
    operations = resource.get("operations")
    if isinstance(operations, list) and UNKNOWN not in operations and "Sign" not in operations:
        return
    value = resource.get("granteePrincipal")
    if isinstance(value, str) and _ROLE.fullmatch(value):
        return
    if context.stack.referred(resource, "granteePrincipal", "aws:iam/role:Role"):
        return
    yield from holds(resource, "granteePrincipal", lambda _: False, "a role's ARN, where Sign is granted")


def _members(resource: Resource, context: Context) -> Iterator[Finding]:
    allowed = "service accounts, where the role signs"
    for member in bindings(resource):
        if member.role is not UNKNOWN and member.role not in _SIGNERS:
            continue
        if isinstance(member.name, str) and SERVICE_ACCOUNT.fullmatch(member.name):
            continue
        if member.name is UNKNOWN:
            if not context.stack.referred(resource, member.path, "gcp:serviceaccount/account:Account"):
                yield unknown(resource, member.path, allowed)
        else:
            yield Finding(resource, member.path, show(member.name), allowed)


def _signing(resource: Resource, value: object) -> bool:
    return purpose(resource) is Purpose.SIGNS


def _policy(principal: object, resource: str = "*", action: str = "kms:Sign") -> str:
    who = {"Principal": principal} if principal else {}
    return json.dumps({"Statement": [{"Effect": "Allow", "Action": action, "Resource": resource, **who}]})


_STRANGER = (
    _policy("*"),
    _policy({"AWS": "arn:aws:iam::111122223333:user/a"}),
    _policy({"AWS": "arn:aws:iam::111122223333:role/*"}, action="kms:S*"),
)
_WIDE = (_policy(None), _policy(None, "arn:aws:kms:eu-central-1:111122223333:key/*", "kms:*"))


def _member_guards(token: str) -> tuple[Guard, ...]:
    members, role = guarded_paths(token)
    if members == "policyData":
        binding = {"role": "roles/cloudkms.signer", "members": ["user:a@example.test"]}
        return (Guard("policyData", wrong=(json.dumps({"bindings": [binding]}),), needed=False),)
    wrong = ("user:a@example.test", "group:all@example.test", "allUsers")
    return (Guard(members, wrong=wrong, needed=False, when=lambda of, _: of.get(role) in _SIGNERS),)


RULE = Rule(
    id="keys-dkim",
    title="Keys that sign stay in their HSM, and only their signer uses them",
    severity=Severity.CRITICAL,
    why="Whoever can use or copy the key sends mail that the whole world takes for the domain's own.",
    mend="Make the key in the KMS's HSM for signing only, RSA 2048 or more or a NIST curve, and let one role sign.",
    controls=(
        Control(Framework.NIST, "Security Recommendation 4-4"),
        Control(Framework.SOC2, "CC6.1"),
        Control(Framework.ISO27001, "A.8.24"),
        Control(Framework.GDPR, "Art. 32(1)(b)"),
    ),
    covers={
        AWS_KEY: (
            Guard("keyUsage", wrong=("SIGN", "sign_verify"), needed=False, when=_signing),
            Guard(
                "customerMasterKeySpec",
                wrong=("RSA_1024", "ECC_SECG_P256K1", "SM2", "rsa_2048"),
                when=_signing,
            ),
            Guard("multiRegion", wrong=(True,), needed=False, when=_signing),
            Guard("customKeyStoreId", wrong=("cks-1",), needed=False, when=_signing),
            Guard("xksKeyId", wrong=("1",), needed=False, when=_signing),
            Guard("policy", wrong=_STRANGER, needed=False),
        ),
        **{
            token: (Guard("policy", wrong=_STRANGER, needed=False),)
            for token in KEY_POLICIES
            if token not in {AWS_KEY, AWS_EXTERNAL}
        },
        AWS_EXTERNAL: (
            Guard("keyUsage", wrong=("SIGN_VERIFY",), needed=False),
            Guard("policy", wrong=_STRANGER, needed=False),
        ),
        _GRANT: (
            Guard(
                "granteePrincipal",
                wrong=("arn:aws:iam::111122223333:user/a", "*", "111122223333"),
                when=lambda of, _: "Sign" in (of.get("operations") or ()),
            ),
        ),
        **{
            token: tuple(Guard(path, wrong=_WIDE, needed=False) for path in paths)
            for token, paths in IDENTITY_POLICIES.items()
        },
        GCP_KEY: (
            Guard("purpose", wrong=("ASYMMETRIC_SIGNING",), needed=False, when=_signing),
            Guard("versionTemplate.protectionLevel", wrong=("SOFTWARE", "EXTERNAL", "hsm"), when=_signing),
            Guard(
                "versionTemplate.algorithm",
                wrong=("RSA_SIGN_PKCS1_1024_SHA256", "EC_SIGN_SECP256K1_SHA256", "RSA_SIGN_RAW_PKCS1_2048"),
                when=_signing,
            ),
            Guard("importOnly", wrong=(True,), needed=False, when=_signing),
            Guard("skipInitialVersionCreation", wrong=(True,), needed=False, when=_signing),
            Guard(
                "cryptoKeyBackend",
                wrong=("projects/p/locations/l/ekmConnections/e",),
                needed=False,
                when=_signing,
            ),
        ),
        _VERSION: (
            Guard(
                "externalProtectionLevelOptions",
                wrong=({"externalKeyUri": "https://ekm.test/1"},),
                needed=False,
            ),
        ),
        **{token: _member_guards(token) for token in KEY_GRANTS},
    },
    judge=judge,
)
