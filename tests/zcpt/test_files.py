"""Files and folders that are written completely or not at all."""

import os
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
import yaml

from zcpt import ConfigError, SpaceError
from zcpt.errors import StorageError
from zcpt.files import describe_yaml_error, parse_json, read_json, read_run_file, read_text, write_atomically


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "old")

    def failing(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", failing)
    with pytest.raises(StorageError, match=r"a.txt cannot be written: the disk is full: free space on it\.$"):
        write_atomically(path, "new")
    assert path.read_text() == "old"


def test_a_folder_without_settings_is_that_of_a_killed_command(tmp_path: Path) -> None:
    for names, words in (
        ((), "is no run folder"),
        ((".lock",), "killed before it wrote its settings"),
        (("x",), "no run"),
    ):
        for name in names:
            (tmp_path / name).write_text("")
        with pytest.raises(ConfigError, match=words):
            read_run_file(tmp_path / "config.json")


def test_a_run_without_the_file_is_of_another_kind_or_not_finished(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="result.json is missing: the run of .* is of another kind or not finished"):
        read_run_file(tmp_path / "result.json")


def test_the_error_of_damaged_json_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(ConfigError, match="a.json is damaged"):
        read_json(tmp_path / "a.json", [])
    with pytest.raises(ConfigError, match="b.json is missing"):
        read_json(tmp_path / "b.json", [])
    (tmp_path / "c.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="c.json cannot be read"):
        read_json(tmp_path / "c.json", [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\n\tb: 2\n", "line 2, column 1"),
        ("a: [1\n", "expected ',' or ']', but got '<stream end>', line 2, column 1"),
        ("a: \0", "special characters are not allowed"),
    ],
)
def test_a_yaml_error_is_described_in_one_line(text: str, problem: str) -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        yaml.safe_load(text)
    assert problem in describe_yaml_error(caught.value)
    assert "\n" not in describe_yaml_error(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value, line 1, column 1"),
        ('{"a": 1', "Expecting ',' delimiter, line 1, column 8"),
        (b'{"a": "\xff"}', "byte 7 is no UTF-8 text"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("1" * 5_000, "integer of thousands of digits"),
        (f'[{{"a": -{"9" * 5_000}}}]', "integer of thousands of digits"),
    ],
    ids=["empty", "cut", "bytes", "deep lists", "deep mappings", "huge integer", "huge negative integer"],
)
def test_a_json_document_that_cannot_be_read_is_refused_with_the_reason(text: str | bytes, reason: str) -> None:
    with pytest.raises(SpaceError) as caught:
        parse_json(text, "x.json", hint="give another", error=SpaceError)
    message = str(caught.value)
    assert message.startswith("x.json is damaged: it is not a complete JSON document (")
    assert reason in message
    assert message.endswith("): give another.")
    assert len(message) < 200


def test_a_json_document_with_a_byte_order_mark_is_read() -> None:
    assert parse_json("\ufeff[1]", "x") == parse_json("\ufeff[1]".encode(), "x") == [1]


def test_a_device_is_no_text_file() -> None:
    with pytest.raises(ConfigError, match="^/dev/zero cannot be read: it is a device, not a file.$"):
        read_text(Path("/dev/zero"))


def test_a_text_without_end_is_read_up_to_a_limit(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(2**40)
    os.mkfifo(tmp_path / "pipe")
    writer = Thread(target=write_for_ever, args=[tmp_path / "pipe"])
    writer.start()
    for name in ("sparse", "pipe"):
        with pytest.raises(ConfigError, match=f"{name} cannot be read: it has more than 1 MiB"):
            read_text(tmp_path / name, limit=2**20)
    writer.join(10)
    assert not writer.is_alive()


def write_for_ever(path: Path) -> None:
    with suppress(BrokenPipeError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(b"y\n" * 10_000)


def test_a_text_has_the_line_ends_of_python(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert read_text(tmp_path / "a") == (tmp_path / "a").read_text(encoding="utf-8") == "\ufeffa\nb\nc\n"
