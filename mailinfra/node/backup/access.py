"""How a node comes into a vault without a key of its own: by its cloud identity, which the other cloud is shown.

A Google node shows AWS its identity token (OpenID Connect) and gets a role's temporary keys (AWS STS,
AssumeRoleWithWebIdentity). An AWS node shows Google a signed request for its own name (GetCallerIdentity), and
Google's STS asks AWS with it and gives a federated token (workload identity federation, RFC 8693).
"""

import base64
import json
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mailinfra.node.agent import google
from mailinfra.node.agent.bucket import Archive, GcsArchive, S3Archive
from mailinfra.node.agent.node import Node
from mailinfra.node.backup.vault import Vault

IDENTITY = "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/identity"
GOOGLE_STS = "https://sts.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class AccessError(Exception):
    """The vault's cloud does not let this node in, or its key service refuses; says who said so."""


@dataclass(frozen=True)
class Access:
    """A vault that is open: its bucket, and its key, with which passwords are wrapped and unwrapped.

    Both are bound to the repository's name (encryption context, additional authenticated data): a wrapped password
    that is moved elsewhere does not open.
    """

    bucket: Archive
    wrap: Callable[[bytes, str], bytes]
    unwrap: Callable[[bytes, str], bytes]


def access(node: Node, vault: Vault) -> Access:
    """The vault as this node may use it. Identities are asked for when they are needed."""
    return _amazon(node, vault) if vault.cloud == "aws" else _google(node, vault)


def identity_token(audience: str) -> str:
    """The Google identity token of this instance for an audience. Raises `AccessError`."""
    query = urllib.parse.urlencode({"audience": audience, "format": "full"})
    request = urllib.request.Request(f"{IDENTITY}?{query}", headers={"Metadata-Flavor": "Google"})  # noqa: S310
    try:
        return google.fetch(request).body.decode().strip()
    except google.ApiError as error:
        raise AccessError(f"the metadata server gives no identity token: {error}") from error


def _amazon(node: Node, vault: Vault) -> Access:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    session = _assumed(node, vault) if vault.access else boto3.Session()
    config = Config(connect_timeout=5, read_timeout=20, retries={"max_attempts": 3})
    kms: Any = session.client(
        "kms", region_name=vault.region, endpoint_url=vault.endpoints.get("kms") or None, config=config
    )

    def use(method: str, wanted: str, repository: str, **arguments: Any) -> bytes:
        context = {"repository": repository}
        try:
            answer = getattr(kms, method)(KeyId=vault.key, EncryptionContext=context, **arguments)
        except (BotoCoreError, ClientError) as error:
            raise AccessError(f"the vault's key {vault.key}: {error}") from error
        data: bytes = answer[wanted]
        return data

    return Access(
        S3Archive(vault.bucket, vault.region, vault.endpoints.get("storage", ""), session),
        lambda plain, name: use("encrypt", "CiphertextBlob", name, Plaintext=plain),
        lambda sealed, name: use("decrypt", "Plaintext", name, CiphertextBlob=sealed),
    )


def _assumed(node: Node, vault: Vault) -> Any:
    """A session with the vault's role, whose keys botocore renews."""
    import boto3
    from botocore.credentials import (
        AssumeRoleWithWebIdentityCredentialFetcher,
        DeferredRefreshableCredentials,
    )
    from botocore.session import Session

    inner = Session()

    def create(service: str, **arguments: Any) -> Any:
        # Of another session, and with keys that are not used: this request is not signed, and a search for
        # credentials would come back here.
        unused = {"aws_access_key_id": "unused", "aws_secret_access_key": "unused"}
        endpoint = vault.endpoints.get("sts") or None
        return Session().create_client(
            service, region_name=vault.region, endpoint_url=endpoint, **unused, **arguments
        )

    fetcher = AssumeRoleWithWebIdentityCredentialFetcher(
        client_creator=create,
        web_identity_token_loader=lambda: identity_token(vault.access["audience"]),
        role_arn=vault.access["role"],
        extra_args={"RoleSessionName": f"{node.region}-{node.name}"[:64]},
    )
    # There is no public way to hand a session credentials that renew themselves.
    inner._credentials = DeferredRefreshableCredentials(
        fetcher.fetch_credentials, method="assume-role-with-web-identity"
    )
    return boto3.Session(botocore_session=inner)


class Federated(google.Token):
    """A Google access token for an AWS identity, asked for anew before it ends."""

    def __init__(self, node: Node, vault: Vault) -> None:
        super().__init__()
        self.node, self.vault = node, vault

    def request(self) -> urllib.request.Request:
        """Asks Google's STS. Raises `AccessError` where there is no AWS identity."""
        audience = self.vault.access["audience"]
        form = {
            "audience": audience,
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "scope": SCOPE,
            "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
            "subject_token": subject_token(self.node.region, audience),
        }
        url = f"{self.vault.endpoints.get('sts') or GOOGLE_STS}/v1/token"
        return urllib.request.Request(url, urllib.parse.urlencode(form).encode(), method="POST")  # noqa: S310


def subject_token(region: str, audience: str) -> str:
    """A signed request for the caller's own name at AWS, as Google's STS takes it. Raises `AccessError`.

    https://cloud.google.com/iam/docs/workload-identity-federation-with-other-clouds
    """
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    host = f"sts.{region}.amazonaws.com"
    url = f"https://{host}?Action=GetCallerIdentity&Version=2011-06-15"
    # The audience is signed with the rest: a request that leaks is good for nobody else.
    headers = {"Host": host, "x-goog-cloud-target-resource": audience}
    request = AWSRequest(method="POST", url=url, headers=headers)
    try:
        credentials = Session().get_credentials()
    except BotoCoreError as error:
        raise AccessError(f"the metadata server gives no role's keys: {error}") from error
    if credentials is None:
        raise AccessError("the metadata server gives no role's keys: has the instance a profile?")
    SigV4Auth(credentials.get_frozen_credentials(), "sts", region).add_auth(request)
    signed = [{"key": name, "value": value} for name, value in sorted(request.headers.items())]
    return urllib.parse.quote(json.dumps({"url": url, "method": "POST", "headers": signed}, sort_keys=True))


def _google(node: Node, vault: Vault) -> Access:
    token = Federated(node, vault) if vault.access else None
    url = f"{vault.endpoints.get('kms') or 'https://cloudkms.googleapis.com'}/v1/{vault.key}"

    def use(verb: str, given: str, wanted: str, data: bytes, repository: str) -> bytes:
        bound = base64.b64encode(repository.encode()).decode()
        body = {given: base64.b64encode(data).decode(), "additionalAuthenticatedData": bound}
        try:
            answer = google.call("POST", f"{url}:{verb}", json.dumps(body).encode(), token=token)
        except google.ApiError as error:
            raise AccessError(f"the vault's key {vault.key}: {error}") from error
        return base64.b64decode(answer.json()[wanted])

    return Access(
        GcsArchive(vault.bucket, vault.endpoints.get("storage", ""), token),
        lambda plain, name: use("encrypt", "plaintext", "ciphertext", plain, name),
        lambda sealed, name: use("decrypt", "ciphertext", "plaintext", sealed, name),
    )
