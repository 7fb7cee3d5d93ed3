"""What is seen of a maildir's changes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mailinfra.node.replica.watch import NOTHING, Seen, look, maildir


def box(root: Path) -> Path:
    """A folder of mail, with a message read long ago."""
    for name in ("new", "cur", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "cur" / "1:2,S").write_text("x")
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    box(tmp_path / "Maildir/.Work")
    found = box(tmp_path / "Maildir")
    (found / "subscriptions").write_text("V\t2\n")
    for path in (*found.rglob("*"), found):
        os.utime(path, (1000, 1000))
    return found


def deliver(root: Path) -> None:
    (root / "tmp/2").write_text("x")
    (root / "tmp/2").rename(root / "new/2")


def flag(root: Path) -> None:
    (root / "cur/1:2,S").rename(root / "cur/1:2,FS")


def replace(path: Path) -> None:
    (path.parent / "scratch").write_text("x")
    (path.parent / "scratch").rename(path)


def make(path: Path) -> None:
    box(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "delivery": deliver,
    "flag": flag,
    "expunge": lambda root: (root / "cur/1:2,S").unlink(),
    "keyword": lambda root: replace(root / "dovecot-keywords"),
    "subscription": lambda root: replace(root / "subscriptions"),
    "delivery into a folder": lambda root: deliver(root / ".Work"),
    "flag in a folder": lambda root: flag(root / ".Work"),
    "keyword in a folder": lambda root: replace(root / ".Work/dovecot-keywords"),
    "folder made": lambda root: make(root / ".Play"),
    "folder renamed": lambda root: (root / ".Work").rename(root / ".Werk"),
    "folder gone": lambda root: (root / ".Work").rename(root.parent / "trash"),
    "maildir gone": lambda root: root.rename(root.parent / "gone"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_kind_of_change_is_seen_once(root: Path, change: str) -> None:
    before = look(str(root))
    assert before.folders == (".Work",)
    assert before.newest == 1000
    assert look(str(root), before) == before
    CHANGES[change](root)
    after = look(str(root), before)
    assert after.mark != before.mark
    assert look(str(root), after) == after


def test_what_dovecot_does_for_itself_is_no_change(root: Path) -> None:
    before = look(str(root))
    for name in ("dovecot-uidlist", "dovecot.index.log", "dovecot.list.index.log", ".Work/dovecot-uidlist"):
        replace(root / name)
    (root / "tmp/3").write_text("being delivered")
    (root / ".Work/dovecot.index.cache").write_text("x")
    after = look(str(root), before)
    assert (after.mark, after.newest) == (before.mark, before.newest)


def test_the_time_of_the_change_is_told(root: Path) -> None:
    os.utime(root / ".Work/new", (2000, 2000))
    assert look(str(root)).newest == 2000


def test_a_user_without_mail_has_nothing_until_the_first_message(tmp_path: Path) -> None:
    assert look(str(tmp_path / "Maildir")) == NOTHING
    deliver(box(tmp_path / "Maildir"))
    assert look(str(tmp_path / "Maildir"), NOTHING).mark != NOTHING.mark


def test_links_and_files_are_no_folders(root: Path, tmp_path: Path) -> None:
    (root / ".link").symlink_to(tmp_path)
    (root / ".file").write_text("x")
    assert look(str(root), Seen(1, 1.0)).folders == (".Work",)


def test_where_a_maildir_is() -> None:
    assert maildir(Path("/srv/mail"), "anna@example.test") == "/srv/mail/example.test/anna/Maildir"
