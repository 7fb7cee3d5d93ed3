import io

import pytest
from rich.console import Console

from mailinfra.console import Steps


def steps() -> tuple[Steps, io.StringIO]:
    out = io.StringIO()
    return Steps(Console(file=out, width=100)), out


def test_a_step_says_when_it_began_and_when_it_is_done() -> None:
    shown, out = steps()
    with shown.step("machine [image]") as progress:
        progress("unpacking")
    lines = out.getvalue().splitlines()
    assert lines[0].strip() == "machine [image] …"
    assert lines[1].startswith("✓ machine [image]") and lines[1].endswith(" s")


def test_a_step_that_fails_says_so_and_lets_the_error_through() -> None:
    shown, out = steps()
    with pytest.raises(ValueError, match="no"), shown.step("host"):
        raise ValueError("no")
    assert out.getvalue().splitlines()[-1].startswith("✗ host")


def test_without_a_terminal_a_long_step_speaks_now_and_then_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("mailinfra.console.time.monotonic", lambda: now)
    shown, out = steps()
    with shown.step("long") as progress:
        for _ in range(100):
            now += 1
            progress("working")
    assert len([line for line in out.getvalue().splitlines() if "working" in line]) == 6
