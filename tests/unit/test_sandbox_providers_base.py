"""The provider on plain data: names, previews, half-made resources, errors, faults."""

from pathlib import Path
from typing import Any

import pytest

from mailinfra.sandbox.control import NotRunning
from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.providers import faults
from mailinfra.sandbox.providers.base import Adapter, Call, Cloud, SandboxProvider
from mailinfra.sandbox.providers.diffs import Rules
from mailinfra.sandbox.providers.errors import ProviderError, Unfinished
from mailinfra.sandbox.providers.values import UNKNOWN

ROLE = "aws:iam/role:Role"
QUEUE = "aws:sqs/queue:Queue"


def urn(token: str, name: str = "r") -> str:
    return f"urn:pulumi:dev::proj::mailinfra:index:Box${token}::{name}"


class Roles(Adapter):
    """Roles in memory."""

    rules = Rules(replaces=frozenset({"name"}), json=frozenset({"assumeRolePolicy"}))
    computed = frozenset({"path"})
    volatile = frozenset({"uniqueId"})

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.error: Exception | None = None

    def create(self, call: Call) -> tuple[str, dict[str, Any]]:
        if self.error:
            raise self.error
        self.kept[call.inputs["name"]] = dict(call.inputs)
        return call.inputs["name"], {"arn": f"arn:{call.inputs['name']}", "path": "/", "description": None}

    def read(self, call: Call) -> dict[str, Any] | None:
        return self.kept.get(call.id)

    def update(self, call: Call) -> dict[str, Any]:
        self.kept[call.id] = dict(call.inputs)
        return {}

    def delete(self, call: Call) -> None:
        self.kept.pop(call.id, None)


class FakeCloud(Cloud):
    """AWS's types, with one adapter."""

    name = "aws"
    package = "pulumi_aws"
    always_replaces = frozenset({"region"})

    def __init__(self, paths: Paths) -> None:
        super().__init__(paths)
        self.roles = Roles()

    @property
    def adapters(self):  # type: ignore[override]
        return {ROLE: self.roles}

    @property
    def functions(self):  # type: ignore[override]
        return {"aws:index/getRegion:getRegion": lambda cloud, arguments: {"id": "x", "name": "x"}}

    def explain(self, error: Exception) -> str | None:
        return f"Code: {error}" if isinstance(error, PermissionError) else None


@pytest.fixture
def cloud(tmp_path: Path) -> FakeCloud:
    return FakeCloud(Paths("t", tmp_path / "state", tmp_path / "cache"))


@pytest.fixture
def provider(cloud: FakeCloud) -> SandboxProvider:
    return SandboxProvider(cloud)


def created(provider: SandboxProvider, **inputs: Any) -> tuple[dict, str, dict]:
    checked, failures = provider.check(urn(ROLE), {}, {"assumeRolePolicy": "{}", **inputs}, b"seed")
    assert failures == []
    identifier, state = provider.create(urn(ROLE), checked, preview=False)
    return checked, identifier, state


def test_a_name_is_made_kept_and_made_anew_for_a_replacement(provider: SandboxProvider):
    inputs, failures = provider.check(urn(ROLE), {}, {"assumeRolePolicy": "{}"}, b"seed")
    assert failures == []
    assert inputs["name"].startswith("r-") and len(inputs["name"]) == len("r-") + 7
    again, _ = provider.check(urn(ROLE), inputs, {"assumeRolePolicy": "{}"}, b"other seed")
    assert again["name"] == inputs["name"]
    fresh, _ = provider.check(urn(ROLE), {}, {"assumeRolePolicy": "{}"}, b"other seed")
    assert fresh["name"] != inputs["name"]
    given, _ = provider.check(urn(ROLE), inputs, {"assumeRolePolicy": "{}", "name": "mine"}, b"seed")
    assert given["name"] == "mine" and "__defaults" not in given


def test_only_a_given_name_is_deleted_before_its_replacement(provider: SandboxProvider):
    old, _ = provider.check(urn(ROLE), {}, {"assumeRolePolicy": "{}", "name": "mine", "path": "/a/"}, b"s")
    new = {**old, "region": "x"}
    assert provider.diff(urn(ROLE), "mine", old, {}, new).delete_before_replace
    renamed = {**old, "name": "other"}
    assert not provider.diff(urn(ROLE), "mine", old, {}, renamed).delete_before_replace
    auto, _ = provider.check(urn(ROLE), {}, {"assumeRolePolicy": "{}"}, b"s")
    found = provider.diff(urn(ROLE), "x", auto, {}, {**auto, "region": "x"})
    assert found.replaces == {"region"} and not found.delete_before_replace


def test_a_preview_does_nothing_and_knows_what_only_the_cloud_knows(
    provider: SandboxProvider, cloud: FakeCloud
):
    inputs, _ = provider.check(urn(ROLE), {}, {"assumeRolePolicy": "{}"}, b"s")
    identifier, state = provider.create(urn(ROLE), inputs, preview=True)
    assert (identifier, cloud.roles.kept) == ("", {})
    assert state["arn"] == state["path"] == UNKNOWN
    assert state["assumeRolePolicy"] == "{}"
    assert "description" not in state and "__defaults" not in state


def test_the_preview_of_an_update_keeps_what_stays(provider: SandboxProvider):
    inputs, identifier, state = created(provider, description="a")
    new = {key: value for key, value in inputs.items() if key != "description"}
    seen = provider.update(urn(ROLE), identifier, inputs, state, new, preview=True)
    assert seen["arn"] == state["arn"]
    assert seen["uniqueId"] == UNKNOWN
    assert "description" not in seen


def test_lifecycle(provider: SandboxProvider, cloud: FakeCloud):
    inputs, identifier, state = created(provider, description="a")
    assert state["arn"] == f"arn:{identifier}" and state["description"] == "a"
    new = {**inputs, "description": "b"}
    found = provider.diff(urn(ROLE), identifier, inputs, state, new)
    assert [change.path for change in found.changes] == ["description"] and not found.replaces
    state = provider.update(urn(ROLE), identifier, inputs, state, new, preview=False)
    assert state["description"] == "b" and cloud.roles.kept[identifier]["description"] == "b"
    assert provider.read(urn(ROLE), identifier, new, state) == (new, state)
    provider.delete(urn(ROLE), identifier, state)
    assert provider.read(urn(ROLE), identifier, new, state) is None


def test_drift_is_seen_and_formatting_is_no_drift(provider: SandboxProvider, cloud: FakeCloud):
    inputs, identifier, state = created(provider, assumeRolePolicy='{"a": 1}', tags={"x": "1"})
    cloud.roles.kept[identifier]["assumeRolePolicy"] = '{"a":1}'
    cloud.roles.kept[identifier]["tags"] = {"x": "1", "y": "2"}
    found = provider.read(urn(ROLE), identifier, inputs, state)
    assert found is not None
    assert found[0]["assumeRolePolicy"] == '{"a": 1}'
    assert found[0]["tags"] == {"x": "1", "y": "2"}


def test_recorded_types_keep_their_inputs(provider: SandboxProvider):
    inputs, failures = provider.check(urn(QUEUE), {}, {"delaySeconds": 5}, b"s")
    assert failures == []
    identifier, state = provider.create(urn(QUEUE), inputs, preview=False)
    assert state["delaySeconds"] == 5 and identifier == inputs["name"]
    assert provider.read(urn(QUEUE), identifier, inputs, state) == (inputs, state)
    with pytest.raises(ProviderError, match="recorded only"):
        provider.read(urn(QUEUE), "q", {}, {})
    assert provider.live_types() == {ROLE}


def test_errors_are_one_line(provider: SandboxProvider, cloud: FakeCloud):
    for error, words in (
        (PermissionError("no\nway"), r"^create aws:iam/role:Role: Code: no\nway$"),
        (NotRunning("no daemon"), "^create aws:iam/role:Role: NotRunning: no daemon$"),
        (
            KeyError("odd"),
            "^create aws:iam/role:Role: KeyError: 'odd' .a defect of the sandbox; more in .*provider-aws.log.$",
        ),
        (ProviderError("plain"), "^plain$"),
    ):
        cloud.roles.error = error
        with pytest.raises(ProviderError, match=words):
            created(provider)
    assert "KeyError: 'odd'" in (cloud.paths.state / "logs" / "provider-aws.log").read_text()


def test_outputs_that_the_sdk_does_not_have_are_a_defect(
    provider: SandboxProvider, cloud: FakeCloud, monkeypatch
):
    monkeypatch.setattr(cloud.roles, "create", lambda call: ("x", {"arm": "x"}))
    with pytest.raises(ProviderError, match="outputs that the SDK does not have: arm"):
        created(provider)


def test_half_made(provider: SandboxProvider, cloud: FakeCloud):
    cloud.roles.error = Unfinished("the second step failed", "id-1", {"arn": "arn:1"})
    with pytest.raises(Unfinished, match="second step") as caught:
        created(provider)
    assert caught.value.id == "id-1"
    assert caught.value.outputs["arn"] == "arn:1" and caught.value.outputs["assumeRolePolicy"] == "{}"


def test_unknown_type_and_function(provider: SandboxProvider):
    with pytest.raises(ProviderError, match="no such resource type"):
        provider.check(urn("aws:iam/rolle:Rolle"), {}, {}, b"")
    with pytest.raises(
        ProviderError, match=r"getVpc: the sandbox does not support this function; it supports: .*getRegion"
    ):
        provider.invoke("aws:ec2/getVpc:getVpc", {})


def test_functions_check_their_arguments(provider: SandboxProvider):
    assert provider.invoke("aws:index/getRegion:getRegion", {}) == ({"id": "x", "name": "x"}, [])
    _, failures = provider.invoke("aws:index/getRegion:getRegion", {"name": 1})
    assert [str(failure) for failure in failures] == ["name: found number 1; allowed: string"]


def test_provider_configuration(provider: SandboxProvider, cloud: FakeCloud):
    right = {"region": "eu-central-1", "defaultTags": '{"tags": {"a": "b"}}', "version": "7.51.1"}
    assert provider.check_config(right) == []
    provider.configure(right)
    assert cloud.config == {"region": "eu-central-1", "defaultTags": {"tags": {"a": "b"}}}
    wrong = {"regio": "x", "defaultTags": "{", "maxRetries": '"many"'}
    assert [str(failure) for failure in provider.check_config(wrong)] == [
        "defaultTags: found string '{'; allowed: object ProviderDefaultTags",
        "regio: unknown property; did you mean 'region'?",
        'maxRetries: found string "many"; allowed: integer',
    ]


def test_faults(cloud: FakeCloud):
    before = SandboxProvider(cloud, faults.parse(f"create {ROLE} error"))
    with pytest.raises(ProviderError, match=faults.VARIABLE):
        created(before)
    assert cloud.roles.kept == {}
    after = SandboxProvider(cloud, faults.parse("create * error-after; delete * error"))
    with pytest.raises(Unfinished, match=faults.VARIABLE):
        created(after)
    assert len(cloud.roles.kept) == 1
    with pytest.raises(ProviderError, match=faults.VARIABLE):
        after.delete(urn(ROLE), "x", {})


@pytest.mark.parametrize("text", ["create", "make * error", "create * explode"])
def test_wrong_fault_rules(text: str):
    with pytest.raises(ProviderError, match=r"found .*; allowed: <create\|read\|update\|delete>"):
        faults.parse(text)


def test_what_was_made_and_never_heard_of_is_taken_up(provider: SandboxProvider, cloud: FakeCloud):
    inputs, identifier, _ = created(provider, name="mine", description="a")
    cloud.roles.error = FileExistsError("mine exists")
    again = SandboxProvider(cloud).create(urn(ROLE), inputs, preview=False)
    assert again[0] == identifier and again[1]["description"] == "a"


def test_what_the_engine_knows_is_not_taken_up(provider: SandboxProvider, cloud: FakeCloud):
    inputs, identifier, state = created(provider, name="mine")
    provider.diff(urn(ROLE), identifier, inputs, state, inputs)
    cloud.roles.error = PermissionError("mine exists")
    with pytest.raises(ProviderError, match="mine exists"):
        provider.create(urn(ROLE), inputs, preview=False)


def test_nothing_is_taken_up_that_is_gone(provider: SandboxProvider, cloud: FakeCloud):
    inputs, _, _ = created(provider, name="mine")
    cloud.roles.error = PermissionError("made anew")
    cloud.roles.kept.clear()
    with pytest.raises(ProviderError, match="made anew"):
        provider.create(urn(ROLE), inputs, preview=False)


def test_what_is_taken_up_follows_the_program(provider: SandboxProvider, cloud: FakeCloud):
    inputs, identifier, _ = created(provider, name="mine", description="a", tags={"x": "1"})
    later = {key: value for key, value in inputs.items() if key != "tags"} | {"description": "b"}
    cloud.roles.error = FileExistsError("mine exists")
    taken, state = SandboxProvider(cloud).create(urn(ROLE), later, preview=False)
    assert taken == identifier and cloud.roles.kept[identifier] == later
    assert state["description"] == "b" and "tags" not in state


def test_what_the_program_would_replace_is_not_taken_up(provider: SandboxProvider, cloud: FakeCloud):
    inputs, _, _ = created(provider, name="mine")
    identifier, _ = SandboxProvider(cloud).create(urn(ROLE), {**inputs, "name": "other"}, preview=False)
    assert identifier == "other" and cloud.roles.kept.keys() == {"other"}


def test_what_is_taken_up_keeps_the_name_that_was_made_for_it(provider: SandboxProvider, cloud: FakeCloud):
    inputs, identifier, state = created(provider)
    after = SandboxProvider(cloud)
    again, failures = after.check(urn(ROLE), {}, {"assumeRolePolicy": "{}"}, b"another up's seed")
    assert failures == [] and again == inputs
    assert after.create(urn(ROLE), again, preview=False)[0] == identifier
    # Once the engine knows it, a replacement of it gets a name of its own.
    after.diff(urn(ROLE), identifier, inputs, state, inputs)
    replacement, _ = after.check(urn(ROLE), {}, {"assumeRolePolicy": "{}"}, b"another up's seed")
    assert replacement["name"] != inputs["name"]


def test_of_what_is_taken_up_only_what_differs_is_set(
    provider: SandboxProvider, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
):
    inputs, identifier, _ = created(provider, name="mine", description="a", path="/p/")
    calls: list[Call] = []
    monkeypatch.setattr(cloud.roles, "update", lambda call: calls.append(call) or {"uniqueId": "u"})
    there = cloud.roles.kept[identifier]

    there["arn"] = "arn:read"
    _, state = SandboxProvider(cloud).create(urn(ROLE), inputs, preview=False)
    assert calls == [] and state["arn"] == "arn:read", "all was set up: it is only read"

    del there["name"]
    SandboxProvider(cloud).create(urn(ROLE), inputs, preview=False)
    assert calls == [], "what only a create can set, none has left out"

    del there["description"]
    _, state = SandboxProvider(cloud).create(urn(ROLE), inputs, preview=False)
    assert len(calls) == 1 and calls[0].changed("description") and not calls[0].changed("path")
    assert (state["arn"], state["uniqueId"], state["description"]) == ("arn:read", "u", "a")
