"""The node's software object."""

import ast
import hashlib
import json
import sys

from mailinfra.node.pack import software

DEBIAN = {"boto3", "botocore", "cryptography"}
"""What is there beside the standard library: packages that the bootstrap installs."""


def test_key_names_the_content() -> None:
    shipped = software()
    assert shipped.sha256 == hashlib.sha256(shipped.text.encode()).hexdigest()
    assert shipped.key == f"node/{shipped.sha256[:16]}.json"
    assert shipped.text.endswith("\n")


def test_every_module_is_complete_and_needs_only_what_a_node_has() -> None:
    sources: dict[str, str] = json.loads(software().text)
    modules = {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in sources}
    assert {"mailinfra.node.agent.__main__", "mailinfra.node.homeward", "mailinfra.dkim.milter"} <= modules
    assert {f"mailinfra.node.replica.{name}" for name in ("gate", "link", "replicator")} <= modules
    for path, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            names = [item.name for item in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top = name.partition(".")[0]
                assert top in sys.stdlib_module_names | DEBIAN or name in modules, f"{path} imports {name}"


def test_packages_are_importable_packages() -> None:
    paths = json.loads(software().text)
    folders = {path.rpartition("/")[0] for path in paths}
    assert all(f"{folder}/__init__.py" in paths for folder in folders)
