"""Tests of mailinfra.probe.site."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mailinfra.probe.row import ProbeError
from mailinfra.probe.site import Site, door, each
from tests.probe_helpers import Made, planned


def test_work_is_done_once_for_all_who_ask() -> None:
    site, done = Made().site(), []

    def work(_: Site) -> int:
        time.sleep(0.05)
        done.append(1)
        return len(done)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: site.once(work), range(8))) == {1}
    assert done == [1]


def test_a_failure_is_shared_too() -> None:
    site, tries = Made().site(), []

    def work(_: Site) -> None:
        tries.append(1)
        raise ProbeError("no")

    for _ in range(2):
        with pytest.raises(ProbeError, match="no"):
            site.once(work)
    assert tries == [1]


def test_machines_are_known_by_their_public_address() -> None:
    whole = planned()
    site = Made(whole).site()
    first = whole.nodes[0]
    assert site.machine(first) == "i-1"
    assert site.addresses(first.fqdn) == ("198.51.100.1", "2001:db8:a::1")
    assert site.owner("2001:db8:a::1") == first.fqdn
    assert site.owner("192.0.2.9") == ""
    with pytest.raises(ProbeError, match="no node nobody"):
        site.addresses("nobody")


def test_a_node_without_a_machine_is_named() -> None:
    whole = planned()
    site = Made(whole, control={"machines.list": []}).site()
    with pytest.raises(ProbeError, match=r"edge-1\..*: there is no such machine"):
        site.machine(whole.nodes[0])


def test_a_script_that_fails_says_its_last_line() -> None:
    made = Made(
        control={"machines.execute": {"code": 1, "stdout": "", "stderr": "Traceback\nOSError: gone\n"}}
    )
    site = made.site()
    # The real thing, not the made-up answers.
    del site.run  # type: ignore[method-assign]
    with pytest.raises(ProbeError, match="resolve on m: OSError: gone"):
        _run(site)


def _run(site: Site) -> None:
    site._execute = lambda *_: {"code": 1, "stdout": "", "stderr": "Traceback\nOSError: gone\n"}  # type: ignore[method-assign]
    site.run("m", "resolve", {})


def test_doors_are_written_as_people_read_them() -> None:
    assert door("192.0.2.1", 25) == "192.0.2.1:25"
    assert door("2001:db8::1", 25) == "[2001:db8::1]:25"


def test_each_keeps_the_order() -> None:
    assert each(lambda item: item * 2, [3, 1, 2]) == [6, 2, 4]
