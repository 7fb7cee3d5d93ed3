"""The component package as the engine sees it."""

import json

import pytest

from mailinfra.sandbox.engine import Engine
from tests.recorded import ROOT
from tools.schema import SCHEMA, schema

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


def test_the_committed_schema_is_the_one_that_the_engine_gets(
    engine: Engine, engine_env: dict[str, str]
) -> None:
    served = engine.run(["package", "get-schema", "./components"], env=engine_env, cwd=ROOT).stdout
    committed = json.loads(SCHEMA.read_text())
    assert json.loads(served) == committed
    assert set(committed["resources"]) == {
        f"mailinfra:index:{name}"
        for name in (
            "AwsFederation",
            "BackupVault",
            "DkimKeys",
            "MailFleet",
            "MailKeys",
            "MailLinks",
            "MailNetwork",
            "MailNodes",
            "MailRecords",
            "MailSnapshots",
            "MailTraces",
            "MxRouting",
            "ProjectTraces",
            "UserDirectory",
        )
    }


def test_the_committed_schema_is_the_one_that_the_tool_writes(engine: Engine) -> None:
    assert SCHEMA.read_text() == schema(engine)


def test_every_input_and_output_of_a_component_is_described() -> None:
    document = json.loads(SCHEMA.read_text())
    bare = [
        f"{token}.{kind}.{name}"
        for token, resource in document["resources"].items()
        for kind in ("inputProperties", "properties")
        for name, found in resource.get(kind, {}).items()
        if not found.get("description")
    ]
    bare += [
        f"{token}.{name}"
        for token, found in document.get("types", {}).items()
        for name, one in found["properties"].items()
        if not one.get("description")
    ]
    assert bare == []
