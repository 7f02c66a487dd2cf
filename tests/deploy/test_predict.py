"""What can be predicted: whatever training reads, under any of its names; the rest is told."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mlworkbench import Run, WorkbenchError, predict, predict_to, read_labels
from mlworkbench.cli import main
from mlworkbench.deploy.predict import told
from mlworkbench.views.galleries import prediction_gallery

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
WRITERS = {".jfif": "JPEG", ".mpo": "MPO", ".jp2": "JPEG2000", ".pgm": "PPM", ".tga": "TGA"}


@pytest.fixture
def folder(tmp_path):
    """Images under unusual names, and what lies beside them."""
    images = tmp_path / "new images"
    (images / "deep").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    for suffix, kind in WRITERS.items():
        Image.fromarray(pixels).save(images / "deep" / f"a{suffix.upper()}", format=kind)
    (images / "b.HEIC").write_bytes(HEIC)
    (images / "c.HEIC").write_bytes(HEIC)
    (images / "._a.jpg").write_bytes(b"\0\x05\x16\x07\0\x02\0\0Mac OS X")
    (images / "notes.txt").write_text("nothing")
    (images / "Makefile").write_text("all:")
    return images


def paths(found):
    return sorted(found[0].image_path)


def test_a_folder_is_read_whole_and_the_rest_counted_in_one_line(tiny_run, folder, caplog):
    found = predict(tiny_run, folder)
    assert paths(found) == sorted(f"deep/a{suffix.upper()}" for suffix in WRITERS) and not found[1]
    (line,) = caplog.messages
    assert line.startswith(f"passed over in {folder}: 2 .HEIC (HEIC, as phones write it; save it as JPEG), ")
    assert {"1 .txt", "1 without suffix"} < set(line.partition(": ")[2].split(", ")) and "1 ._ files (" in line


def test_a_glob_tells_what_it_passes_over(tiny_run, folder, caplog):
    assert paths(predict(tiny_run, f"{folder}/**/*a*")) == sorted(f"a{suffix.upper()}" for suffix in WRITERS)
    assert caplog.messages == [f"passed over in {folder}/**/*a*: 1 without suffix"]


def test_one_file_is_what_its_bytes_say(tiny_run, folder):
    assert paths(predict(tiny_run, folder / "deep" / "a.JFIF")) == ["a.JFIF"]
    shutil.copy(folder / "deep" / "a.JFIF", folder / "named.anyhow")
    assert paths(predict(tiny_run, folder / "named.anyhow")) == ["named.anyhow"]
    with pytest.raises(WorkbenchError, match="b.HEIC is no image, .*: it is HEIC, .*save it as JPEG"):
        predict(tiny_run, folder / "b.HEIC")


@pytest.mark.parametrize(
    "content",
    [
        "deep/a.JFIF\ndeep/a.PGM\n",
        "deep/a.JFIF\r\n\r\ndeep/a.PGM",
        "image_path\ndeep/a.JFIF\ndeep/a.PGM\ndeep/a.PGM\n",
        "Image Index;Age\ndeep/a.JFIF;58\ndeep/a.PGM;61\n",
        "id,filename,cat\n1,deep/a.JFIF,yes\n2,deep/a.PGM,what\n",
        'deep/a.JFIF,"[0, 1]"\ndeep/a.PGM,nonsense\n',
        '{"file_name": "deep/a.JFIF", "objects": [1]}\n{"file_name": "deep/a.PGM", "objects": []}\n',
    ],
)
def test_a_file_of_paths_with_whatever_else(tiny_run, folder, content):
    (folder / "list.txt").write_text(content, newline="")
    assert paths(predict(tiny_run, folder / "list.txt")) == ["deep/a.JFIF", "deep/a.PGM"]


@pytest.mark.parametrize(
    ("content", "seen"), [("id,age\n1,2\n", "its columns are 'id, age'"), ("\n", "it is empty"), ("00a\n", "are '00a'")]
)
def test_a_file_without_paths_is_told(tiny_run, folder, content, seen):
    (folder / "list.csv").write_text(content)
    with pytest.raises(WorkbenchError, match=f"names no image: .*{seen}; expected a column image_path, or one path"):
        predict(tiny_run, folder / "list.csv")


def test_images_that_are_elsewhere_and_the_option_for_them(tiny_run, folder, tmp_path, capsys):
    """The refusal names --root, and with it the same command does it."""
    (tmp_path / "list.txt").write_text("a.JFIF\na.PGM\n")
    command = ["predict", str(tiny_run.folder), str(tmp_path / "list.txt"), "--out", str(tmp_path / "p.csv")]
    assert main(command) == 2
    told = capsys.readouterr().err
    option = re.search(r"none of the 2 images .* is in .*: missing\).* (--\w+) DIR", told)[1]
    assert main([*command, option, str(folder / "deep")]) == 0
    assert list(pd.read_csv(tmp_path / "p.csv").image_path) == ["a.JFIF", "a.PGM"]
    (tmp_path / "list.txt").write_text(f"{folder}/deep/a.JFIF\n")
    (tmp_path / "lists").mkdir()
    shutil.move(tmp_path / "list.txt", tmp_path / "lists")
    command[2] = str(tmp_path / "lists/list.txt")
    assert main(command) == 2 and "outside the image root" in capsys.readouterr().err
    assert main([*command, option, str(folder)]) == 0


def test_what_python_holds(tiny_run, folder, monkeypatch, demo_labels):
    monkeypatch.chdir(folder)
    assert paths(predict(tiny_run.folder, ["deep/a.PGM", folder / "deep/a.JFIF"])) == ["a.JFIF", "a.PGM"]
    assert paths(predict(tiny_run, (name for name in ["a.PGM"]), "deep")) == ["a.PGM"]
    assert paths(predict(tiny_run, pd.DataFrame({"n": [1], "filename": ["deep/a.PGM"]}))) == ["a.PGM"]
    table = read_labels(demo_labels).take(slice(0, 3))
    assert paths(predict(tiny_run, table)) == sorted(table.paths)
    for odd in ([], 3, None, np.zeros((8, 8, 3), np.uint8), {"a": 1}, [b"a.jpg"]):
        with pytest.raises(WorkbenchError, match="^source is .*; expected the path of an image, a folder, "):
            predict(tiny_run, odd)
    with pytest.raises(WorkbenchError, match="the DataFrame has the columns 'a'; expected one called image_path"):
        predict(tiny_run, pd.DataFrame({"a": ["x.jpg"]}))


def test_one_image_is_a_table_on_the_screen_and_several_a_line_each(tiny_run, folder, capsys):
    image = folder / "deep" / "a.PGM"
    assert main(["predict", str(tiny_run.folder), str(image)]) == 0
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    frame = predict(tiny_run, image)[0].iloc[0]
    assert head == ["class", "p", "present"]
    assert [name for name, *_ in rows] == sorted(tiny_run.class_names, key=lambda name: -frame[f"p_{name}"])
    for name, p, present in rows:
        assert abs(float(p) - frame[f"p_{name}"]) < 6e-4 and present == ("yes" if frame[f"present_{name}"] else "no")
    assert main(["predict", str(tiny_run.folder), str(image), str(folder / "deep/a.TGA")]) == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["a.PGM", "a.TGA"]


def test_one_cause_is_one_line(tiny_run, folder, tmp_path, capsys):
    names = ["deep/a.PGM", *(f"gone{i}.jpg" for i in range(30)), "b.HEIC"]
    (folder / "list.json").write_text("".join(json.dumps({"path": name}) + "\n" for name in names))
    assert main(["predict", str(tiny_run.folder), str(folder / "list.json"), "--out", str(tmp_path / "p.csv")]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("set aside")]
    assert told[0] == "set aside  gone0.jpg and 29 more: missing" and len(told) == 2 and "HEIC" in told[1]


def test_what_lies_in_a_zone_is_marked_for_a_person(tiny_run, tmp_path, capsys):
    """In memory, in both kinds of file and on the screen; a run without zones says nothing of a person."""
    run = Run(shutil.copytree(tiny_run.folder, tmp_path / "run"))
    plain, _ = predict(run, run.root)
    names, p = run.class_names, plain[[f"p_{name}" for name in run.class_names]].to_numpy()
    values = np.median(p, 0)
    low, high = np.quantile(p, [0.4, 0.6], axis=0).astype(np.float32)
    high[3] = low[3] = values[3]
    run.save_thresholds(replace(run.thresholds(), values=values, review=np.stack([low, high])))
    frame, _ = predict(run, run.root)
    assert list(frame) == [*plain, *(f"review_{name}" for name in names)]
    review = frame[[f"review_{name}" for name in names]]
    assert review.to_numpy().dtype == bool and (review.to_numpy() == ((p >= low) & (p < high))).all()
    assert review.to_numpy().any() and not review.to_numpy()[:, 3].any()
    for file, read in ((tmp_path / "p.csv", pd.read_csv), (tmp_path / "p.parquet", pd.read_parquet)):
        predict_to(file, run, run.root)
        pd.testing.assert_frame_equal(read(file)[review.columns], review)
    without = frame[list(frame)[: 1 + 2 * len(names)]]
    assert prediction_gallery(frame, run.root).data == prediction_gallery(without, run.root).data
    row = next(i for i in range(len(frame)) if review.iloc[i].any())
    asked = [name for name in sorted(names, key=lambda name: -frame[f"p_{name}"][row]) if review[f"review_{name}"][row]]
    line = list(told(frame))[row].partition("; ask a person: ")[2]
    assert [item.rpartition(" ")[0] for item in line.split(", ")] == asked
    lines = list(told(frame.iloc[[row]]))
    assert sorted(line.split()[0] for line in lines if line.endswith(", ask a person")) == sorted(asked)
    assert not any("person" in line for line in told(plain))
