"""Lines that survive a kill."""

import math
import os

import pytest

from zcpt import ConfigError
from zcpt.journal import Journal

RECORDS = [{"step": 0, "scores": [1.5, -math.inf]}, {"step": 1, "scores": [0.1, math.inf]}]


def write_journal(folder):
    journal = Journal(folder)
    for record in RECORDS:
        journal.append("proposal_000", record)
    return folder / "proposal_000.jsonl"


def test_what_was_written_is_read_back_exactly(tmp_path):
    text = write_journal(tmp_path / "journal").read_text()
    assert "Infinity" not in text  # which JSON does not have
    assert Journal(tmp_path / "journal").records("proposal_000") == RECORDS
    assert Journal(tmp_path / "journal").records("proposal_001") == []


def test_every_line_is_waited_for(tmp_path, monkeypatch):
    on_disk = []
    monkeypatch.setattr("os.fsync", lambda file: on_disk.append(os.fstat(file).st_size))
    path = write_journal(tmp_path)
    first = path.read_bytes().index(b"\n") + 1
    assert on_disk == [first, path.stat().st_size]


def test_a_line_cut_short_at_any_byte_is_dropped_and_the_next_one_fits(tmp_path):
    path = write_journal(tmp_path)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(first, len(whole)):
        path.write_bytes(whole[:length])
        journal = Journal(tmp_path)
        assert journal.records("proposal_000") == RECORDS[:1]
        journal.append("proposal_000", RECORDS[1])
        assert path.read_bytes() == whole


def test_not_a_number_survives(tmp_path):
    Journal(tmp_path).append("a", {"scores": [math.nan]})
    assert math.isnan(Journal(tmp_path).records("a")[0]["scores"][0])


def test_a_damaged_line_is_an_error_that_names_the_file(tmp_path):
    path = write_journal(tmp_path)
    path.write_bytes(b"{]\n" + path.read_bytes())
    with pytest.raises(ConfigError, match=r"proposal_000.jsonl is damaged"):
        Journal(tmp_path).records("proposal_000")


def test_without_a_folder_it_is_kept_in_memory():
    journal = Journal()
    journal.append("a", {"step": 0})
    assert journal.records("a") == [{"step": 0}]
