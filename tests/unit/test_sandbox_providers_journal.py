"""What the providers remember of resources that no state may name yet."""

from pathlib import Path

from mailinfra.sandbox.providers.journal import Journal, settle

ONE, OTHER = (f"urn:pulumi:{stack}::mailinfra::aws:s3/bucket:Bucket::kept" for stack in ("one", "one-more"))


def test_what_an_engine_has_not_named_is_taken_up_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "aws")
    assert journal.orphan(ONE) == (None, {})
    journal.note(ONE, "kept-1", {"tags": {}})
    assert journal.orphan(ONE) == ("kept-1", {"tags": {}})
    journal.known(ONE, "another")
    assert journal.orphan(ONE) == ("kept-1", {"tags": {}})
    journal.known(ONE, "kept-1")
    assert journal.orphan(ONE) == (None, {})


def test_a_stack_that_ended_well_has_no_orphans_and_others_keep_theirs(tmp_path: Path) -> None:
    journals = [Journal(tmp_path / cloud) for cloud in ("aws", "gcp")]
    for journal in journals:
        journal.note(ONE, "kept-1", {})
        journal.note(OTHER, "kept-2", {})
    settle(tmp_path, "one")
    for journal in journals:
        assert journal.orphan(ONE) == (None, {})
        assert journal.orphan(OTHER) == ("kept-2", {})
    settle(tmp_path / "nothing", "one")
