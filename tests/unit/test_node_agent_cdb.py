"""Constant databases."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailinfra.node.agent import cdb


@given(st.dictionaries(st.text(max_size=40), st.text(max_size=40), max_size=300), st.text(max_size=40))
def test_gives_back_what_was_put_in(items: dict[str, str], other: str) -> None:
    data = cdb.make(items.items())
    assert {key: cdb.get(data, key) for key in items} == items
    assert cdb.get(data, other) == items.get(other)


def test_keys_with_the_same_hash() -> None:
    # Bernstein's hash: 33 times the second to last byte, so these two clash.
    assert cdb._hash(b"ab") != cdb._hash(b"ba")
    items = {f"{number:x}": str(number) for number in range(5000)}
    data = cdb.make(items.items())
    assert all(cdb.get(data, key) == value for key, value in items.items())
    assert cdb.get(data, "none") is None


@pytest.mark.skipif(not shutil.which("cdb"), reason="no cdb(1) on this machine")
def test_tinycdb_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "x.cdb"
    path.write_bytes(cdb.make([("anna@example.test", "OK"), ("bob@example.test", "lmtp:unix:private/x")]))
    done = subprocess.run(
        ["cdb", "-q", str(path), "bob@example.test"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "lmtp:unix:private/x"
