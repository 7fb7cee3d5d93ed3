"""What Google's predefined roles allow, as far as the sandbox's APIs ask (https://cloud.google.com/iam/docs/roles-permissions).

A role that is not here may be granted, and then allows nothing: the sandbox errs on the side of refusing.
"""

from typing import Final

_OBJECT_READ: Final = frozenset({"storage.objects.get", "storage.objects.list"})
_OBJECT_USER: Final = _OBJECT_READ | {
    "storage.objects.create",
    "storage.objects.delete",
    "storage.objects.update",
}
_OBJECT_ADMIN: Final = _OBJECT_USER | {"storage.objects.getIamPolicy", "storage.objects.setIamPolicy"}
_BUCKET_ADMIN: Final = frozenset(
    {
        "storage.buckets.create",
        "storage.buckets.delete",
        "storage.buckets.get",
        "storage.buckets.getIamPolicy",
        "storage.buckets.list",
        "storage.buckets.setIamPolicy",
        "storage.buckets.update",
    }
)
_KMS_SEE: Final = frozenset(
    {
        "cloudkms.keyRings.get",
        "cloudkms.keyRings.list",
        "cloudkms.cryptoKeys.get",
        "cloudkms.cryptoKeys.list",
        "cloudkms.cryptoKeyVersions.get",
        "cloudkms.cryptoKeyVersions.list",
    }
)
_KMS_PUBLIC: Final = frozenset({"cloudkms.cryptoKeyVersions.viewPublicKey"})
_KMS_SIGN: Final = frozenset({"cloudkms.cryptoKeyVersions.useToSign"})
_KMS_ENCRYPT: Final = frozenset({"cloudkms.cryptoKeyVersions.useToEncrypt"})
_KMS_DECRYPT: Final = frozenset({"cloudkms.cryptoKeyVersions.useToDecrypt"})
_KMS_ADMIN: Final = (
    _KMS_SEE
    | _KMS_PUBLIC
    | {
        "cloudkms.keyRings.create",
        "cloudkms.keyRings.getIamPolicy",
        "cloudkms.keyRings.setIamPolicy",
        "cloudkms.cryptoKeys.create",
        "cloudkms.cryptoKeys.update",
        "cloudkms.cryptoKeys.getIamPolicy",
        "cloudkms.cryptoKeys.setIamPolicy",
        "cloudkms.cryptoKeyVersions.create",
        "cloudkms.cryptoKeyVersions.destroy",
        "cloudkms.cryptoKeyVersions.restore",
        "cloudkms.cryptoKeyVersions.update",
    }
)
_IAM_ADMIN: Final = frozenset(
    {
        "iam.serviceAccounts.create",
        "iam.serviceAccounts.delete",
        "iam.serviceAccounts.get",
        "iam.serviceAccounts.getIamPolicy",
        "iam.serviceAccounts.list",
        "iam.serviceAccounts.setIamPolicy",
        "iam.serviceAccounts.update",
    }
)

PREDEFINED: Final[dict[str, frozenset[str]]] = {
    "roles/storage.objectViewer": _OBJECT_READ,
    "roles/storage.objectCreator": frozenset({"storage.objects.create"}),
    "roles/storage.objectUser": _OBJECT_USER,
    "roles/storage.objectAdmin": _OBJECT_ADMIN,
    "roles/storage.legacyObjectReader": frozenset({"storage.objects.get"}),
    "roles/storage.legacyBucketReader": frozenset({"storage.buckets.get", "storage.objects.list"}),
    "roles/storage.legacyBucketWriter": frozenset(
        {"storage.buckets.get", "storage.objects.list", "storage.objects.create", "storage.objects.delete"}
    ),
    "roles/storage.bucketViewer": frozenset({"storage.buckets.get", "storage.buckets.list"}),
    "roles/storage.admin": _OBJECT_ADMIN | _BUCKET_ADMIN,
    "roles/cloudkms.viewer": _KMS_SEE,
    "roles/cloudkms.publicKeyViewer": _KMS_PUBLIC,
    "roles/cloudkms.signer": _KMS_SIGN,
    "roles/cloudkms.verifier": frozenset({"cloudkms.cryptoKeyVersions.useToVerify"}) | _KMS_PUBLIC,
    "roles/cloudkms.signerVerifier": _KMS_SIGN | _KMS_PUBLIC | {"cloudkms.cryptoKeyVersions.useToVerify"},
    "roles/cloudkms.cryptoKeyEncrypter": _KMS_ENCRYPT,
    "roles/cloudkms.cryptoKeyDecrypter": _KMS_DECRYPT,
    "roles/cloudkms.cryptoKeyEncrypterDecrypter": _KMS_ENCRYPT | _KMS_DECRYPT,
    "roles/cloudkms.admin": _KMS_ADMIN,
    "roles/iam.serviceAccountAdmin": _IAM_ADMIN,
    "roles/owner": _BUCKET_ADMIN | _KMS_ADMIN | _IAM_ADMIN,
}
