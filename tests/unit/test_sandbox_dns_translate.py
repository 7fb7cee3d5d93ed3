"""Trees as Lua: only data ever reaches the name server, and what goes in comes out."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailinfra.sandbox.dns.rdata import RefusedError
from mailinfra.sandbox.dns.translate import (
    MAX_CONTENT,
    Node,
    Probe,
    RRset,
    check_zone,
    lua_content,
    lua_string,
    merged,
    rrset,
)
from tests.dns_helpers import Resolver, code_of

HOSTILE = [
    "'",
    '"',
    "\\",
    "\\'",
    "]]",
    "'..os.execute('id')..'",
    '"; return os.execute("id") --',
    "\n",
    "\0",
    "é",
    "\\010",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_only_ever_a_string(text: str, tmp_path: Path) -> None:
    node = Node(policy="weighted", members=(Node(values=(text,), weight=1),))
    assert Resolver(tmp_path).ask(node) == [text]


@given(st.text())
def test_a_lua_string_has_no_character_that_could_end_it(text: str) -> None:
    literal = lua_string(text)
    inside = literal[1:-1].replace("\\", "")
    assert literal[0] == literal[-1] == "'"
    assert all(c.isascii() and (c.isalnum() or c in " ._:/*-") for c in inside)


@given(st.text(max_size=80))
def test_a_record_has_quotes_at_its_ends_only(text: str) -> None:
    content = lua_content("TXT", Node(policy="weighted", members=(Node(values=(text,), weight=1),)), "x")
    assert content.count('"') == 2
    assert code_of(content).count("mailinfra(") == 1


def test_a_static_tree_is_plain_records() -> None:
    node = Node(alias=Node(values=("192.0.2.1", "192.0.2.1")))
    assert rrset("a.test.", "A", 60, node, "x") == RRset("a.test.", "A", 60, ("192.0.2.1",))
    assert rrset("a.test.", "A", 60, Node(), "x") is None


def test_a_rule_that_does_not_fit_a_record_is_refused() -> None:
    members = tuple(Node(values=(f"192.0.2.{i % 250}",), weight=1) for i in range(3000))
    with pytest.raises(RefusedError, match=f"at most {MAX_CONTENT}"):
        lua_content("A", Node(policy="weighted", members=members), "big")


def test_answer_types_of_one_name_share_a_record_set_with_the_least_ttl() -> None:
    both = merged([RRset("a.", "LUA", 60, ('A "x"',)), RRset("a.", "LUA", 30, ('AAAA "y"',))])
    assert both == [RRset("a.", "LUA", 30, ('A "x"', 'AAAA "y"'))]


def test_a_cname_stands_alone() -> None:
    check_zone("z.test.", [RRset("a.z.test.", "CNAME", 60, ("b.test.",))])
    with pytest.raises(RefusedError, match="cannot stand beside other records"):
        check_zone(
            "z.test.", [RRset("a.z.test.", "CNAME", 60, ("b.",)), RRset("a.z.test.", "LUA", 60, ('A "x"',))]
        )
    with pytest.raises(RefusedError, match="at the top of a zone"):
        check_zone("z.test.", [RRset("z.test.", "CNAME", 60, ("b.test.",))])


def test_a_probe_is_named_by_all_that_it_is() -> None:
    assert Probe("tcp", port=25).key("a") != Probe("tcp", port=26).key("a")
    assert Probe("tcp", port=25).key("a") == Probe("tcp", port=25).key("a")
    assert Probe("tcp").key("a").isalnum()


@given(st.lists(st.binary(max_size=255), min_size=1, max_size=5))
def test_a_text_in_a_rule_is_its_bare_octets(strings: list[bytes]) -> None:
    """PowerDNS quotes and splits the text that a LUA record answers; quotes of ours would be part of it."""
    value = " ".join('"' + "".join(f"\\{b:03d}" for b in s) + '"' for s in strings)
    node = Node(policy="weighted", members=(Node(values=(value,), weight=1),))
    code = code_of(lua_content("TXT", node, "x"))
    literal = re.search(r"values=\{'([^']*)'\}", code)
    assert literal is not None or not b"".join(strings)
    written = literal.group(1) if literal else ""
    octets = re.sub(rb"\\(\d{3})", lambda m: bytes([int(m[1])]), written.encode())
    assert octets == b"".join(strings)
