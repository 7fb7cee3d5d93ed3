from pathlib import Path

from mailinfra.directory import notes
from mailinfra.placement import homes
from mailinfra.project import Project
from mailinfra.sandbox.people import as_directory, invent, load_or_invent

REPO = Path(__file__).parents[2]


def test_people_live_where_the_rules_put_them_and_in_every_home() -> None:
    fleet = Project(REPO).fleet("sandbox")
    table = homes(fleet)
    people = invent(fleet)
    assert [table.home(person.attributes) for person in people] == [person.home for person in people]
    assert {person.home for person in people} == {region.region for region in fleet.regions}


def test_passwords_are_kept_for_the_owner_and_made_anew_for_another_fleet(tmp_path: Path) -> None:
    fleet, path = Project(REPO).fleet("sandbox"), tmp_path / "people.json"
    people = load_or_invent(fleet, path)
    assert load_or_invent(fleet, path) == people
    assert path.stat().st_mode & 0o777 == 0o600
    assert len({person.password for person in people}) == len(people)
    assert all(len(person.password) >= 20 for person in people)
    assert load_or_invent(Project(REPO).fleet("dev"), path) != people


def test_the_directory_lacks_no_role_address_and_holds_no_password() -> None:
    fleet = Project(REPO).fleet("sandbox")
    people = invent(fleet)
    directory, passwords = as_directory(people, fleet)
    assert notes(directory, fleet) == ()
    assert set(passwords.values()) == {person.password for person in people}
    assert not any(person.password in repr(directory) for person in people)
