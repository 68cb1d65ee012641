"""Folders as people have them: parts, classes, what lies among the pictures, and the split."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from train.data import ImageData, load_data, name_dataset
from train.images import ImageOptions
from train.layout import list_pictures
from zcpt import ConfigError, DataError

GREY = [Image.new("RGB", (8, 8), (9 * i, 255 - i, i)) for i in range(30)]
PARTS = "train/cat:4 train/dog:4 "


def make(root: Path, tree: str) -> Path:
    """Make a folder from words such as 'train/cat:4' (four pictures) and 'notes.txt' (another file)."""
    for word in tree.split():
        path, _, count = word.partition(":")
        (root / path if count else (root / path).parent).mkdir(parents=True, exist_ok=True)
        for i in range(int(count or 0)):
            GREY[i].save(root / path / f"{i:02}.png")
        if not count:
            (root / path).write_text("")
    return root


def load(root: Path, **options: object) -> ImageData:
    return load_data(f"folder:{root}", options=ImageOptions(**options))  # type: ignore[arg-type]


USABLE: dict[str, tuple[str, int, int, str]] = {
    "test": (PARTS + "test/cat:1 test/dog:2", 8, 3, "found 3 pictures of 2 classes in .*/test$"),
    "val": (PARTS + "val/cat:1 val/dog:2", 8, 3, "found 3 pictures of 2 classes in .*/val$"),
    "valid": (PARTS + "valid/cat:1 valid/dog:2", 8, 3, "in .*/valid$"),
    "validation": (PARTS + "validation/cat:1 validation/dog:2", 8, 3, "in .*/validation$"),
    "training and testing": ("training/cat:4 training/dog:4 testing/cat:1 testing/dog:1", 8, 2, "in .*/testing$"),
    "capitals": ("Train/cat:4 Train/dog:4 TEST/cat:1 TEST/dog:1", 8, 2, "in .*/TEST$"),
    "test before val": (PARTS + "test/cat:1 test/dog:1 val/cat:3 val/dog:3", 8, 2, "in .*/test$"),
    "unlabelled test": (PARTS + "test:9 val/cat:1 val/dog:2", 8, 3, "/test is not used: it has no folders of the cl"),
    "unlabelled test in a folder": (PARTS + "test/images:9 val/cat:1 val/dog:2", 8, 3, "/test is not used"),
    "empty test": (PARTS + "test/notes.txt val/cat:1 val/dog:2", 8, 3, "/test is not used"),
    "test of other classes": (PARTS + "test/cat:1 test/emu:1 val/cat:1 val/dog:2", 8, 3, "it has other classes, emu"),
    "rare class": (PARTS + "val/cat:2", 8, 2, "/val has no pictures of dog"),
    "no test": (PARTS, 6, 2, "2 pictures of them are the test part: 20 % of each class"),
    "no labels in test": (PARTS + "test:5", 6, 2, "2 pictures of them are the test part"),
    "flat": ("cat:10 dog:5", 12, 3, "3 pictures of them are the test part"),
    "flat with a class of one": ("cat:5 dog:1", 5, 1, "1 picture of them are"),
    "flat with an unlabelled test": ("cat:5 dog:5 test:9", 8, 2, "/test is not used"),
    "flat with a labelled test": ("cat:5 dog:5 test/cat:1 test/dog:1", 10, 2, "in .*/test$"),
    "a class called train": ("bus:5 car:5 train:5", 12, 3, "found 15 pictures of 3 classes"),
    "deeper folders": ("cat/a:3 cat/b:2 dog/a/b:5", 8, 2, "found 10 pictures"),
    "system files": (
        "cat:5 dog:5 __MACOSX/cat/._00.png .ipynb_checkpoints/x.png cat/Thumbs.db cat/._00.png dog/.DS_Store",
        8, 2, r"1 .ipynb_checkpoints, 1 __MACOSX, 1 \._\*, 1 Thumbs.db, 1 .DS_Store left out",
    ),
    "other files": ("cat:5 dog:5 cat/a.txt cat/b.txt dog/c.heic labels.csv", 8, 2, "2 .txt, 1 .heic, 1 .csv left out"),
    "pictures beside the classes": ("cat:5 dog:5 .:3", 8, 2, "3 pictures outside the classes left out"),
}  # fmt: skip


@pytest.mark.parametrize(("tree", "train", "test", "note"), USABLE.values(), ids=USABLE)
def test_folders_as_people_have_them_are_read_and_it_is_said_how(
    tree: str, train: int, test: int, note: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        data = load(make(tmp_path, tree))
    assert (len(data.train), len(data.test)) == (train, test)
    assert any(re.search(note, text) for text in data.notes), data.notes
    assert [record.getMessage() for record in caplog.records] == list(data.notes)
    assert "the images have 8x8 pixels, as all pictures do" in data.notes
    paths = {path for part in (data.train, data.test) for path, _ in part.samples}  # type: ignore[attr-defined]
    assert len(paths) == train + test


REFUSED: dict[str, tuple[str, str]] = {
    "an empty folder": ("notes.txt", "has no folder train and no folders of classes"),
    "test alone": ("test/cat:2 test/dog:2", "has no folder train"),
    "pictures alone": (".:9", "holds 9 pictures, and has no folder train and no folders of classes"),
    "empty train": ("train/notes.txt test/cat:2", "/train holds no pictures that can be used: only 1 .txt"),
    "train without classes": ("train:9 test/cat:2", "/train holds 9 pictures and no folders of classes"),
    "dogs and cats": ("train:9 test1:5", "/train holds 9 pictures and no folders of classes: put the pictures of each"),
    "one class": ("cat:5", "has one class only, cat: at least 2 are needed"),
    "one class in train": ("train/cat:5 test/cat:2", "/train has one class only, cat"),
    "an empty class": (
        "cat:5 dog:5 emu/notes.txt",
        r"the class emu of .* has no pictures \(1 .txt left out\)",
    ),
    "two empty classes": (PARTS + "train/a/.x train/b/.x", "the classes a, b of .*/train have no pictures"),
    "a class of HEIC": ("cat:5 dog:5 emu/1.heic emu/2.heic", r"the class emu of .* has no pictures \(2 .heic left out"),
    "other classes in test": (PARTS + "test/cat:2 test/emu:2", "must have the same classes; only one of them has emu"),
    "one folder too high": (
        "pets/train/cat:3 pets/train/dog:3",
        r"one class only, pets.* give folder:.*/pets\.$",
    ),
    "classes one folder too high": ("pets/cat:3 pets/dog:3", r"one class only, pets.*give folder:.*/pets\.$"),
}


@pytest.mark.parametrize(("tree", "complaint"), REFUSED.values(), ids=REFUSED)
def test_folders_that_cannot_be_used_are_named_as_what_they_are(tree: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=complaint) as caught:
        load(make(tmp_path, tree))
    assert "\n" not in str(caught.value)


def test_pipes_and_links_neither_block_nor_repeat(tmp_path: Path) -> None:
    make(tmp_path, "cat:5 dog:5")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    (tmp_path / "cat" / "nowhere.png").symlink_to("nothing")
    (tmp_path / "cat" / "up").symlink_to("..")
    (tmp_path / "cat" / "root").symlink_to("/")
    (tmp_path / "cat" / "other").symlink_to("../dog")
    (tmp_path / "cat" / "self").symlink_to(".")
    (tmp_path / "dog" / "loop").symlink_to("loop")
    for i in range(12):  # each links to all others: their paths are too many to follow
        (tmp_path / "dog" / f"d{i}").mkdir()
    for i in range(12):
        for j in range(12):
            (tmp_path / "dog" / f"d{i}" / f"{j}").symlink_to(f"../d{j}")
    data = load(tmp_path)
    assert len(data.train) + len(data.test) == 10
    assert "2 broken link" in data.notes[0]
    assert "1 pipe or device" in data.notes[0]


def test_linked_classes_and_pictures_are_read(tmp_path: Path) -> None:
    make(tmp_path / "stock", "cat:5 dog:5")
    make(tmp_path / "pics", "cat:5")
    (tmp_path / "pics" / "dog").symlink_to(tmp_path / "stock" / "dog")
    (tmp_path / "pics" / "cat" / "other.png").symlink_to(tmp_path / "stock" / "cat" / "00.png")
    data = load(tmp_path / "pics")
    assert len(data.train) + len(data.test) == 11


@pytest.mark.parametrize("name", [".", "./", "../one/", "{}/one/"])
def test_all_names_of_a_folder_have_the_same_pictures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make(tmp_path / "one", "cat:2 cat/more:3 dog:1"))
    left_out: Counter[str] = Counter()
    assert len(list_pictures(name.format(tmp_path), left_out)) == 6
    assert not left_out


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "cat:2 dog/inner:2")
    scan = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "inner":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"dog/inner holds no pictures that can be used: Permission denied\."):
        load(tmp_path)


def names(data: ImageData, part: str) -> set[str]:
    samples = getattr(data, part).samples
    return {"/".join(path.split("/")[-2:]) for path, _ in samples}


def test_the_split_depends_on_seed_share_and_names_alone(tmp_path: Path) -> None:
    first = load(make(tmp_path / "one", "cat:20 dog:10"))
    assert not names(first, "train") & names(first, "test")
    assert len(names(first, "test")) == 4 + 2
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert names(load(tmp_path / "two"), "test") == names(first, "test")
    assert names(load(tmp_path / "one", split_seed=1), "test") != names(first, "test")
    assert names(load(tmp_path / "one", validation_split=0.1), "test") < names(first, "test")
    assert len(load(tmp_path / "one", validation_split=0.0).test) == 0
    assert len(load(tmp_path / "one", validation_split=1.0).train) == 0
    GREY[29].save(tmp_path / "one" / "cat" / "new.png")
    assert names(first, "test") <= names(load(tmp_path / "one"), "test") | {"cat/new.png"}


def test_the_split_is_kept_for_run_folders(tmp_path: Path) -> None:
    data = load(make(tmp_path, "cat:5 dog:5"), validation_split=0.4, split_seed=3, image_size=(6, 4))
    kept = data.options.to_document()
    assert kept == {"image_size": "6x4", "validation_split": 0.4, "split_seed": 3}
    again = load_data(f"folder:{tmp_path}", options=ImageOptions.from_document(kept))
    assert names(again, "test") == names(data, "test")
    assert again.image_shape == (3, 6, 4)


def test_a_split_of_a_folder_with_parts_is_refused(tmp_path: Path) -> None:
    make(tmp_path, PARTS + "val/cat:1 val/dog:1")
    for options in ({"validation_split": 0.5}, {"split_seed": 1}):
        with pytest.raises(ConfigError, match=r"/val is the test part: leave out --validation-split and --split-seed"):
            load(tmp_path, **options)
    assert len(load(tmp_path, split_seed=1, is_optional=True).test) == 2


DOCUMENTS = [("image_size", [3]), ("image_size", "0x4"), ("image_size", "9" * 5000), ("image_size", True)]
DOCUMENTS += [("validation_split", "a"), ("validation_split", True), ("split_seed", 1.5), ("split_seed", "0")]


@pytest.mark.parametrize(("name", "value"), DOCUMENTS)
def test_a_damaged_description_of_the_images_is_named(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match="the run folder is damaged: its "):
        ImageOptions.from_document({name: value})


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="--validation-split .* must be from 0 to 1"):
        ImageOptions(validation_split=share)


@pytest.mark.parametrize("size", [(0, 3), (3, -1), (9000, 3), (10**30, 3)])
def test_sizes_that_are_none_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="--image-size must be from 1 to 8192 pixels"):
        ImageOptions(image_size=size)


def test_a_path_means_the_folder_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "pics/cat:5 pics/dog:5 digits/cat:5 zip.zip")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    full = f"folder:{tmp_path}/pics"
    for name in ("pics", "pics/", "./pics", "~/pics", f"{tmp_path}/pics", "folder:pics", "folder:~/pics", full):
        assert name_dataset(name) == full
    assert load_data("pics").name == full
    assert name_dataset("digits") == "digits"
    assert load_data("digits").image_shape == (1, 8, 8)
    with pytest.raises(DataError, match="/digits has one class only"):
        load_data("./digits")


WRONG_PATHS = {
    "./nowhere": "there is no folder .*/nowhere: give the folder of your pictures",
    "nowhere": "unknown data set 'nowhere'",
    "folder:": "folder: names no folder",
    "folder:PATH": "there is no folder .*/PATH",
    "folder:zip.zip": "zip.zip is a file: give the folder of your pictures",
    "./zip.zip": "zip.zip is a file",
    "": "unknown data set ''",
    "a" * 5000: "unknown data set 'aaa",
    "x/" + "a" * 5000: "cannot be read|there is no folder",
    "folder:a\0b": "cannot be found|there is no folder",
    "~nobody-here/x": "cannot be found",
}


@pytest.mark.parametrize(("name", "complaint"), WRONG_PATHS.items(), ids=[name[:15] for name in WRONG_PATHS])
def test_paths_that_are_none_are_refused(
    name: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make(tmp_path, "zip.zip"))
    with pytest.raises(DataError, match=complaint):
        load_data(name)


def test_names_that_no_encoding_has_are_read(tmp_path: Path) -> None:
    for label in (b"caf\xe9", b"a\nb"):
        folder = os.path.join(os.fsencode(tmp_path), label)
        os.mkdir(folder)
        for i in range(3):
            GREY[i].save(os.path.join(folder, b"%d\xff.png" % i))
    data = load(tmp_path)
    assert len(data.train) + len(data.test) == 6
    assert torch.is_tensor(data.train[0][0])


def test_accents_written_in_two_ways_are_the_same_class(tmp_path: Path) -> None:
    make(tmp_path, "train/caf\u00e9:3 train/the:3 test/cafe\u0301:1 test/the:1")
    assert load(tmp_path).classes == ("caf\u00e9", "the")
    assert len(load(tmp_path).test) == 2
