"""What is ours among files that are called as our notes are, and that any other is left alone."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from batchfuse.system.notes import Kind, UnreadableError, decoded, encoded, found_note, place_of, read

KIND = Kind("report", lambda values: isinstance(values.get("scenes"), list))
OURS = encoded(KIND, {"scenes": [1]})
NOT_OURS: dict[str, Callable[[Path], object]] = {
    "nothing in it": lambda path: path.touch(),
    "cut off": lambda path: path.write_bytes(OURS[:-5]),
    "of another program": lambda path: path.write_text('{"scenes": []}'),
    "another note": lambda path: path.write_text('{"batchfuse": "campaign", "scenes": []}'),
    "wrong type": lambda path: path.write_text('{"batchfuse": "report", "scenes": {}}'),
    "no object": lambda path: path.write_text("[1]"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "deep and closed": lambda path: path.write_text("[" * 100_000 + "]" * 100_000),
    "infinite": lambda path: path.write_text('{"batchfuse": "report", "scenes": [1e999]}'),
    "NaN": lambda path: path.write_text('{"batchfuse": "report", "scenes": [NaN]}'),
    "huge number": lambda path: path.write_text('{"batchfuse": "report", "scenes": [' + "9" * 5000 + "]}"),
    "not UTF-8": lambda path: path.write_bytes(b'{"batchfuse": "report", "scenes": ["\xff"]}'),
    "UTF-16": lambda path: path.write_bytes("[]".encode("utf-16")[:-1]),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
    "fifo": os.mkfifo,
    "folder": lambda path: path.mkdir(),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "link to nothing": lambda path: path.symlink_to("gone"),
    "link to itself": lambda path: path.symlink_to(path.name),
}


def within(seconds: float, function: Callable[[], object]) -> object:
    """What a function gives, which must not hang."""
    given: list[object] = []
    thread = threading.Thread(target=lambda: given.append(function()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert given, "it hangs, or it failed"
    return given[0]


@pytest.mark.parametrize("what", NOT_OURS)
def test_what_is_no_note_of_ours_is_left_alone_and_the_next_name_taken(tmp_path: Path, what: str) -> None:
    path = tmp_path / "report.json"
    NOT_OURS[what](path)
    assert within(20, lambda: found_note(path, KIND) or "none") == "none"
    place = place_of(path, KIND)
    assert place.path == tmp_path / "report-1.json"
    (line,) = place.left
    assert line.startswith(f"{path} holds no report of batchfuse (")
    assert line.endswith(") and is left alone")
    assert "\n" not in line
    place.path.write_bytes(OURS)
    found = found_note(path, KIND)
    assert found is not None
    assert (found.path, found.values) == (place.path, {"scenes": [1]})
    assert place_of(path, KIND) == place


def test_without_a_file_there_is_no_note_and_its_own_name_is_free(tmp_path: Path) -> None:
    assert found_note(tmp_path / "report.json", KIND) is None
    assert place_of(tmp_path / "report.json", KIND).path == tmp_path / "report.json"
    assert place_of(tmp_path / "report.json", KIND).left == ()


def test_the_newest_of_several_notes_of_ours_counts(tmp_path: Path) -> None:
    for number, (name, time) in enumerate({"r.json": 50, "r-1.json": 70, "r-2.json": 60}.items()):
        (tmp_path / name).write_bytes(encoded(KIND, {"scenes": [number]}))
        os.utime(tmp_path / name, (time, time))
    found = found_note(tmp_path / "r.json", KIND)
    assert found is not None
    assert found.values == {"scenes": [1]}
    assert place_of(tmp_path / "r.json", KIND).path == found.path == tmp_path / "r-1.json"


def test_a_note_is_found_after_the_file_before_it_was_moved_away(tmp_path: Path) -> None:
    (tmp_path / "r-1.json").write_bytes(OURS)
    found = found_note(tmp_path / "r.json", KIND)
    assert found is not None
    assert found.path == place_of(tmp_path / "r.json", KIND).path == tmp_path / "r-1.json"


def test_a_file_that_others_may_not_read_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(OURS)

    def refused(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    assert found_note(path, KIND) is None
    assert "Permission denied" in place_of(path, KIND).left[0]


def test_a_disk_that_does_not_answer_is_no_foreign_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.json").write_bytes(OURS)

    def away(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "open", away)
    with pytest.raises(OSError, match="Input/output"):
        found_note(tmp_path / "report.json", KIND)


@pytest.mark.parametrize("grown", [False, True], ids=["large", "grows"])
def test_no_more_is_read_than_a_note_may_have(
    tmp_path: Path, grown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lease.json"
    path.write_text("[" + "1," * 500 + "1]")
    assert read(path, 1003) == [1] * 501
    if grown:  # it has grown since it was opened
        monkeypatch.setattr("batchfuse.system.notes._check", lambda *_: None)
    with pytest.raises(UnreadableError, match="larger than 1002 bytes"):
        read(path, 1002)


def test_a_name_of_any_bytes_comes_back_from_a_note() -> None:
    name = os.fsdecode(b"\xff\xfe_t.tif")
    content = encoded(KIND, {"scenes": [name, "é\u202e\x1b"]})
    assert content.decode() is not None
    assert decoded(content)["scenes"] == [name, "é\u202e\x1b"]
    assert json.loads(content)["batchfuse"] == "report"


def test_numbers_are_taken_as_they_are() -> None:
    assert decoded("[18446744073709551615, -1, 1.5e300, 0]") == [2**64 - 1, -1, 1.5e300, 0]
