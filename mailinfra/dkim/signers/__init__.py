"""Signers: what turns the SHA-256 digest of a message into a signature without showing the private key."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

KINDS = ("aws", "gcp", "pkcs11")

DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
"""What PKCS#1 v1.5 puts before a SHA-256 digest (RFC 8017 9.2, note 1)."""


class SignError(Exception):
    """A signature that could not be had. `again` says whether asking again may help."""

    def __init__(self, reason: str, again: bool = True) -> None:
        super().__init__(reason)
        self.again = again


class Signer(Protocol):
    """An RSA key in an HSM. `sign` is called from many threads at once."""

    def sign(self, digest: bytes) -> bytes:
        """Return the PKCS#1 v1.5 signature over a SHA-256 digest of 32 bytes, or raise `SignError`."""
        ...


def load(spec: Mapping[str, Any]) -> Signer:
    """Return the signer that a signer spec names: its `kind`, and the keyword arguments of that kind's `Key`.

    Only the module of that kind is imported, so that a node needs the library of its own cloud only. Raises
    `ValueError` for a kind that is not in `KINDS` or for arguments that the kind does not take.
    """
    args = dict(spec)
    kind = args.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; allowed: {', '.join(KINDS)}")
    try:
        signer: Signer = import_module(f"{__name__}.{kind}").Key(**args)
    except TypeError as error:
        raise ValueError(f"{kind}: {str(error).removeprefix('Key.__init__() ')}") from error
    return signer
