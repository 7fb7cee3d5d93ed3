"""Tests of mailinfra.probe.search."""

import base64
import os
from pathlib import Path

import pytest

from mailinfra.probe import search

TOKEN = "4f2b9c81d07e63a5f1b2c3d4"


@pytest.mark.parametrize("before", range(6))
@pytest.mark.parametrize("after", range(4))
def test_base64_of_a_token_is_found_wherever_it_falls(before: int, after: int) -> None:
    text = base64.b64encode(b"x" * before + TOKEN.encode() + b"y" * after)
    core = search.base64_core(TOKEN.encode(), before % 3)
    assert core in text
    # Nearly all of the token: a short core would be found by chance.
    assert len(core) >= len(TOKEN) * 8 // 6 - 1


def test_a_planted_copy_is_found_in_every_form(tmp_path: Path) -> None:
    needles = search.forms(TOKEN)
    assert tuple(needles) == search.FORMS
    for number, needle in enumerate(needles.values()):
        (tmp_path / f"{number}").write_bytes(os.urandom(1000) + needle + os.urandom(1000))
    found = search.find([tmp_path], needles)
    assert {hit.what for hit in found} == set(search.FORMS)
    assert str(next(hit for hit in found if hit.what == "plain")) == f"plain in {tmp_path / '0'}"


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(5000))
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert search.find([tmp_path], search.forms(TOKEN)) == []


def test_large_files_are_read_in_overlapping_pieces_without_their_holes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "PIECE_BYTES", 1 << 18)
    file = tmp_path / "image"
    places = [(1 << 18) - 10, 3 << 20, (1 << 30) + 5]
    with file.open("wb") as image:
        image.truncate(1 << 32)
        for place in places:
            image.seek(place)
            image.write(TOKEN.encode())
    assert {hit.what for hit in search.find([file], search.forms(TOKEN))} == {"plain"}
    read = sum(len(data) for _, data in search.pieces([file]))
    assert read < 16 << 20
    for place in places:
        with file.open("r+b") as image:
            image.seek(place)
            image.write(b"0" * len(TOKEN))
    assert search.find([file], search.forms(TOKEN)) == []


def test_every_place_is_named(tmp_path: Path) -> None:
    assert list(search.spots(b"abcabca", b"abca")) == [0, 3]
    assert list(search.spots(b"", b"a")) == []
