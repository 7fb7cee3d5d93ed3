"""Tests of mailinfra.probe.relay: an open door anywhere is found."""

from typing import Any

import pytest

from mailinfra.probe import relay
from tests.probe_helpers import Made


def refusing(call: dict[str, Any]) -> dict[str, Any]:
    recipients = [[554, "no"] for _ in call.get("recipients", ())]
    return {"address": call["address"], "port": call["port"], "connected": True, "banner": "x", "error": "",
            "sender": [250, "ok"], "recipients": recipients}  # fmt: skip


def sessions(change: Any) -> Made:
    def answer(machine: str, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found = [refusing(call) for call in calls]
        change(found)
        return found

    return Made(scripts={"smtp": answer})


def test_a_fleet_that_refuses_everything_is_right() -> None:
    made = sessions(lambda found: None)
    assert all(finding.ok for finding in relay.no_relay(made.site()))
    assert all(finding.ok for finding in relay.unknown_refused(made.site()))
    # Every address of every mx and submission node, in both families, from both hosts.
    doors = {(call["address"], call["port"]) for _, _, calls in made.asked for call in calls}
    assert len(doors) == 4 * 2 * 3


def test_one_accepted_recipient_is_an_open_relay() -> None:
    def accept(found: list[dict[str, Any]]) -> None:
        found[3]["recipients"][2] = [250, "ok"]

    findings = list(relay.no_relay(sessions(accept).site()))
    assert not any(finding.ok for finding in findings)
    assert "RCPT TO" in findings[0].detail


@pytest.mark.parametrize("step", ["sender", "recipients"])
def test_a_door_that_could_not_be_tried_proves_nothing(step: str) -> None:
    def away(found: list[dict[str, Any]]) -> None:
        found[0].update({step: [], "recipients": [], "error": "ConnectionRefusedError"})

    assert not any(finding.ok for finding in relay.no_relay(sessions(away).site()))
    assert not any(finding.ok for finding in relay.unknown_refused(sessions(away).site()))


def test_an_unknown_recipient_that_is_put_off_is_not_refused() -> None:
    def later(found: list[dict[str, Any]]) -> None:
        found[-1]["recipients"][0] = [450, "later"]

    (finding,) = relay.unknown_refused(sessions(later).site())
    assert not finding.ok


def test_an_inner_port_that_is_open_is_found() -> None:
    closed = Made(scripts={"smtp": lambda _, calls: [{**refusing(c), "connected": False} for c in calls]})
    (finding,) = relay.inner_doors(closed.site())
    assert finding.ok
    ports = {call["port"] for _, _, calls in closed.asked for call in calls}
    assert ports == {25, 2525, 2526, 2527}
    (finding,) = relay.inner_doors(Made(scripts={"smtp": lambda _, calls: list(map(refusing, calls))}).site())
    assert (finding.ok, finding.measured) == (False, 0)


def test_the_ways_to_write_a_stranger_are_many_and_apart() -> None:
    forms = relay.forms("victim@outside.test", "example.test")
    assert len(set(forms)) == len(forms) >= 8
    assert all("victim" in form for form in forms)
