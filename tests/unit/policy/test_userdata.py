"""User-data taken apart, within bounds."""

import base64
import gzip
import time

import pytest

from mailinfra_policy.userdata import LIMIT, PARTS, File, UndecodableError, UserData, read


def zipped(raw: bytes) -> str:
    return base64.b64encode(gzip.compress(raw, mtime=0)).decode()


def test_a_script_is_commands_and_files() -> None:
    data = read(
        "#!/bin/sh\n# no\na \\\n b\ncat > /etc/x <<'E'\none\n  two\nE\nput /etc/y 0644 <<-E\n\tthree\n\tE\nlast\n"
    )
    assert data.commands == ["a   b", "cat > /etc/x <<'E'", "put /etc/y 0644 <<-E", "last"]
    assert data.files == [File("/etc/x", "one\n  two\n"), File("/etc/y", "\tthree\n")]


@pytest.mark.parametrize(
    "wrap", [str, lambda text: zipped(text.encode()), lambda text: zipped(zipped(text.encode()).encode())]
)
def test_wrappers_are_taken_off(wrap) -> None:  # type: ignore[no-untyped-def]
    assert read(wrap("#!/bin/sh\napt-get install postfix\n")).commands == ["apt-get install postfix"]


@pytest.mark.parametrize(
    "text",
    [
        "#cloud-boothook\n#!/bin/sh\nput /etc/x 0644 <<'E'\none\nE\n",
        "MIME-Version: 1.0\nContent-Type: text/cloud-boothook\n\n#!/bin/sh\nput /etc/x 0644 <<'E'\none\nE\n",
        "#cloud-config-archive\n- type: text/cloud-boothook\n"
        "  content: \"#!/bin/sh\\nput /etc/x 0644 <<'E'\\none\\nE\\n\"\n",
    ],
)
@pytest.mark.parametrize("wrap", [str, lambda text: zipped(text.encode())])
def test_a_boothook_is_read_as_the_script_that_it_is(wrap, text: str) -> None:  # type: ignore[no-untyped-def]
    data = read(wrap(text))
    assert data.commands == ["put /etc/x 0644 <<'E'"]
    assert data.files == [File("/etc/x", "one\n")]


def test_every_member_of_a_gzip_counts() -> None:
    raw = gzip.compress(b"#!/bin/sh\n") + gzip.compress(b"apt-get install postfix\n")
    assert read(base64.b64encode(raw).decode(), encoded=True).commands == ["apt-get install postfix"]


def test_a_cloud_config() -> None:
    content = base64.b64encode(b"a = b\n").decode()
    data = read(
        "## template: jinja\n#cloud-config\nwrite_files:\n"
        f"  - {{path: /etc/x, encoding: b64, content: {content}}}\n  - {{path: /etc/y, content: c}}\n"
        "packages: [p, [q, '1']]\nbootcmd: [one]\nruncmd:\n  - [two, three]\n  - four five\n"
    )
    assert data == UserData(
        files=[File("/etc/x", "a = b\n"), File("/etc/y", "c")],
        commands=["one", "two three", "four five"],
        packages=["p", "q"],
    )


def test_an_archive() -> None:
    text = '#cloud-config-archive\n- {type: text/x-shellscript, content: "#!/bin/sh\\none\\n"}\n- "two"\n'
    assert read(text).commands == ["one", "two"]


def bomb(levels: int) -> bytes:
    raw = bytes(LIMIT + 1)
    for _ in range(levels):
        raw = gzip.compress(raw)
    return raw


@pytest.mark.parametrize(
    ("data", "encoded", "said"),
    [
        (base64.b64encode(bomb(1)).decode(), True, f"more than {LIMIT} bytes"),
        (base64.b64encode(bomb(2)).decode(), True, f"more than {LIMIT} bytes"),
        (base64.b64encode(gzip.compress(b"") * (PARTS + 1)).decode(), True, "parts"),
        ("#cloud-config\nruncmd: [" + "a, " * (PARTS + 1) + "]", False, "parts"),
        ("#cloud-config\n- x", False, "no mapping"),
        ("#cloud-config\n" + "[" * 5000, False, "nested too deeply|broken YAML"),
        ("#cloud-config\nwrite_files: [{path: /x, source: {uri: 'https://o.test'}}]", False, "elsewhere"),
        ("#cloud-config\nwrite_files: [{path: /x, encoding: b64, content: '%'}]", False, "no base64"),
        ("#include\nhttps://o.test", False, "elsewhere"),
        ("MIME-Version: 1.0\nContent-Type: text/x-include-url\n\nhttps://o.test", False, "elsewhere"),
        ("no base64!", True, "no base64"),
        (base64.b64encode(b"\x1f\x8bxx").decode(), True, "broken gzip"),
        (zipped(bytes(range(256))), True, "neither text nor gzip"),
        ("#!/bin/sh\0", False, "neither text nor gzip"),
    ],
)
def test_what_cannot_be_told_is_refused(data: str, encoded: bool, said: str) -> None:
    with pytest.raises(UndecodableError, match=said):
        read(data, encoded=encoded)


def test_too_many_wrappers() -> None:
    raw = b"#!/bin/sh\n"
    for _ in range(8):
        raw = gzip.compress(raw)
    with pytest.raises(UndecodableError, match="wrappers"):
        read(base64.b64encode(raw).decode(), encoded=True)


@pytest.mark.parametrize(
    "text", [" " * 200_000 + "!", "<<E " + "/" * 200_000, "A" * 200_000 + "!", "<<" * 100_000]
)
def test_hostile_text_takes_no_long_time(text: str) -> None:
    start = time.perf_counter()
    read(text)
    assert time.perf_counter() - start < 2
