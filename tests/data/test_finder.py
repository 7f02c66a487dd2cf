"""Images found where a table does not name them, against files laid out by hand."""

import os

import pytest

from mlworkbench.data.finder import Folders, find_images, why


def lay(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def found(folder, *names):
    matches = find_images(names, [folder], Folders())
    return [
        None if m is None else (os.path.relpath(f"{m.folder}/{m.name}", folder), m.cause, m.detail) for m in matches
    ]


@pytest.mark.parametrize(
    ("written", "real", "cause", "detail"),
    [
        ("images/a.png", "images/a.png", "", ""),
        ("./images/a.png", "images/a.png", "", ""),
        ("images\\a.png", "images/a.png", "slash", ""),
        (".\\images\\a.png", "images/a.png", "slash", ""),
        ("images/a.jpg", "images/a.png", "extension", ".png"),
        ("images/a", "images/a.png", "extension", ".png"),
        ("Images/A.PNG", "images/a.png", "case", ""),
        ("/content/drive/data/images/a.png", "images/a.png", "beginning", "/content/drive/data"),
        ("C:\\Users\\me\\images\\a.png", "images/a.png", "beginning", "C:\\Users\\me"),
        ("gs://bucket/images/a.png", "images/a.png", "beginning", "gs://bucket"),
        ("a.png", "deep/down/a.png", "below", "deep/down"),
        ("other/a.png", "images/a.png", "beginning", "other"),
    ],
)
def test_what_differs(tmp_path, written, real, cause, detail):
    lay(tmp_path, real, "images/unlike.png")
    assert found(tmp_path, written) == [(real, cause, detail)]


def test_nothing_is_guessed_where_several_could_be_meant(tmp_path):
    lay(tmp_path, "x/a.png", "y/a.png", "cat/1.png", "cat/2.png")
    assert found(tmp_path, "a.png", "z/a.png") == [None, None]
    # dog/1.png is not there; that cat/1.png has the name does not make it so
    assert found(tmp_path, "cat/1.png", "dog/1.png") == [("cat/1.png", "", ""), None]
    assert found(tmp_path, "dog/1.png", "bird/1.png") == [None, None]
    assert found(tmp_path, "old/cat/1.jpg", "old/cat/1.jpeg") == [None, None]  # two names of one file
    lay(tmp_path, "both/b.png", "both/b.jpg")
    assert found(tmp_path, "both/b", "both/b.png") == [
        ("both/b.jpg", "extension", ".jpg"),
        ("both/b.png", "", ""),
    ] or found(tmp_path, "both/b") == [None]


def test_hidden_files_are_no_images_and_links_are_followed_once(tmp_path):
    lay(tmp_path, "images/._a.png", ".cache/a.png", "store/b.png")
    (tmp_path / "images/linked").symlink_to(tmp_path / "store")
    (tmp_path / "store/loop").symlink_to(tmp_path)
    assert found(tmp_path, "a.png", "images/linked/b.png") == [None, ("images/linked/b.png", "", "")]


def test_each_cause_is_told_once_with_an_example(tmp_path):
    lay(tmp_path, *(f"images/{i}.png" for i in range(9)))
    names = [f"/old/images/{i}.png" for i in range(4)] + [f"images/{i}.jpg" for i in range(4, 9)]
    matches = find_images(names, [tmp_path], Folders())
    told = why(zip(names, matches, strict=True))
    assert [(cause, detail) for cause, detail, _ in told] == [("extension", ".png"), ("beginning", "/old")]
    assert told[1][2].startswith("4 images begin with /old, which is not here: '/old/images/0.png' is ")


def test_a_folder_is_listed_once_and_no_file_is_asked_for(tmp_path, monkeypatch):
    lay(tmp_path, *(f"{i % 3}/{i}.png" for i in range(60)))
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: (listed.append(str(folder)), scandir(folder))[1])
    monkeypatch.setattr(os, "stat", lambda *_, **__: pytest.fail("a stat for each image"))
    names = [f"{i % 3}/{i}.png" for i in range(60)]
    assert all(find_images(names, [tmp_path], Folders()))
    assert len(listed) == len(set(listed)) == 4
