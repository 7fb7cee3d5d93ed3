import pytest

from bench.__main__ import holds, main


@pytest.mark.parametrize(
    ("better", "ratio", "limit", "good"),
    [
        ("lower", 1.1, 1.15, True),
        ("lower", 1.2, 1.15, False),
        ("higher", 1.2, 1.2, True),
        ("higher", 1.1, 1.2, False),
        ("higher", 0.1, None, True),
    ],
)
def test_a_limit_is_held_or_not(better: str, ratio: float, limit: float | None, good: bool) -> None:
    assert holds({"better": better, "ratio": ratio, "limit": limit}) is good


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["planing"]) == 2
    assert "allowed: planning, dkim, preview, policy, check, path" in capsys.readouterr().err
