"""The examples, run as they are: up, up again without a change, destroy."""

import base64
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mailinfra.sandbox.engine import EngineError
from tests.recorded import ROOT, OwnStack, RecordedSandbox

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

STACK = "example"
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_CONFIG_FILE": os.devnull}
"""All that building the SDK needs is here: pip shall not look elsewhere. A 0 switches isolation off."""


def example(name: str, folder: Path, virtualenv: Path) -> Path:
    """A copy of the example that runs in this virtual environment."""
    project = folder / name
    ignored = shutil.ignore_patterns("sdks", "venv", "__pycache__")
    shutil.copytree(ROOT / "examples" / name, project, ignore=ignored)
    file = project / "Pulumi.yaml"
    document: dict[str, Any] = yaml.safe_load(file.read_text())
    document["runtime"]["options"]["virtualenv"] = str(virtualenv)
    file.write_text(yaml.safe_dump(document))
    return project


def lives(stack: OwnStack) -> dict[str, Any]:
    """Up, up again without a change, the outputs."""
    assert set(stack.up_changes().values()) == {"create"}
    assert stack.changes() == {}
    stack.refresh_finds_nothing()
    return stack.outputs()


def gone(stack: OwnStack) -> None:
    """Destroy, and nothing is left."""
    stack.destroy(lambda _event: None)
    assert stack.resources() == []


def is_public_key(text: str) -> bool:
    return load_der_public_key(base64.b64decode(text)) is not None


def test_a_program_that_imports_the_components(
    recorded_sandbox: RecordedSandbox, tmp_path: Path, venv_dir: Path
) -> None:
    stack = recorded_sandbox.stack(example("direct", tmp_path, venv_dir), STACK)
    outputs = lives(stack)
    assert outputs["addresses"]["edge-1"]["private_ipv4"] == "10.80.0.10"
    assert is_public_key(outputs["dkimRecord"].removeprefix("v=DKIM1; k=rsa; p="))
    s3, kms = (recorded_sandbox.aws(service, "eu-central-1") for service in ("s3", "kms"))
    rules = s3.get_bucket_encryption(Bucket=outputs["archive"])["ServerSideEncryptionConfiguration"]["Rules"]
    key = rules[0]["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"]
    assert kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"] is True
    gone(stack)
    assert outputs["archive"] not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "PendingDeletion"


def test_a_program_that_uses_the_package(
    recorded_sandbox: RecordedSandbox, tmp_path: Path, venv_dir: Path
) -> None:
    project = example("package", tmp_path, venv_dir)
    stack = recorded_sandbox.stack(project, STACK)
    engine, environment = recorded_sandbox.engine, stack.environment
    package = ["package", "add", str(ROOT / "components")]
    engine.run(package, env={**environment, **OFFLINE}, cwd=project)
    outputs = lives(stack)
    assert is_public_key(outputs["authority"])
    assert is_public_key(outputs["dkim"]["gcp1"])
    assert outputs["addresses"]["edge-1"]["private_ipv4"] == "10.80.0.10"
    # From another language every number arrives as a float: 25.0 would be no port and part of a name.
    rules = [r for r in stack.resources() if r["type"].endswith(":SecurityGroupIngressRule")]
    assert {rule["urn"].rsplit("::", 1)[1] for rule in rules} == {
        "mail-net-edge-in-25-ipv4",
        "mail-net-edge-in-25-ipv6",
    }
    components = {r["type"] for r in stack.resources() if not r["custom"]}
    assert components >= {f"mailinfra:index:{name}" for name in ("MailKeys", "DkimKeys", "MailNetwork")}

    program = project / "__main__.py"
    program.write_text(program.read_text().replace('cloud="aws"', 'cloud="azure"'))
    with pytest.raises(EngineError, match="cloud: found 'azure'; allowed: aws, gcp") as raised:
        stack.pulumi("preview")
    # The SDK's own wrapper tells that it was stopped; of the components' code nothing is shown.
    assert "mailinfra_components" not in str(raised.value)
    gone(stack)
    assert json.loads(stack.pulumi("stack", "output", "--json")) == {}
