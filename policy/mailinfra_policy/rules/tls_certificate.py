"""Keys of certificates: at least 2048 bits of RSA, or P-256 and above."""

from collections.abc import Callable, Iterator

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mailinfra_policy import expect
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Finding, Guard, Rule, Severity
from mailinfra_policy.tls import TRANSPORT, Must, Table, guarded, judged_by
from mailinfra_policy.values import UNKNOWN, Value

BITS = 2048
"""The smallest RSA key (NIST SP 800-57 part 1, until 2030; the CA/Browser Forum's baseline)."""
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""The curves that certificates of public authorities may have."""
_AWS = ("RSA_2048", "RSA_3072", "RSA_4096", "EC_prime256v1", "EC_secp384r1", "EC_secp521r1")
_GCP_CA = (
    "RSA_PSS_2048_SHA256", "RSA_PSS_3072_SHA256", "RSA_PSS_4096_SHA256", "RSA_PKCS1_2048_SHA256",
    "RSA_PKCS1_3072_SHA256", "RSA_PKCS1_4096_SHA256", "EC_P256_SHA256", "EC_P384_SHA384",
)  # fmt: skip


_MADE = "tls:index/privateKey:PrivateKey"


def _requested(resource: Resource) -> bool:
    """Asked of the cloud, not brought along."""
    return resource.get("privateKey") is None and resource.get("certificateBody") is None


def _algorithm(name: str) -> Callable[[Resource], bool]:
    return lambda resource: resource.get("algorithm") in (name, UNKNOWN)


def _own_key(resource: Resource) -> bool:
    return resource.get("keySpec.cloudKmsKeyVersion") is None


TABLE: Table = {
    "aws:acm/certificate:Certificate": (
        Must("keyAlgorithm", _AWS, default="RSA_2048", when=_requested, wrong=("RSA_1024",)),
    ),
    "aws:acmpca/certificateAuthority:CertificateAuthority": (
        Must(
            "certificateAuthorityConfiguration.keyAlgorithm",
            (*_AWS, "ML_DSA_65", "ML_DSA_87"),
            wrong=("RSA_1024",),
        ),
    ),
    "gcp:certificatemanager/certificateIssuanceConfig:CertificateIssuanceConfig": (
        Must("keyAlgorithm", ("RSA_2048", "ECDSA_P256"), wrong=("RSA_1024",)),
    ),
    "gcp:certificateauthority/authority:Authority": (
        Must("keySpec.algorithm", _GCP_CA, when=_own_key, wrong=("SIGN_HASH_ALGORITHM_UNSPECIFIED",)),
    ),
    "gcp:apigee/keystoresAliasesSelfSignedCert:KeystoresAliasesSelfSignedCert": (
        Must("keySize", ("2048", "3072", "4096"), default="2048", wrong=("1024",)),
    ),
    # Of the package pulumi-tls, which programs make keys with. Its curve is P224 unless told.
    _MADE: (
        Must("algorithm", ("RSA", "ECDSA", "ED25519"), wrong=("DSA",)),
        Must(
            "ecdsaCurve", ("P256", "P384", "P521"), default="P224", when=_algorithm("ECDSA"), wrong=("P224",)
        ),
    ),
    "cloudflare:index/originCaCertificate:OriginCaCertificate": (
        Must("requestType", ("origin-rsa", "origin-ecc"), wrong=("keyless-certificate",)),
    ),
    "cloudflare:index/customCsr:CustomCsr": (
        Must("keyType", ("rsa2048", "p256v1"), default="rsa2048", wrong=("rsa1024",)),
    ),
}
_table = judged_by(TABLE)
PEM = {
    "aws:acm/certificate:Certificate": "certificateBody",
    "aws:iam/serverCertificate:ServerCertificate": "certificateBody",
    "gcp:compute/sSLCertificate:SSLCertificate": "certificate",
    "gcp:compute/regionSslCertificate:RegionSslCertificate": "certificate",
    "gcp:certificatemanager/certificate:Certificate": "selfManaged.pemCertificate",
    "cloudflare:index/customSsl:CustomSsl": "certificate",
    "cloudflare:index/originCaCertificate:OriginCaCertificate": "csr",
}
"""Where certificates and requests that were made elsewhere are given as text."""
_ALLOWED = f"RSA of at least {BITS} bits, {', '.join(CURVES)} or Ed25519"
_KEY_TYPES = "issuancePolicy.allowedKeyTypes"
_POOL = "gcp:certificateauthority/caPool:CaPool"


_rsa = _algorithm("RSA")


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """The table; keys in texts are read; a pool of authorities takes no small RSA keys."""
    yield from _table(resource, context)
    if path := PEM.get(resource.type):
        value = resource.get(path)
        if value is UNKNOWN:
            yield expect.unknown(resource, path, _ALLOWED)
        elif value is not None:
            yield from _key(resource, path, str(value))
    if resource.type == _MADE and _rsa(resource):
        yield from expect.within(resource, "rsaBits", BITS, 16384, "bits", default=BITS)
    if resource.type == _POOL:
        for at, item in resource.each(f"{_KEY_TYPES}[*]"):
            if item is UNKNOWN:
                yield expect.unknown(resource, at, _ALLOWED)
            elif resource.get(f"{at}.rsa") is not None:
                yield from expect.holds(resource, f"{at}.rsa.minModulusSize", _big, f"at least {BITS}")


def _big(value: Value) -> bool:
    return str(value).isascii() and str(value).isdigit() and int(value) >= BITS


def _key(resource: Resource, path: str, text: str) -> Iterator[Finding]:
    try:
        request = "REQUEST-----" in text
        key = (x509.load_pem_x509_csr if request else x509.load_pem_x509_certificate)(
            text.encode()
        ).public_key()
    except ValueError:
        yield Finding(resource, path, "a text that is no certificate in PEM", _ALLOWED)
        return
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < BITS:
            yield Finding(resource, path, f"RSA of {key.key_size} bits", _ALLOWED)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in CURVES:
            yield Finding(resource, path, key.curve.name, _ALLOWED)
    elif not isinstance(key, ed25519.Ed25519PublicKey):
        yield Finding(resource, path, type(key).__name__, _ALLOWED)


def _covers() -> dict[str, tuple[Guard, ...]]:
    found = guarded(TABLE)
    for token, path in PEM.items():
        found[token] = (*found.get(token, ()), Guard(path, wrong=("-----BEGIN X-----",), needed=False))
    found[_MADE] += (
        Guard("rsaBits", wrong=(1024, BITS - 1), needed=False, when=lambda resource, _: _rsa(resource)),
    )
    found[_POOL] = (
        Guard(
            f"{_KEY_TYPES}[*].rsa.minModulusSize",
            wrong=("1024", "x"),
            when=lambda _, value: value is not None,
        ),
    )
    return found


RULE = Rule(
    id="tls-certificate",
    title="Certificates have strong keys",
    severity=Severity.HIGH,
    why="Whoever can break or guess a certificate's key can be the server.",
    mend="Ask for RSA of 2048 bits or more, or for a P-256 or P-384 key.",
    controls=TRANSPORT,
    covers=_covers(),
    judge=judge,
)
