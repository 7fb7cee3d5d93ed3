"""The machine that plays the internet, as it is declared."""

from mailinfra.sandbox.dns import internet, zones
from mailinfra.sandbox.model import MachineFile

SPEC = internet.machine("secret-key", MachineFile.raw(b"database", owner="pdns"))


def text(path: str) -> str:
    return SPEC.files[path].data().decode()


def test_each_name_server_has_an_address_and_a_database_of_its_own() -> None:
    assert {SPEC.private_ipv4, *SPEC.addresses} == {*zones.ADDRESSES.values(), zones.RESOLVER}
    for server, address in zones.ADDRESSES.items():
        settings = dict(
            line.split("=", 1)
            for line in text(f"/etc/powerdns/pdns-{server}.conf").splitlines()
            if "=" in line
        )
        assert settings["local-address"] == address
        assert settings["gsqlite3-database"].endswith(f"/{server}.sqlite3")
        assert settings["api-key"] == "secret-key"
        assert f"pdns@{server}.service" in SPEC.units


def test_the_key_is_nobody_elses_to_read() -> None:
    for path, file in SPEC.files.items():
        if b"secret-key" in file.data():
            assert (file.mode & 0o007, file.owner) == (0, "pdns"), path


def test_nothing_is_left_to_fill_in() -> None:
    for path, file in SPEC.files.items():
        if path.endswith((".conf", ".service")):
            assert "$" not in file.data().decode(), path


def test_the_definition_is_the_same_at_each_start() -> None:
    """Another definition would replace the machine."""
    assert internet.machine("secret-key", MachineFile.raw(b"database", owner="pdns")) == SPEC


def test_resolvers_are_told_of_this_internet() -> None:
    files = internet.resolver_files("hints", "anchor")
    assert files["/usr/share/dns/root.hints"].data() == b"hints"
    assert files["/usr/share/dns/root.key"].data() == b"anchor"
    settings = files["/etc/unbound/unbound.conf.d/sandbox-internet.conf"].data().decode()
    for zone in (zones.TLD, *zones.REVERSE_ZONES):
        assert f'local-zone: "{zone}" nodefault' in settings
