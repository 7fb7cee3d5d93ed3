"""What the daemon gives its parts."""

from pathlib import Path

import pytest

from mailinfra.sandbox.context import Context, StateFile
from mailinfra.sandbox.metadata import MetadataService
from mailinfra.sandbox.model import MachineFile, MachineSpec
from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.pki import Authority


@pytest.fixture
def context(tmp_path: Path) -> Context:
    paths = Paths("test", tmp_path / "state", tmp_path / "cache")
    return Context(
        paths=paths,
        authority=Authority.ensure(paths.folder("pki")),
        metadata=MetadataService(),
        network=None,
        supervisor=None,
        methods={"dns.add": lambda left, right: left + right},
        standing_machines=[],
        base_files={},
    )


def test_state_is_kept_whole(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "s.json")
    assert state.load() == {}
    state.save({"b": [1], "a": "ä"})
    assert StateFile(tmp_path / "s.json").load() == {"a": "ä", "b": [1]}
    (tmp_path / "s.json").write_text("[]")
    with pytest.raises(ValueError, match="found list; allowed: a JSON object"):
        state.load()


def test_parts_reach_each_other(context: Context) -> None:
    assert context.call("dns.add", left=1, right=2) == 3
    with pytest.raises(KeyError):
        context.call("dns.nothing")
    context.state("dns").save({"zone": 1})
    assert context.state("dns").load() == {"zone": 1}
    assert context.state("aws").load() == {}


def test_without_machines_all_that_is_for_machines_is_harmless(context: Context) -> None:
    assert not context.machines
    context.add_files({"/etc/x": MachineFile.text("x")})
    context.standing(MachineSpec("m", "outside", "h", "r", "DE", "192.0.2.1"))
    context.on_machine("m", lambda _: pytest.fail("there is no machine"))
    assert list(context.base_files) == ["/etc/x"]
    assert [spec.id for spec in context.standing_machines] == ["m"]
