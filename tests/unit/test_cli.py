from pathlib import Path

import pytest
from typer.testing import CliRunner

from mailinfra import cli
from mailinfra.errors import ConfigError, Problem
from mailinfra.sandbox.paths import BusyError


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["sandbox", "up"],
        ["sandbox", "down"],
        ["sandbox", "status"],
        ["probe"],
        ["directory", "publish"],
        ["cost"],
    ],
)
def test_every_command_explains_itself(command: list[str]) -> None:
    done = CliRunner().invoke(cli.app, [*command, "--help"])
    assert done.exit_code == 0 and "Usage" in done.output


ERRORS = [ConfigError([Problem("regions[1].zone", "'uk'", "eu, us")]), BusyError("sandbox is busy")]


@pytest.mark.parametrize("error", ERRORS)
def test_what_a_user_can_mend_is_said_in_words(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        cli.run(command)
    assert ended.value.code == 1
    message = capsys.readouterr().err
    assert (
        message.startswith("mailinfra: ")
        and str(error).splitlines()[-1] in message
        and "Traceback" not in message
    )


def test_an_interrupt_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        cli.run(command)
    assert ended.value.code == 130 and "again" in capsys.readouterr().err


def test_a_defect_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 // 0)


def test_no_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "s"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    monkeypatch.setattr("sys.argv", ["mailinfra", "sandbox", "status"])
    with pytest.raises(SystemExit):
        cli.main()
    assert not (tmp_path / "c").exists(), "no engine is built for it"
    assert "mailinfra sandbox up" in capsys.readouterr().err
