"""Other systems: what Windows, a Mac, a container or a read-only disk do differently, as far as it shows here."""

import ast
import io
import json
import ntpath
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import time
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import PROJECT
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from mlworkbench import Run, WorkbenchError, __version__, files, find_suspects, memory, paths, read_labels
from mlworkbench.analysis import suspects
from mlworkbench.cli import main
from mlworkbench.data import finder, images, labels
from mlworkbench.deploy import sources
from mlworkbench.exceptions import RunFailed
from mlworkbench.files import write_json, write_whole
from mlworkbench.network import cache
from mlworkbench.network.batches import ImageDataset
from mlworkbench.network.device import refuse_misfit
from mlworkbench.network.feed import make_loader
from mlworkbench.runs import folder as folder_of

fit = import_module("mlworkbench.training.fit")  # the package's own `fit` is the function
FOREIGN = [r"\\server\share\a.jpg", "//server/share/a.jpg", r"\\.\COM1", r"\\?\UNC\server\share\a.jpg", r"\\server"]


@pytest.fixture
def windows(monkeypatch):
    """Paths as Windows has them."""
    monkeypatch.setattr(paths, "os", SimpleNamespace(path=ntpath))


def test_another_drive_is_elsewhere_and_no_error(windows):
    assert paths.is_inside(r"C:\data\a.jpg", r"C:\data") and not paths.is_inside(r"C:\database\a.jpg", r"C:\data")
    assert not paths.is_inside(r"D:\a.jpg", r"C:\data") and not paths.is_inside(r"\\server\share\a.jpg", r"C:\data")
    assert paths.relative(r"C:\data\in\a.jpg", r"C:\data") == r"in\a.jpg"
    assert paths.relative(r"D:\a.jpg", r"C:\data") == r"D:\a.jpg"
    assert paths.common_folder([r"C:\data\a", r"C:\data\b"]) == r"C:\data"
    with pytest.raises(WorkbenchError, match=r"lie on the drives C:, D:; copy all of them onto one"):
        paths.common_folder([r"C:\data", r"D:\data"])


class NoDisk:
    """Stands for `os` with the paths of Windows: resolves links as if there were none, and opens nothing."""

    def __init__(self):
        self.asked = []
        self.path = SimpleNamespace(**{name: getattr(ntpath, name) for name in ("join", "commonpath", "splitdrive")})
        self.path.realpath = self.realpath

    def realpath(self, path, strict=False):
        self.asked += [path] if strict else []  # only then is the file itself looked at
        return ntpath.normpath(path)

    def stat(self, path):
        return SimpleNamespace(st_mode=0o100644)


def test_an_image_on_another_drive_is_set_aside_and_one_on_a_foreign_share_not_even_opened(windows, monkeypatch):
    disk = NoDisk()
    monkeypatch.setattr(images, "os", disk)
    with pytest.raises(images.ImageFault, match="outside the image root"):
        images.locate(r"D:\other\a.jpg", r"C:\data")
    assert disk.asked == [r"D:\other\a.jpg"]
    for path in FOREIGN:
        with pytest.raises(images.ImageFault, match="network share outside the image root, and not opened"):
            images.locate(path, r"C:\data")
    with pytest.raises(images.ImageFault, match="not opened"):
        images.locate(r"\\other\share\a.jpg", r"\\server\share\data")
    assert disk.asked == [r"D:\other\a.jpg"]
    assert str(images.locate(r"\\SERVER\share\data\a.jpg", r"\\server\share\data")).endswith("a.jpg") is True


def test_no_listing_or_guess_opens_a_foreign_share(windows, monkeypatch, tmp_path):
    listed, opened = finder.Folders(), []
    monkeypatch.setattr(finder.Folders, "names", lambda _, folder: opened.append(folder) or {})
    assert finder.find_images(FOREIGN, [tmp_path], listed) == [None] * len(FOREIGN)
    assert opened == [str(tmp_path)]
    monkeypatch.setattr("pathlib.Path.is_file", lambda path: pytest.fail(str(path)))
    assert labels._with_slashes(np.array(FOREIGN, object), tmp_path, []).tolist() == FOREIGN


def test_on_systems_without_drives_two_slashes_are_one(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert not any(paths.is_foreign(path, "/data") for path in FOREIGN)
    assert images.locate(f"/{tmp_path}/a.jpg", tmp_path) == (tmp_path / "a.jpg").resolve()


def test_a_file_that_another_program_holds_is_asked_for_again_and_then_told(tmp_path, monkeypatch):
    file, real, asked = tmp_path / "history.csv", os.replace, []

    def held(times):
        def replace(new, there):
            asked.append(new)
            if len(asked) <= times:
                raise PermissionError(13, "Access is denied")
            real(new, there)

        asked.clear()
        monkeypatch.setattr(os, "replace", replace)

    waited = []
    monkeypatch.setattr(files.time, "sleep", waited.append)
    file.write_bytes(b"old")
    held(3)
    write_whole(file, b"new")
    assert file.read_bytes() == b"new" and len(asked) == 4
    held(1000)
    waited.clear()
    with pytest.raises(RunFailed, match=r"history.csv cannot be replaced \(Access is denied\); close the program that"):
        write_whole(file, b"newer")
    assert sum(waited) == pytest.approx(2)
    assert file.read_bytes() == b"new" and [entry.name for entry in tmp_path.iterdir()] == ["history.csv"]


def test_a_cached_file_that_cannot_go_stays_and_the_next_one_goes(tmp_path, monkeypatch):
    for age, name in enumerate(("mapped", "older", "newer")):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (age, age))
    real = cache.Path.unlink

    def unlink(path, **options):
        if path.name == "mapped":
            raise PermissionError(13, "in use")
        real(path, **options)

    monkeypatch.setattr(cache.Path, "unlink", unlink)
    cache._make_room(tmp_path, 10, 30)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mapped", "newer"]


OPENED = {"open", "fdopen", "read_text", "write_text"}
BYTES = {"Image.open", "archive.open", "gzip.open", "os.open"}


def opens_text_as_it_comes(call):
    """Whether a call opens a text file in whatever encoding the system has."""
    owner = getattr(getattr(call.func, "value", None), "id", "")
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    words = [str(arg.value) for arg in call.args if isinstance(arg, ast.Constant)]
    said = {word.arg for word in call.keywords} & {"encoding"} or any(re.fullmatch("utf-8|[axrw]b", w) for w in words)
    return name in OPENED and f"{owner}.{name}" not in BYTES and not said


def test_every_text_file_is_opened_in_an_encoding_that_is_said():
    found = [
        f"{file}:{node.lineno}"
        for file in [*PROJECT.glob("mlworkbench/**/*.py"), *PROJECT.glob("docs/*.py")]
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Call) and opens_text_as_it_comes(node)
    ]
    assert not found


def test_what_worker_processes_are_given_can_be_sent_to_them(picture, tmp_path):
    """As Windows and macOS must, who start them anew; a whole training so was tried by hand."""
    dataset = ImageDataset(np.array([picture("a.png")], object), tmp_path, None, 8)
    loader = make_loader(dataset, [[0]], workers=1)
    sent, collate, begin = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn, loader.worker_init_fn)))
    assert torch.equal(collate(sent[0])[0], dataset[0][0]) and callable(begin)


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_fp16_is_offered_where_it_was_tried(device):
    with pytest.raises(WorkbenchError, match=f"fp16 is for CUDA cards; on {device} choose auto, fp32 or bf16"):
        refuse_misfit("fp16", torch.device(device))
    refuse_misfit("fp16", torch.device("cuda"))
    refuse_misfit("bf16", torch.device(device))


def test_names_that_a_console_cannot_show_end_no_command(write_labels, picture, handmade_run, tmp_path, monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", write_through=True)
    monkeypatch.setattr(sys, "stdout", console)
    names = ["Собака", "猫"]
    rows = [(picture(f"{i}.png", seed=i), [i % 2, i // 2 % 2]) for i in range(12)]
    (tmp_path / "classes.txt").write_text("\n".join(names), encoding="utf-8")
    assert main(["check", str(write_labels(rows))]) == 0
    run = Run(shutil.copytree(handmade_run.folder, tmp_path / "run"))
    run.write_state(class_names=[*names, "dog", "rare"])
    for split in ("val", "test"):
        found = handmade_run.predictions(split)
        run.write_predictions(
            files and found.__class__(found.paths, run.class_names, found.logits, found.y, split), split
        )
    assert main(["tune", str(run.folder), "--review-share", ".1"]) == 0
    said = console.buffer.getvalue().decode("cp1252")
    assert said.count(r"\u0421\u043e\u0431\u0430\u043a\u0430") > 1 and r"\u732b" in said


def python(code, *arguments, **environment):
    """What a fresh Python prints."""
    environment = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split("\n")


NOBODY = """
import pwd
def unknown(user): raise KeyError(user)
pwd.getpwuid = unknown
import mlworkbench, pathlib, platformdirs
print(pathlib.Path.home())
print(oct(pathlib.Path.home().stat().st_mode & 0o777))
platformdirs.user_cache_path("mlworkbench", ensure_exists=True)
from mlworkbench.network.foreign import quietly
with quietly():
    import ultralytics
"""


def test_who_has_no_home_gets_one_that_nobody_else_can_write(tmp_path):
    nobody = {"HOME": None, "XDG_CACHE_HOME": None, "TMPDIR": str(tmp_path)}
    first, rights, *_ = python(NOBODY, **nobody)
    assert (first, rights) == (str(tmp_path / f"mlworkbench-{os.getuid()}"), "0o700")
    assert python("import mlworkbench, pathlib\nprint(pathlib.Path.home())", HOME="/there")[0] == "/there"
    (tmp_path / f"mlworkbench-{os.getuid()}").chmod(0o777)  # somebody else's trap
    again, rights, *_ = python(NOBODY, **nobody)
    assert again != first and rights == "0o700"


@pytest.fixture
def read_only(handmade_run, tmp_path):
    """A run whose folder cannot be written: not even by root, whom no rights stop, can a lock be had."""
    folder = shutil.copytree(handmade_run.folder, tmp_path / "shared")
    (folder / ".owner").unlink(missing_ok=True)
    (folder / ".lock").unlink(missing_ok=True)
    (folder / ".lock").mkdir()
    return folder


def test_a_folder_that_cannot_be_written_can_be_read(read_only, caplog, capsys):
    before = sorted(read_only.rglob("*"))
    assert main(["evaluate", str(read_only)]) == 0
    assert "mAP" in capsys.readouterr().out and sorted(read_only.rglob("*")) == before
    assert [f"not kept: {read_only} cannot be written" in text for text in caplog.messages] == [True]
    assert main(["tune", str(read_only)]) == 2
    assert f"error: {read_only} cannot be written (" in capsys.readouterr().err
    (read_only / "file").touch()
    assert main(["evaluate", str(read_only), "--json", str(read_only / "file" / "scores.json")]) == 2
    assert "scores.json cannot be written (File exists); choose another place" in capsys.readouterr().err


def test_what_such_a_folder_does_not_hold_is_computed_and_kept_in_memory(read_only, monkeypatch):
    run, asked = Run(read_only), []

    def judge(run, splits):
        asked.append(splits)
        with folder_of.keeping(run.folder) as lasting:
            run.write_predictions(run.predictions("test"), "test_judged", lasting)

    monkeypatch.setattr(suspects, "_judge", judge)
    assert len(find_suspects(run, "test").ranking) == 80 * 4 and asked == [("val", "test")]
    assert run.predictions("test_judged").split == "test_judged"
    assert not (read_only / folder_of.predictions_file("test_judged")).exists()


def test_a_run_that_cannot_be_written_is_told_before_any_image_is_read(tmp_path, write_labels, monkeypatch, capsys):
    monkeypatch.setattr(fit, "prepare", lambda *_, **__: pytest.fail("images are checked"))
    (tmp_path / "file").touch()
    table = write_labels([("a.png", [0, 1])])
    before = sorted(tmp_path.iterdir())
    for run in (tmp_path / "file" / "run", tmp_path / "file"):
        assert main(["train", str(table), "--run", str(run)]) == 2
        assert f"error: {run} cannot be written (" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("mask", [0o027, 0o002])
def test_what_is_written_has_the_rights_that_the_user_wants(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "whole", b"x")
        cache._reserve(tmp_path / "reserved", 10)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o666 & ~mask}


KILLED = """
import os, pathlib, signal, sys
from mlworkbench.files import replacing
with replacing(pathlib.Path(sys.argv[1])) as file:
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_kill_leaves_is_gone_after_the_next_start(tmp_path):
    def leave(name):
        subprocess.run([sys.executable, "-c", KILLED, tmp_path / name], check=False)

    hour = time.time() - files.ABANDONED
    mine = [tmp_path / name for name in (".gitignore", ".notes.txt", ".env.template", ".FILE.deadbeef.csv")]
    for file in mine:
        file.touch()
        os.utime(file, (hour, hour))
    leave("report.html")
    (left,) = tmp_path.glob(".report.html.*")
    write_whole(tmp_path / "report.html", b"x")
    assert left.exists()  # perhaps somebody is still writing it
    os.utime(left, (hour, hour))
    write_whole(tmp_path / "other.html", b"x")
    assert left.exists()
    write_whole(tmp_path / "report.html", b"x")
    assert not left.exists() and all(file.exists() for file in mine)

    for name in ("history.csv", "checkpoints/resume.pt", "weights/last.pt"):
        leave(name)
    folder_of.clear_results(tmp_path)  # what a training goes on with
    there = {file for file in tmp_path.rglob("*") if file.is_file()}
    assert there == {*mine, tmp_path / "other.html"}


def test_a_file_name_that_is_no_utf8_neither_ends_nor_enters_anything(tmp_path, capsys):
    folder = tmp_path / "scenes"
    for kind in ("cat", "dog"):
        (folder / kind).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), (number, ord(kind[0]), 0)).save(folder / kind / f"{number}.png")
    (folder / "cat" / "0.png").rename(folder / "cat" / os.fsdecode(b"caf\xe9.png"))
    assert main(["import", str(folder), "--out", str(folder / "labels.csv")]) == 0
    told = capsys.readouterr().out
    assert "1 images have no name or one that is no UTF-8" in told
    assert len(read_labels(folder / "labels.csv")) == 7
    assert len(sources.images_of(folder)[1]) == 7


def test_a_folder_whose_name_is_no_utf8_is_written_and_read_again(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "run.json", {"image_root": name})
    assert json.loads((tmp_path / "run.json").read_bytes()) == {"image_root": name}


def test_threads_decode_no_more_at_once_than_one_image_may_have(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "TOGETHER", 1000)
    Image.new("RGB", (20, 30)).save(tmp_path / "a.png")  # 600 pixels: two would be too many
    Image.new("RGB", (50, 50)).save(tmp_path / "b.png")  # more than are allowed, and alone all the same
    most, real = [], PngImageFile.load

    def load(image):
        most.append(memory._under_way)
        time.sleep(0.01)  # for the others to come, if they may
        most.append(memory._under_way)
        return real(image)

    monkeypatch.setattr(PngImageFile, "load", load)
    threads = [threading.Thread(target=images.load_image, args=(name, tmp_path)) for name in ("a.png", "b.png") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {600, 2500} and memory._under_way == 0


def test_the_version_is_at_hand_where_only_sources_are(monkeypatch):
    monkeypatch.setattr(fit, "version", lambda name: pytest.fail(name) if name == "mlworkbench" else "1")
    assert fit._versions()["mlworkbench"] == __version__
    assert f'version = "{__version__}"' in (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
