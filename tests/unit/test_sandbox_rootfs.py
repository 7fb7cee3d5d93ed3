"""The images' recipes, without making one."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mailinfra.fleet import Cloud, Role
from mailinfra.node.bootstrap import packages
from mailinfra.sandbox import rootfs
from tests.node_helpers import node_spec


def test_a_layers_name_changes_with_all_that_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    node, internet = rootfs.LAYERS["node"], rootfs.LAYERS["internet"]
    assert internet.base is node
    more = replace(node, packages=(*node.packages, "one-more"))
    assert more.hash != node.hash
    assert replace(internet, base=more).hash != internet.hash
    before = node.hash
    text = rootfs._text
    monkeypatch.setattr(rootfs, "_text", lambda name: text(name) + "#")
    assert node.hash != before


def test_a_cached_image_is_all_its_layers_uppermost_first(tmp_path: Path) -> None:
    stock, node, internet = (rootfs.LAYERS[name].folder(tmp_path) for name in ("stock", "node", "internet"))
    internet.mkdir()
    node.mkdir()
    assert rootfs.cached("internet", tmp_path) is None, "its base is missing"
    stock.mkdir()
    assert rootfs.cached("internet", tmp_path) == (internet, node, stock)
    assert rootfs.ensure("node", tmp_path, lambda *_: pytest.fail("nothing to do")) == (node, stock)
    (node / "file").write_bytes(b"x" * 5000)
    assert rootfs.size((node,)) >= 5000


def test_layers_of_other_recipes_go_unless_somebody_uses_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (
        "rootfs-node-old",
        "rootfs-node-held",
        "rootfs-node-mounted",
        "rootfs-internet-x.partial",
        "other",
    )
    old, held, mounted, *foreign = [tmp_path / name for name in names]
    current = rootfs.LAYERS["node"].folder(tmp_path)
    for folder in (old, held, mounted, current, *foreign):
        (folder / "etc").mkdir(parents=True)
    monkeypatch.setattr(rootfs, "_mounted", lambda: {str(mounted)})
    descriptors = rootfs.hold([held])
    rootfs._prune(tmp_path)
    assert set(tmp_path.iterdir()) == {held, mounted, current, *foreign}
    os.close(descriptors[0])
    rootfs._prune(tmp_path)
    assert set(tmp_path.iterdir()) == {mounted, current, *foreign}


def test_the_stock_image_has_nothing_of_ours_and_the_node_image_all_that_nodes_install() -> None:
    stock, node = rootfs.LAYERS["stock"], rootfs.LAYERS["node"]
    assert node.base is stock
    needed = set(packages(node_spec(list(Role)))) | set(packages(node_spec(list(Role), Cloud.GCP)))
    # e2fsprogs and util-linux are essential or required in Debian 12; cloud-init brings python3-cryptography.
    assert needed - set(node.packages) - set(stock.packages) <= {"e2fsprogs", "util-linux"}
    assert not {"postfix", "dovecot-core", "unbound", "python3-boto3"} & set(stock.packages)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (
            "http://mirror.test/debian|trixie|Debian\nhttp://mirror.test/debian|trixie-updates|Debian\n"
            "http://mirror.test/debian-security|trixie-security|Debian-Security\n",
            [
                "http://mirror.test/debian bookworm main",
                "http://mirror.test/debian bookworm-updates main",
                "http://mirror.test/debian-security bookworm-security main",
            ],
        ),
        # Lists were never fetched, so labels are unknown; another vendor's archive is on the host too.
        (
            "https://apt.vendor.test|stable|Vendor\nhttp://local.test/debian|bookworm|$(LABEL)\n",
            ["http://local.test/debian bookworm main", "http://local.test/debian bookworm-updates main"],
        ),
        ("http://archive.ubuntu.test/ubuntu|noble|Ubuntu\n", []),
        ("", []),
    ],
)
def test_mirrors_are_the_hosts_own(
    monkeypatch: pytest.MonkeyPatch, targets: str, expected: list[str]
) -> None:
    monkeypatch.setattr(rootfs, "_apt", lambda *_: targets)
    found = rootfs.sources()
    assert [line.removeprefix("deb ").rpartition("] ")[2] for line in found] == expected


def test_the_hosts_way_to_its_mirrors_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    dump = 'Acquire "";\nAcquire::http::Proxy "http://proxy.test:3128";\nAcquire::Check-Date "false";\nDir "/";\n'
    monkeypatch.setattr(rootfs, "_apt", lambda *command: dump if command[0] == "apt-config" else "")
    options = rootfs._apt_options()
    assert options == ['Acquire::http::Proxy "http://proxy.test:3128";', 'Acquire::Check-Date "false";']
    command = rootfs._bootstrap_command(rootfs.LAYERS["node"], Path("/tree"))
    assert f"--aptopt={options[0]}" in command
    # A proxy's password must not stay in the image.
    assert any("99mmdebstrap" in part for part in command if part.startswith("--customize-hook"))


def test_a_failed_step_shows_the_logs_end_and_ends_its_processes(tmp_path: Path) -> None:
    steps: list[str] = []
    command = ["sh", "-c", "echo the reason; exit 7"]
    with pytest.raises(rootfs.SandboxError, match=r"(?s)a step failed \(exit code 7\).*the reason"):
        rootfs._run(command, tmp_path / "log", "a step", lambda what, _: steps.append(what))
    assert steps == ["a step"]
