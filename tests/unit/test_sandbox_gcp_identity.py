from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from mailinfra.sandbox.gcp import identity
from mailinfra.sandbox.gcp.api import GoogleApis
from mailinfra.sandbox.gcp.http import ApiError, Request
from mailinfra.sandbox.gcp.store import now
from tests.gcp_helpers import PROJECT, Client, account, binding, crypto_key, grant, operator

POLICY = f"/v1/projects/{PROJECT}"


@pytest.fixture(scope="module")
def apis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleApis]:
    made = GoogleApis(tmp_path_factory.mktemp("gcp"))
    yield made
    made.close()


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic b3BlcmF0b3I6", "Bearer "])
def test_nobody_calls_without_a_token(apis: GoogleApis, header: str) -> None:
    with pytest.raises(ApiError) as raised:
        apis(Request("GET", "/storage/v1/b", headers={"authorization": header}))
    assert raised.value.code == 401


def test_a_token_ends(apis: GoogleApis, monkeypatch: pytest.MonkeyPatch) -> None:
    _, node = account(apis, "short-lived")
    assert node.code("GET", f"/storage/v1/b?project={PROJECT}") == 403
    monkeypatch.setattr(identity, "now", lambda: now() + timedelta(hours=1, seconds=1))
    assert node.code("GET", f"/storage/v1/b?project={PROJECT}") == 401


def test_the_same_token_is_given_until_shortly_before_its_end(
    apis: GoogleApis, monkeypatch: pytest.MonkeyPatch
) -> None:
    member, node = account(apis, "cached-token")
    email = member.partition(":")[2]
    assert apis.identity.issue(email)["access_token"] == node.token
    monkeypatch.setattr(identity, "now", lambda: now() + timedelta(minutes=56))
    renewed = apis.identity.issue(email)
    assert renewed["access_token"] != node.token
    assert renewed["expires_in"] == 3600


def test_no_token_is_kept_in_the_clear(tmp_path: Path) -> None:
    apis = GoogleApis(tmp_path)
    _, node = account(apis, "hidden-token")
    apis.close()
    for file in (f for f in tmp_path.rglob("*") if f.is_file() and f.name != "operator.token"):
        assert node.token.encode() not in file.read_bytes()
    assert (tmp_path / "operator.token").stat().st_mode & 0o777 == 0o600


def test_a_disabled_or_deleted_account_is_locked_out_and_its_heir_inherits_nothing(apis: GoogleApis) -> None:
    member, node = account(apis, "leaving-node")
    email = member.partition(":")[2]
    url = f"/v1/projects/{PROJECT}/serviceAccounts/{email}"
    key = crypto_key(apis, "inherited")
    grant(apis, key, "roles/cloudkms.viewer", member)
    assert node.code("GET", f"/v1/{key}") == 200
    operator(apis)("PATCH", url, {"serviceAccount": {"disabled": True}})
    assert node.code("GET", f"/v1/{key}") == 401
    with pytest.raises(ApiError, match="disabled"):
        apis.identity.issue(email)
    operator(apis).send("DELETE", url)
    with pytest.raises(ApiError, match="does not exist"):
        apis.identity.issue(email)
    _, heir = account(apis, "leaving-node")
    assert heir.code("GET", f"/v1/{key}") == 403
    policy = operator(apis)("GET", f"/v1/{key}:getIamPolicy")
    assert policy["bindings"][0]["members"][0].startswith(f"deleted:serviceAccount:{email}?uid=")
    operator(apis)("POST", f"/v1/{key}:setIamPolicy", {"policy": policy})


@pytest.mark.parametrize("name", ["short", "Upper-case", "a" * 31, "ends-with-", "1-number-first"])
def test_an_account_id_that_google_refuses(apis: GoogleApis, name: str) -> None:
    with pytest.raises(ApiError) as raised:
        account(apis, name)
    assert raised.value.code == 400


def test_two_writers_of_a_policy_do_not_lose_a_grant(apis: GoogleApis) -> None:
    member, _ = account(apis, "racing-node")
    client = operator(apis)
    one, two = client("GET", f"{POLICY}:getIamPolicy"), client("GET", f"{POLICY}:getIamPolicy")
    one["bindings"].append(binding("roles/storage.admin", member))
    client("POST", f"{POLICY}:setIamPolicy", {"policy": one})
    with pytest.raises(ApiError) as raised:
        client("POST", f"{POLICY}:setIamPolicy", {"policy": two})
    assert (raised.value.code, raised.value.status) == (409, "ABORTED")


@pytest.mark.parametrize(
    ("member", "expression", "message"),
    [
        ("serviceAccount:nobody@sandbox-project.iam.gserviceaccount.com", "", "does not exist"),
        ("someone@example.test", "", "Invalid member"),
        ("user:someone@example.test", "resource.name.startsWith(", "no CEL"),
    ],
)
def test_a_binding_that_google_refuses(apis: GoogleApis, member: str, expression: str, message: str) -> None:
    with pytest.raises(ApiError, match=message):
        grant(apis, f"projects/{PROJECT}", "roles/storage.admin", member, expression)


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        (
            'resource.type == "cloudkms.googleapis.com/CryptoKey" && resource.service == "cloudkms.googleapis.com"',
            True,
        ),
        ('request.time < timestamp("2001-01-01T00:00:00Z")', False),
        ('resource.name.extract("keyRings/{ring}/") == "ring"', True),
        ('resource.name.extract("keyRings/{ring}/") == "other"', False),
        ("resource.nothing == 1", False),
        ("unknown_function(resource.name)", False),
        ("1 + 1", False),
    ],
)
def test_conditions_are_evaluated_and_grant_nothing_when_they_cannot_be(
    apis: GoogleApis, expression: str, holds: bool
) -> None:
    import hashlib

    suffix = hashlib.sha256(expression.encode()).hexdigest()[:8]
    member, node = account(apis, f"cond-{suffix}")
    key = crypto_key(apis, f"cond-{suffix}")
    grant(apis, key, "roles/cloudkms.viewer", member, expression)
    assert (node.code("GET", f"/v1/{key}") == 200) is holds


def test_a_custom_role_grants_what_it_lists(apis: GoogleApis) -> None:
    member, node = account(apis, "custom-node")
    key = crypto_key(apis, "custom")
    role = {"roleId": "keySeer", "role": {"title": "t", "includedPermissions": ["cloudkms.cryptoKeys.get"]}}
    made = operator(apis)("POST", f"/v1/projects/{PROJECT}/roles", role)
    grant(apis, key, made["name"], member)
    assert node.code("GET", f"/v1/{key}") == 200
    assert node.code("GET", f"/v1/{key}/cryptoKeyVersions") == 403
    assert node(
        "POST", f"/v1/{key}:testIamPermissions", {"permissions": ["cloudkms.cryptoKeys.get", "x.y.z"]}
    ) == {"permissions": ["cloudkms.cryptoKeys.get"]}


def test_only_the_operator_provisions(apis: GoogleApis) -> None:
    member, node = account(apis, "curious-node")
    grant(apis, f"projects/{PROJECT}", "roles/owner", member)
    assert node.code("POST", "/sandbox/network/projects%2Fp%2Fglobal%2Fnetworks%2Fn", {}) == 403


def test_token_info_names_the_account(apis: GoogleApis) -> None:
    member, node = account(apis, "asking-node")
    nobody = Client(apis, "")
    assert nobody("GET", f"/tokeninfo?access_token={node.token}")["email"] == member.partition(":")[2]
    assert nobody.code("GET", "/tokeninfo?access_token=x") == 400
