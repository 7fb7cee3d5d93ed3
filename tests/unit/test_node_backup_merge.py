"""What a mailbox lacks of a copy."""

from hypothesis import given
from hypothesis import strategies as st

from mailinfra.node.backup.merge import Copy, copies, guids, missing, place

UIDLIST = """3 V1795449242 N9 Gf24fc1249a61046be346000083ecc375
5 :1.M6.vm,S=48,W=53
8 G1.M6.vm W53 :2.M1.vm,S=48,W=53:2,Sa
not a line
9 Gabc:no name
"""
NAMES = {"": "INBOX", ".A": "A", ".B": "B", ".Trash": "Trash"}


def copy(folder: str, guid: str, received: str = "2026") -> Copy:
    return Copy(f"/srv/mail/d/u/Maildir/{folder}/cur/{guid}", folder, guid, received)


def test_guids_are_read_where_they_are_not_the_name() -> None:
    assert guids(UIDLIST) == {"2.M1.vm,S=48,W=53": "1.M6.vm"}
    root = "/srv/mail/d/u/Maildir"
    listed = [(f"{root}/cur/2.M1.vm,S=48,W=53:2,", "t"), (f"{root}/.A/new/7.M", "t")]
    assert [(item.folder, item.guid) for item in copies(listed, {"": UIDLIST})] == [
        ("", "1.M6.vm"),
        (".A", "7.M"),
    ]
    assert place(f"{root}/.A/cur/x:2,FS") == (".A", "x")


def test_what_is_there_is_left_alone_wherever_it_is() -> None:
    found = [copy("", "one"), copy("", "two"), copy(".A", "three")]
    live = [("INBOX", "one"), ("B", "two")]
    assert [item.guid for item in missing(found, live, NAMES)] == ["three"]


def test_what_was_thrown_away_comes_back() -> None:
    assert [item.guid for item in missing([copy("", "one")], [("Trash", "one")], NAMES)] == ["one"]
    assert missing([copy(".Trash", "one")], [("Trash", "one")], NAMES) == []


def test_one_that_was_in_two_folders_comes_back_into_the_one_that_lost_it() -> None:
    found = [copy("", "one"), copy(".A", "one")]
    assert [item.folder for item in missing(found, [("INBOX", "one")], NAMES)] == [".A"]


FOLDERS = st.sampled_from(["", ".A", ".B", ".Trash"])
COPIES = st.lists(
    st.builds(copy, FOLDERS, st.sampled_from("abcdef"), st.sampled_from(["1", "2", "3"])), unique=True
)
LIVE = st.lists(st.tuples(st.sampled_from(sorted(NAMES.values())), st.sampled_from("abcdefgh")))


@given(COPIES, LIVE)
def test_a_restore_done_twice_adds_nothing_and_the_newest_is_first(
    found: list[Copy], live: list[tuple[str, str]]
) -> None:
    found = list({(item.folder, item.guid): item for item in found}.values())
    wanted = missing(found, live, NAMES)
    assert [item.received for item in wanted] == sorted((item.received for item in wanted), reverse=True)
    after = live + [(NAMES[item.folder], item.guid) for item in wanted]
    assert missing(found, after, NAMES) == []
    # Whatever part of it was done before an interruption: the rest, and nothing else, is left.
    half = live + [(NAMES[item.folder], item.guid) for item in wanted[::2]]
    rest = missing(found, half, NAMES)
    assert {(item.folder, item.guid) for item in rest} <= {(item.folder, item.guid) for item in wanted}
    # Every message of the copy is somewhere that is not the trash, or where it was.
    kept = {guid for folder, guid in after if folder != "Trash"} | {guid for folder, guid in after}
    assert {item.guid for item in found} <= kept
