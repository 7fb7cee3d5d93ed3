"""A file of the engine's is recognised by its content, and a wrong one refused with what was found."""

import json
from pathlib import Path
from typing import Any

import pytest

from mailinfra_policy.resource import Source
from mailinfra_policy.sources import file
from mailinfra_policy.sources.loaded import Loaded, SourceError
from mailinfra_policy.values import UNKNOWN
from tests.check_helpers import GUARDED, INSTANCE, state, state_file

SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"
UNKNOWN_TEXT = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
PROVIDER = "pulumi:providers:aws"


def provider(name: str = "default_7_51_1", **inputs: Any) -> dict[str, Any]:
    return state(PROVIDER, name, {"region": "eu-central-1", **inputs}, id="0123")


def reference(name: str = "default_7_51_1") -> str:
    return f"urn:pulumi:dev::shop::{PROVIDER}::{name}::0123"


def loaded(path: Path, resources: list[dict[str, Any]], **more: Any) -> Loaded:
    return file.load(state_file(path / "state.json", resources, **more))


def test_a_state_gives_what_the_engine_knows(tmp_path: Path) -> None:
    key = state("aws:kms/key:Key", "key", outputs={"arn": "arn:aws:kms:eu-central-1:1:key/k"})
    bucket = state(
        "aws:s3/bucket:Bucket",
        "mail",
        {"bucket": "mail", "__defaults": ["bucket"], "tags": {"a": "b", "__defaults": []}},
        provider=reference(),
        parent="urn:pulumi:dev::shop::shop:index:Store::store",
        dependencies=[key["urn"]],
        propertyDependencies={"bucket": [key["urn"]], "tags": None},
        protect=True,
        sourcePosition="project:///infra/__main__.py#17,3",
    )
    settings = provider(defaultTags='{"tags":{"residency-zone":"eu"}}')
    _, _, found = loaded(tmp_path, [settings, key, bucket]).stack.resources
    assert found.props == {"bucket": "mail", "tags": {"a": "b"}}
    assert found.id == "mail-id"
    assert found.provider and found.provider.props["region"] == "eu-central-1"
    assert found.tag("residency-zone") == "eu"
    assert found.parent.endswith("::store") and found.dependencies == (key["urn"],)
    assert found.property_dependencies == {"bucket": (key["urn"],), "tags": ()}
    assert found.protect and found.source == Source("infra/__main__.py", 17)


def test_a_checkpoint_file_is_taken_too(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    latest = {"resources": [state(INSTANCE, "node", {"ami": "ami-1"})]}
    path.write_text(json.dumps({"version": 3, "checkpoint": {"stack": "dev", "latest": latest}}))
    assert [item.name for item in file.load(path).stack.resources] == ["node"]


def test_a_secret_is_unknown_where_only_its_cipher_is_there(tmp_path: Path) -> None:
    closed = {SIGNATURE: SECRET, "ciphertext": "v1:abc"}
    opened = {SIGNATURE: SECRET, "plaintext": '"text"'}
    (found,) = loaded(
        tmp_path, [state(INSTANCE, "node", {"userData": closed, "ami": opened})]
    ).stack.resources
    assert found.get("userData") is UNKNOWN and found.get("ami") == "text"
    assert found.secrets == {"userData", "ami"}


def test_what_is_not_the_stacks_is_left_out_and_said(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        [
            state(INSTANCE, "old", delete=True),
            state(INSTANCE, "theirs", external=True),
            state(INSTANCE, "node"),
        ],
    )
    assert [item.name for item in found.stack.resources] == ["node"]
    assert {(gap.place, gap.blocking) for gap in found.gaps} == {
        (f"{INSTANCE}::old", False),
        (f"{INSTANCE}::theirs", False),
    }


def test_operations_that_were_cut_off_keep_a_state_from_being_judged(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(
        json.dumps(
            {"version": 3, "deployment": {"resources": [], "pending_operations": [{"type": "creating"}]}}
        )
    )
    (gap,) = file.load(path).gaps
    assert gap.blocking and "1 operations were cut off" in gap.reason


def preview(path: Path, steps: list[dict[str, Any]], **more: Any) -> Path:
    path.write_text(
        json.dumps({"config": {"aws:region": "eu-central-1"}, "steps": steps, "duration": 1, **more})
    )
    return path


def step(op: str, resource: dict[str, Any] | None) -> dict[str, Any]:
    urn = (resource or state(INSTANCE, "gone"))["urn"]
    return {"op": op, "urn": urn, **({"newState": resource} if resource else {})}


def test_a_preview_gives_what_will_be(tmp_path: Path) -> None:
    node = state(INSTANCE, "node", {"metadataOptions": GUARDED, "subnetId": UNKNOWN_TEXT})
    same = state(INSTANCE, "same", {"userData": "[secret]"})
    replaced = [step("create-replacement", node), step("replace", node), step("delete-replaced", None)]
    path = preview(
        tmp_path / "preview.json",
        [step("same", same), step("delete", None), *replaced],
        changeSummary={"same": 1, "replace": 1, "delete": 1},
    )
    found = file.load(path)
    first, second = found.stack.resources
    assert (first.name, second.name) == ("same", "node")
    assert second.get("subnetId") is UNKNOWN and second.get("metadataOptions") == GUARDED
    assert first.get("userData") is UNKNOWN
    assert found.config == {"aws:region": "eu-central-1"}


def test_a_preview_without_the_unchanged_is_refused(tmp_path: Path) -> None:
    path = preview(
        tmp_path / "preview.json", [step("create", state(INSTANCE, "n"))], changeSummary={"same": 41}
    )
    with pytest.raises(SourceError, match=r"steps: found 0 of 41 unchanged resources; .* --show-sames"):
        file.load(path)


def test_a_preview_that_failed_is_refused_with_its_error(tmp_path: Path) -> None:
    path = preview(
        tmp_path / "preview.json", [], diagnostics=[{"severity": "error", "message": "no such region\n"}]
    )
    with pytest.raises(SourceError, match="the preview failed: no such region"):
        file.load(path)


WRONG = {
    "no JSON": ("resources: []", "found no JSON"),
    "another document": ('{"openapi": "3.1.0", "info": {}}', "found an object with 'openapi', 'info'"),
    "an empty object": ("{}", "found an object with nothing"),
    "a list": ("[1, 2]", "found [1, 2]"),
    "bytes": ("\udcff", "found no JSON"),
    "a nest": ("[" * 100_000, "found no JSON"),
    "an old state": ('{"version": 1, "deployment": {}}', "version: found 1; allowed: 3 or 4"),
    "a state with no version": ('{"deployment": {}}', "version: found nothing"),
    "a stack that was never up": ('{"version": 3, "deployment": null}', "deployment: found nothing"),
    "a text for resources": (
        '{"version": 3, "deployment": {"resources": "all"}}',
        'deployment.resources: found "all"; allowed: a list',
    ),
    "a resource that is none": (
        '{"version": 3, "deployment": {"resources": [1]}}',
        "deployment.resources[0]: found 1",
    ),
    "a wrong URN": (
        '{"version": 3, "deployment": {"resources": [{"urn": "urn:x"}]}}',
        'deployment.resources[0].urn: found "urn:x"',
    ),
    "wrong inputs": (
        '{"version": 3, "deployment": {"resources": [{"urn": "urn:pulumi:a::b::c:d:E::f", "inputs": [1]}]}}',
        "deployment.resources[0].inputs: found [1]; allowed: an object",
    ),
    "wrong steps": ('{"steps": "none"}', 'steps: found "none"'),
    "wrong counts": ('{"steps": [], "changeSummary": {"same": "many"}}', "changeSummary.same"),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_with_what_was_found(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(SourceError) as caught:
        file.load(path)
    assert said in str(caught.value) and str(caught.value).startswith(str(path))


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        file.load(tmp_path / "none.json")
