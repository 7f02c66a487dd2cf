"""Tables as people have them: imported rightly, or asked about with a command that works when it is run."""

import gzip
import json
import re
import shlex
import zipfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from mlworkbench import WorkbenchError, read_labels
from mlworkbench.cli import main
from mlworkbench.imports.door import import_labels
from mlworkbench.imports.found import Told

SETS = [{"cat"}, {"dog", "hat"}, set(), {"cat", "dog", "hat"}, {"hat"}, {"cat", "hat"}, {"dog"}, {"cat", "dog"}]
NAMES = ["cat", "dog", "hat"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with eight images in `pics/`, in which commands are run."""
    tmp_path = tmp_path / "work"
    (tmp_path / "pics").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(len(SETS)):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(tmp_path / f"pics/p{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(file):
    """{stem: (present, unknown)} of a labels file."""
    table = read_labels(file)
    return {
        re.split(r"[\\/]", path)[-1].split(".")[0]: (
            {name for name, v in zip(table.class_names, row, strict=True) if v == 1},
            {name for name, v in zip(table.class_names, row, strict=True) if v == -1},
        )
        for path, row in zip(table.paths, table.y.tolist(), strict=True)
    }


def truth(sets=SETS):
    return {f"p{i}": (own, set()) for i, own in enumerate(sets)}


def command_in(message):
    """Arguments of the command that a message ends with."""
    return shlex.split(message.strip().splitlines()[-1][message.strip().splitlines()[-1].index("mlworkbench import") :])


def asked(capsys, *arguments):
    """What a command says that refuses, in one line."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ") and text.count("\n") == 1, text
    return text


def settled(message, check=True):
    """Run the command that a message names; the labels file that it wrote, which `check` then takes."""
    program, *arguments = command_in(message)
    assert program == "mlworkbench" and main(arguments) == 0
    out = arguments[arguments.index("--out") + 1]
    if check:
        assert main(["check", out]) == 0
    return out


def row(values, sign=","):
    return sign.join(map(str, values)) + "\n"


def one_hot(header="image_path,cat,dog,hat", path="pics/p{}.png", yes="1", no="0", sign=",", more=lambda i: []):
    rows = [[path.format(i), *(yes if name in own else no for name in NAMES), *more(i)] for i, own in enumerate(SETS)]
    return (header.replace(",", sign) + "\n" if header else "") + "".join(row(values, sign) for values in rows)


def named(cell, header="image_path,tags", path="pics/p{}.png", sets=SETS):
    def quoted(text):
        return '"' + text.replace('"', '""') + '"'

    rows = [[path.format(i), quoted(cell(sorted(own)))] for i, own in enumerate(sets)]
    return (header + "\n" if header else "") + "".join(map(row, rows))


def long(header, cells, path="pics/p{}.png", sets=SETS):
    return (
        header
        + "\n"
        + "".join(row([path.format(i), *cells(name)]) for i, own in enumerate(sets) for name in sorted(own))
    )


NUMPY_LIST = lambda own: "[" + " ".join(map(repr, own)) + "]"  # noqa: E731
WITHOUT_EMPTY = [own for own in SETS if own]

# What is read as it is: the canonical forms, and what is unmistakable.
READ = {
    "header of another case": one_hot("Image Path,cat,dog,hat"),
    "decimal commas": one_hot(yes="1,0", no="0,0", sign=";"),
    "a first line sep=": "sep=;\n" + one_hot(sign=";"),
    "lists of names in tags": named(str),
    "lists of names in labels": named(str, "image_path,labels"),
    "tuples": named(lambda own: str(tuple(own)), "image_path,labels"),
    "sets": named(lambda own: str(set(own)) if own else "set()", "image_path,labels"),
    "JSON lists in a cell": named(json.dumps, "image_path,labels"),
    "NumPy's lists of names": named(NUMPY_LIST, "image_path,labels"),
    "arrays": named(lambda own: f"array({own}, dtype=object)", "image_path,labels"),
    "names in labels": named(lambda own: "|".join(own) or "|", "image_path,labels"),
    "names in label": named(lambda own: "; ".join(own) or ";", "file_name,label"),
    "JSON Lines of names": "".join(
        json.dumps({"file_name": f"pics/p{i}.png", "labels": sorted(own)}) + "\n" for i, own in enumerate(SETS)
    ),
    "backslashes": one_hot(path="pics\\p{}.png"),
    "backslashes and a dot": one_hot(path=".\\pics\\p{}.png"),
    "lists beside metadata": "image_path,camera,labels\n"
    + "".join(f'pics/p{i}.png,north,"{[int(n in own) for n in NAMES]}"\n' for i, own in enumerate(SETS)),
}


@pytest.mark.parametrize("name", READ)
def test_what_is_unmistakable_is_read(folder, name):
    (folder / "labels.csv").write_text(READ[name], newline="")
    if name == "lists beside metadata":
        (folder / "classes.txt").write_text("cat\ndog\nhat\n")
    assert contents("labels.csv") == truth()
    assert main(["check", "labels.csv"]) == 0


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig", "gz", "zip"])
def test_containers_and_encodings_are_told_by_their_first_bytes(folder, encoding):
    text = one_hot()
    if encoding == "gz":
        data = gzip.compress(text.encode())
    elif encoding == "zip":
        with zipfile.ZipFile(folder / "labels.csv", "w") as archive:
            archive.writestr("__MACOSX/._a.csv", "x")
            archive.writestr("a.csv", text)
        data = (folder / "labels.csv").read_bytes()
    else:
        data = (b"\xfe\xff" if encoding == "utf-16-be" else b"") + text.encode(encoding)
    (folder / "labels.csv").write_bytes(data)
    assert contents("labels.csv") == truth()
    assert contents(settled("mlworkbench import labels.csv --out other/../new.csv")) == truth()


@pytest.mark.parametrize("several", [True, False])
def test_archives_and_workbooks_are_told_with_the_step(folder, several, capsys):
    with zipfile.ZipFile(folder / "labels.xlsx", "w") as archive:
        for name in ("a.csv", "b.csv") if several else ("[Content_Types].xml", "xl/workbook.xml"):
            archive.writestr(name, "x")
    words = "a zip archive of 2 files; unpack it" if several else "an Excel workbook; save it as CSV UTF-8"
    assert words in asked(capsys, "check", "labels.xlsx")
    assert words in asked(capsys, "import", "labels.xlsx", "--out", "new.csv")
    (folder / "old.xls").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(600))
    assert "old Excel workbook; save it as CSV UTF-8" in asked(capsys, "check", "old.xls")
    (folder / "cut.gz").write_bytes(gzip.compress(b"x" * 5000)[:20])
    assert "a damaged archive" in asked(capsys, "check", "cut.gz")


def test_an_archive_that_holds_too_much_is_refused(folder, capsys, monkeypatch):
    monkeypatch.setattr("mlworkbench.tables.rows.MAX_UNPACKED", 1000)
    (folder / "labels.csv").write_bytes(gzip.compress(b"0" * 100_000))
    assert "unpack it yourself" in asked(capsys, "check", "labels.csv")


# What could mean two things, or is somebody else's form: (text, words of the refusal, what import reads).
ASKED = {
    "path column of another name": (one_hot("img_name,cat,dog,hat"), ["'img_name'", "image_path"], SETS),
    "names without extension": (one_hot("id,cat,dog,hat", path="p{}"), ["'id'", "without extension"], SETS),
    "no header, 0 and 1": (one_hot(""), ["no header", "0 or 1"], SETS),
    "no header, names": (named("|".join, "", sets=WITHOUT_EMPTY), ["no header", "names"], WITHOUT_EMPTY),
    "Paddle's lists": (
        "".join(f"pics/p{i}.png\t{','.join(str(int(n in own)) for n in NAMES)}\n" for i, own in enumerate(SETS)),
        ["no header", "0 or 1"],
        SETS,
    ),
    "NIH": (
        "Image Index,Finding Labels,Patient ID,Patient Age\n"
        + "".join(row([f"p{i}.png", "|".join(own) or "No Finding", i // 2, 40 + i]) for i, own in enumerate(SETS)),
        ["'Image Index'", "'Finding Labels'", "Patient ID"],
        [own or {"No Finding"} for own in SETS],
    ),
    "-1 and 1": (one_hot(no="-1"), ["no label is 0", "-1 absent", "unknown"], SETS),
    "-1 and 1 in lists": (
        "image_path,labels\n"
        + "".join(f'pics/p{i}.png,"{[1 if n in own else -1 for n in NAMES]}"\n' for i, own in enumerate(SETS)),
        ["no label is 0", "-1 absent", "unknown"],
        SETS,
    ),
    "blank and 1": (one_hot(no=""), ["no label is 0", "blank", "unknown"], SETS),
    "spaces between names": (
        named(" ".join, sets=WITHOUT_EMPTY), ["seem to be several joined by ' '", "--delimiter"], WITHOUT_EMPTY,
    ),
    "slashes between names": (
        named("/".join, sets=WITHOUT_EMPTY), ["seem to be several joined by '/'", "--delimiter"], WITHOUT_EMPTY,
    ),
    "bracketed words": (named(lambda own: f"[{', '.join(own)}]"), ["lists of names in brackets"], SETS),
    "bracketed words, NumPy": (named(lambda own: f"[{' '.join(own)}]", "image_path,labels"), ["in brackets"], SETS),
    "is_valid": (
        one_hot("image_path,cat,dog,hat,is_valid", more=lambda i: [i % 2 == 1]), ["'is_valid'", "split"], SETS,
    ),
    "a split called dataset": (
        one_hot("image_path,cat,dog,hat,dataset", more=lambda i: [["train", "valid"][i % 2]]),
        ["'dataset' seems to be the split"],
        SETS,
    ),
    "a split beside names": (
        "image_path,labels,is_valid\n"
        + "".join(f"pics/p{i}.png,{'|'.join(sorted(own)) or '|'},{i % 2 == 1}\n" for i, own in enumerate(SETS)),
        ["'is_valid' seems to be the split"],
        SETS,
    ),
    "words and numbers beside the classes": (
        one_hot("image_path,cat,dog,hat,sex,age,view", more=lambda i: ["MF"[i % 2], 40 + i, ["AP", "PA"][i % 2]]),
        ["'sex' holds words (M, F)", "'age' holds numbers", "'view' holds words", "--columns cat dog hat"],
        SETS,
    ),
    "0 and 1 that are no class by name": (
        one_hot("image_path,cat,dog,hat,is_crowd", more=lambda i: [i % 2]), ["'is_crowd'", "no class"], SETS,
    ),
    "yes and no": (one_hot("image_id,cat,dog,hat", yes="yes", no="no"), ["'image_id'"], SETS),
    "one row a label": (
        long("image_path,tags", lambda name: [name], sets=WITHOUT_EMPTY), ["one line for each label"], WITHOUT_EMPTY,
    ),
    "one row a label, label": (
        long("image,label", lambda name: [name], sets=WITHOUT_EMPTY), ["one line for each label"], WITHOUT_EMPTY,
    ),
    "boxes": (
        long("filename,width,height,class,xmin,ymin,xmax,ymax", lambda n: [40, 40, n, 1, 2, 9, 11], sets=WITHOUT_EMPTY),
        ["one line for each box (xmin"],
        WITHOUT_EMPTY,
    ),
    "numbers of classes in a list": (
        named(lambda own: str([NAMES.index(n) for n in own]), "image_path,labels"),
        ["in brackets"],
        [{str(NAMES.index(n)) for n in own} for own in SETS],
    ),
    "numbers of classes with spaces": (
        named(lambda own: " ".join(str(10 + NAMES.index(n)) for n in own), "Id,Target", "p{}", WITHOUT_EMPTY),
        ["'Id'", "'Target'"],
        [{str(10 + NAMES.index(n)) for n in own} for own in WITHOUT_EMPTY],
    ),
    "columns of words": (
        "image_path,color,shape\n"
        + "".join(row([f"pics/p{i}.png", "red" if i % 2 else "blue", "round" if i % 3 else "flat"]) for i in range(8)),
        ["'color' holds words (blue, red)", "'shape' holds words (flat, round)", "--columns color shape"],
        [{f"color: {'red' if i % 2 else 'blue'}", f"shape: {'round' if i % 3 else 'flat'}"} for i in range(8)],
    ),
    "paths of another machine": (
        one_hot(path="/content/drive/MyDrive/data/pics/p{}.png"),
        ["begin with /content/drive/MyDrive/data, which is not here", "--strip-prefix /content/drive/MyDrive/data"],
        SETS,
    ),
    "paths of Windows": (
        one_hot(path="C:\\Users\\me\\my data\\pics\\p{}.png"),
        ["begin with C:\\Users\\me\\my data, which is not here", "--strip-prefix 'C:\\Users\\me\\my data'"],
        SETS,
    ),
    "another extension": (one_hot(path="pics/p{}.jpg"), ["another extension"], SETS),
    "another case": (one_hot(path="Pics/P{}.PNG"), ["another case"], SETS),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_about_is_settled_by_the_command_that_is_named(folder, capsys, name):
    text, words, sets = ASKED[name]
    (folder / "my labels.csv").write_text(text, newline="")
    if name in ("no header, 0 and 1", "Paddle's lists", "-1 and 1 in lists"):
        (folder / "classes.txt").write_text("cat\ndog\nhat\n")
    told = asked(capsys, "check", "my labels.csv")
    for word in words:
        assert word in told
    assert asked(capsys, "train", "my labels.csv", "--run", "run").partition(": ")[2] == told.partition(": ")[2]
    assert contents(settled(told)) == truth(sets)
    assert (folder / "my labels.csv").read_text() == text.replace("\r\n", "\n")  # the source is never written


@pytest.mark.parametrize("wrong", ["pics", "empty", "nowhere"])
def test_a_root_that_is_wrong_is_answered_by_the_one_that_is_right(folder, capsys, wrong):
    (folder / "labels.csv").write_text(one_hot())
    (folder / "empty").mkdir()
    told = asked(capsys, "check", "labels.csv", "--root", wrong)
    root = re.search(r"--root (\S+)", told)[1]
    assert main(["check", "labels.csv", "--root", root]) == 0


def test_the_other_meaning_is_an_option_too(folder, capsys):
    (folder / "labels.csv").write_text(one_hot(no="-1"))
    assert "no label is 0" in asked(capsys, "import", "labels.csv", "--out", "a.csv")
    assert main(["import", "labels.csv", "--out", "a.csv", "--unknown", "-1"]) == 0
    assert contents("a.csv") == {f"p{i}": (own, set(NAMES) - own) for i, own in enumerate(SETS)}
    assert main(["check", "a.csv"]) == 0  # what import wrote is not asked about again
    (folder / "spaces.csv").write_text(named(" ".join, sets=WITHOUT_EMPTY))
    (folder / "classes.txt").unlink()
    assert main(["import", "spaces.csv", "--out", "b.csv", "--delimiter", "|"]) == 0
    assert {frozenset(own) for own, _ in contents("b.csv").values()} == {
        frozenset({" ".join(sorted(s))}) for s in WITHOUT_EMPTY
    }


def test_voc_reads_minus_one_as_absent_and_zero_as_unknown(folder, capsys):
    marks = {
        (i, n): "1" if n in own else "0" if (i + len(n)) % 9 == 5 else "-1"
        for i, own in enumerate(SETS[:3] * 2 + SETS[4:6])
        for n in NAMES
    }
    text = "image_path,cat,dog,hat\n" + "".join(
        row([f"pics/p{i}.png", *(marks[i, n] for n in NAMES)]) for i in range(8)
    )
    (folder / "labels.csv").write_text(text)
    told = asked(capsys, "check", "labels.csv")
    assert "-1 is most frequent and 0 is rare" in told and "--negative -1 --unknown 0" in told
    assert contents(settled(told)) == {
        f"p{i}": ({n for n in NAMES if marks[i, n] == "1"}, {n for n in NAMES if marks[i, n] == "0"}) for i in range(8)
    }
    (folder / "classes.txt").unlink()
    assert "--unknown 0 says that 0 is unknown" in asked(
        capsys, "import", "labels.csv", "--out", "b.csv", "--negative", "-1"
    )


def test_chexpert_says_how_many_are_unknown_and_that_blanks_are_taken_so(folder, capsys):
    cells = [["1.0", "", "0.0"], ["", "-1.0", "1.0"], ["0.0", "0.0", ""], ["1.0", "1.0", ""]] * 2
    body = "".join(row([f"pics/p{i}.png", *own]) for i, own in enumerate(cells))
    (folder / "labels.csv").write_text("Path,cat,dog,hat\n" + body)
    assert main(["check", "labels.csv"]) == 0
    out = capsys.readouterr().out
    assert "8 blank cells are taken as unknown; if blank means absent: mlworkbench import" in out
    counts = {
        line.split()[0]: line.split()[-1] for line in out.splitlines() if line.split()[:1] and line.split()[0] in NAMES
    }
    assert counts == {"cat": "2", "dog": "4", "hat": "4"}
    note = next(line for line in out.splitlines() if line.startswith("blank"))
    found = contents(settled(note))
    assert {f"p{i}": {n for n, v in zip(NAMES, own, strict=True) if v == "-1.0"} for i, own in enumerate(cells)} == {
        stem: unknown for stem, (_, unknown) in found.items()
    }


def test_open_images_confidences(folder, capsys):
    rows = ["p0,verification,cat,1", "p0,verification,dog,0", "p1,machine,dog,0.8", "p2,machine,hat,0.3"]
    (folder / "labels.csv").write_text("\n".join(["ImageID,Source,LabelName,Confidence", *rows]) + "\n")
    told = asked(capsys, "check", "labels.csv")
    assert "'Confidence' seems to be the confidence" in told and "--min-confidence 0.5" in told
    assert "from which on is a label present?" in asked(capsys, "import", "labels.csv", "--out", "a.csv")
    table = read_labels(settled(told, check=False))
    assert table.class_names == ["cat", "dog", "hat"]
    assert table.y.tolist() == [[1, 0, -1], [-1, 1, -1], [-1, -1, -1]]


def test_what_was_told_is_told_again_in_the_command(folder, capsys):
    (folder / "away").mkdir()
    (folder / "away/names.txt").write_text("cat\ndog\nhat\n")
    (folder / "away/labels.csv").write_text(one_hot("", "p{}.png", no="-1"))
    told = asked(capsys, "check", "away/labels.csv", "--root", "pics", "--classes", "away/names.txt")
    assert contents(settled(told)) == truth()
    (folder / "away/tags.csv").write_text(named("~".join, "key,things", "p{}", WITHOUT_EMPTY))
    told = asked(capsys, "check", "away/tags.csv", "--root", "pics", "--tag-delimiter", "~")
    (folder / "pics/classes.txt").unlink()
    assert contents(settled(told)) == truth(WITHOUT_EMPTY)
    (folder / "celeba.csv").write_text(one_hot("key,cat,dog,hat,sex", no="-1", more=lambda i: ["MF"[i % 2]]))
    told = asked(capsys, "import", "celeba.csv", "--out", "a.csv", "--columns", "dog", "hat")
    found = contents(settled(told))
    assert found == {f"p{i}": (own & {"dog", "hat"}, set()) for i, own in enumerate(SETS)}


def test_the_columns_that_are_classes_can_be_chosen(folder, capsys):
    (folder / "labels.csv").write_text(
        one_hot("image_path,cat,dog,hat,is_valid,age", more=lambda i: [i % 2 == 1, 40 + i])
    )
    (folder / "wanted.txt").write_text("hat\ncat\n")
    table = read_labels("labels.csv", classes="wanted.txt")
    assert table.class_names == ["hat", "cat"] and list(table.extra) == ["dog", "is_valid", "age"]
    assert table.y.tolist() == [[int("hat" in own), int("cat" in own)] for own in SETS]
    assert main(["check", "labels.csv", "--classes", "wanted.txt"]) == 0
    assert "column 'is_valid' looks like a split and is not read as one" in capsys.readouterr().out
    assert main(["import", "labels.csv", "--out", "a.csv", "--columns", "dog"]) == 0
    assert read_labels("a.csv").class_names == ["dog"]
    assert "no such column; expected one of" in asked(
        capsys, "import", "labels.csv", "--out", "b.csv", "--columns", "dgo"
    )


def test_splits_and_groups_are_kept(folder, capsys):
    (folder / "labels.csv").write_text(
        one_hot("image_path,cat,dog,hat,is_valid,Patient ID", more=lambda i: [i % 4 == 1, i // 2])
    )
    assert main(["import", "labels.csv", "--out", "a.csv", "--group-column", "Patient ID"]) == 0
    table = read_labels("a.csv")
    assert list(table.split) == ["val" if i % 4 == 1 else "train" for i in range(8)]
    assert list(table.group) == [str(i // 2) for i in range(8)]
    (folder / "labels.csv").write_text(one_hot("image_path,cat,dog,hat,fold", more=lambda i: [i % 4]))
    assert main(["import", "labels.csv", "--out", "b.csv"]) == 0
    out = capsys.readouterr().out
    assert "'fold' holds 0, 1, 2, 3 and is not read as the split; --split-column fold --split-values VALUE=val" in out
    assert read_labels("b.csv").split is None
    options = ["--split-column", "fold", "--split-values", "3=test", "2=valid"]
    assert main(["import", "labels.csv", "--out", "c.csv", *options]) == 0
    assert list(read_labels("c.csv").split) == ["train", "train", "val", "test"] * 2
    assert "expected VALUE=SPLIT" in asked(
        capsys, "import", "labels.csv", "--out", "d.csv", *options[:2], "--split-values", "9=test"
    )


@pytest.mark.parametrize(
    "words", [("train", "valid", "test"), ("TRAIN", "VALIDATION", "TEST"), ("training", "Dev", "Testing")]
)
def test_words_for_splits_are_read_in_any_case(folder, words):
    (folder / "labels.csv").write_text(one_hot("image_path,cat,dog,hat,split", more=lambda i: [words[max(0, i - 5)]]))
    assert list(read_labels("labels.csv").split) == ["train"] * 6 + ["val", "test"]
    (folder / "plain.csv").write_text(one_hot())
    (folder / "splits.csv").write_text(
        "image_path,split\n" + "".join(f"pics/p{i}.png,{words[max(0, i - 5)]}\n" for i in range(8))
    )
    assert list(read_labels("plain.csv", splits="splits.csv").split) == ["train"] * 6 + ["val", "test"]


def test_a_word_that_is_no_split_is_told_once(folder, capsys):
    (folder / "labels.csv").write_text(
        one_hot("image_path,cat,dog,hat,split", more=lambda i: [["train", "spare", "other"][i % 3]])
    )
    capsys.readouterr()
    assert main(["check", "labels.csv"]) == 2
    text = capsys.readouterr().err
    assert text.count("labels.csv:") == 2 and "split 'spare' in 3 rows" in text and "split 'other' in 2 rows" in text


def test_windows_1252_is_asked_about_and_read_by_the_command(folder, capsys):
    (folder / "pics/p0.png").rename(folder / "pics/é0.png")
    text = one_hot("image_path,Kätzchen,dog,hat").replace("p0.png", "é0.png")
    (folder / "labels.csv").write_bytes(text.encode("cp1252"))
    told = asked(capsys, "check", "labels.csv")
    assert "Windows-1252" in told and "CSV UTF-8" in told
    capsys.readouterr()
    table = read_labels(settled(told))
    assert "was read as Windows-1252" in capsys.readouterr().out
    assert table.class_names == ["Kätzchen", "dog", "hat"] and table.paths[0] == "pics/é0.png"


def test_vertex_lists(folder):
    rows = ["TRAIN,gs://bucket/set/p0.png,cat,dog", "VALIDATION,gs://bucket/set/p1.png,hat", "TEST,gs://bucket/set/p2.png",
            "UNASSIGNED,gs://bucket/set/p3.png,hat"]  # fmt: skip
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    assert main(["import", "list.csv", "--out", "labels.csv"]) == 0
    table = read_labels("labels.csv")
    assert contents("labels.csv") == {
        "p0": ({"cat", "dog"}, set()),
        "p1": ({"hat"}, set()),
        "p2": (set(), set()),
        "p3": ({"hat"}, set()),
    }
    assert list(table.split) == ["train", "val", "test", "train"]


def test_a_left_over_classes_txt_is_named_once(folder, capsys):
    (folder / "classes.txt").write_text("".join(f"tool {i}\n" for i in range(15)))
    lists = "image_path,labels\n" + "".join(
        f'pics/p{i}.png,"{[int(n in own) for n in NAMES]}"\n' for i, own in enumerate(SETS)
    )
    (folder / "labels.csv").write_text(lists)
    (folder / "names.txt").write_text("cat\ndog\nhat\n")
    main(["check", "labels.csv"])
    text = capsys.readouterr().err
    assert text.count("labels.csv:") == 1 and "lists of 3 labels, but classes.txt has 15 names" in text
    assert "--classes FILE" in text and main(["check", "labels.csv", "--classes", "names.txt"]) == 0
    (folder / "tags.csv").write_text(named(lambda own: "|".join([*own, "x", *own]), sets=[{f"n{i}"} for i in range(8)]))
    main(["check", "tags.csv"])
    text = capsys.readouterr().err
    assert text.count("tags.csv:") == 1 and "no class of classes.txt, which has 15 names" in text
    # beside a classes.txt of other names the header holds them
    (folder / "hot.csv").write_text(one_hot("img_name,cat,dog,hat"))
    told = asked(capsys, "check", "hot.csv")
    assert "--out hot-labels.csv" in told
    table = read_labels(settled(told))
    assert table.class_names == NAMES and (table.y == [[int(n in own) for n in NAMES] for own in SETS]).all()
    assert (folder / "classes.txt").read_text().startswith("tool 0\n")


def test_columns_with_wrong_cells_are_told_once_each_and_single_ones_one_by_one(folder, capsys):
    (folder / "labels.csv").write_text(
        "image_path,cat,dog\n"
        + "".join(f"p{i}.png,{'maybe' if i % 5 == 4 else i % 2},{'?' if i == 3 else 0}\n" for i in range(30))
    )
    capsys.readouterr()
    main(["check", "labels.csv"])
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:] == [
        "labels.csv:5: '?' in column 'dog' is no label; expected 0, 1 or -1 (unknown)",
        "labels.csv:6: 'maybe' in column 'cat', in 6 rows, is no label; expected 0, 1 or -1 (unknown)",
    ]


def test_no_finding_that_stands_alone_is_told_with_the_command_that_leaves_it_out(folder, capsys):
    sets = [own or {"No Finding"} for own in SETS]
    (folder / "labels.csv").write_text(named("|".join, sets=sets))
    assert main(["check", "labels.csv"]) == 0
    note = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("alone"))
    assert "class 'No Finding' never stands beside another" in note
    assert contents(settled(note)) == truth()


def test_the_report_counts_everything(folder, capsys):
    rng = np.random.default_rng(5)
    Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(folder / "pics/unnamed.png")
    (folder / "pics/._p0.png").write_bytes(b"x")  # of a Mac: no image
    text = one_hot("name,cat,dog,hat,age", more=lambda i: [i]) + "gone.png,1,0,,3\nlost/p9.png,1,0,1,3\n"
    (folder / "labels.csv").write_text(text)
    assert main(["import", "labels.csv", "--out", "a.csv"]) == 0
    out = capsys.readouterr().out
    assert (
        "table, one column for each class: 8 images, 3 classes, 12 labels; 1 images show none of them; 1 images beside"
        in out
    )
    assert "2 of 10 images are not on disk and left out, the first 'gone.png'" in out
    assert "columns that are no labels: age" in out
    counts = {
        line.split()[0]: line.split()[1:] for line in out.splitlines() if line.split()[:1] and line.split()[0] in NAMES
    }
    assert counts == {name: [str(n), str(8 - n), "0"] for name in NAMES for n in [sum(name in own for own in SETS)]}


@pytest.mark.parametrize(("text", "words"), [
    ("a,b\n1,2\n", "no column of image paths"),
    ("image_path,cat\ngone1.png,1\ngone2.png,0\n", "none of 2 images is found, the first 'gone1.png'; looked"),
    (one_hot().replace(",1", ",0"), "has no label at all"),
    ("", "empty"),
    ("image_path,camera\npics/p0.png,7\n", "no column of labels"),
])  # fmt: skip
def test_what_holds_nothing_is_refused_and_nothing_is_written(folder, capsys, text, words):
    (folder / "labels.csv").write_text(text)
    before = sorted(folder.rglob("*"))
    capsys.readouterr()
    assert main(["import", "labels.csv", "--out", "out.csv"]) == 2
    assert words in capsys.readouterr().err and sorted(folder.rglob("*")) == before


def test_parquet_and_json_lines_with_ids_as_numbers(folder):
    for i in range(8):
        (folder / f"pics/p{i}.png").rename(folder / f"pics/{100 + i}.png")
    frame = pyarrow.table(
        {"image_id": [100 + i for i in range(8)], **{n: [int(n in own) for own in SETS] for n in NAMES}}
    )
    pyarrow.parquet.write_table(frame, folder / "labels.parquet")
    found = import_labels("labels.parquet", "a.csv").table
    assert list(found.paths) == [f"pics/{100 + i}.png" for i in range(8)]
    assert found.y.tolist() == [[int(n in own) for n in NAMES] for own in SETS]


def test_options_of_image_names(folder):
    (folder / "else").mkdir()
    (folder / "else/labels.csv").write_text(one_hot("key,cat,dog,hat", path="old/place/p{}"))
    told = Told(image_column="key", image_suffix=".png", images=folder / "pics", strip_prefix="old/place/")
    found = import_labels(folder / "else/labels.csv", folder / "a.csv", told)
    assert contents(folder / "a.csv") == truth() and not [kind for kind, _ in found.notes if kind == "paths"]
    with pytest.raises(
        WorkbenchError, match="lie outside .*; paths start at the labels file, .*: give --out"
    ) as caught:
        import_labels(folder / "else/labels.csv", folder / "else/a.csv", told)
    import_labels(
        folder / "else/labels.csv",
        shlex.split(str(caught.value).partition("--out ")[2])[0].replace("a.csv", "b.csv"),
        told,
    )


def test_a_hyphen_in_names_of_columns_does_not_break_the_command(folder, capsys):
    text = one_hot("image_path,-cat,it's a dog,hat,sex", more=lambda i: ["MF"[i % 2]])
    (folder / "labels.csv").write_text(text)
    table = read_labels(settled(asked(capsys, "check", "labels.csv")))
    assert table.class_names == ["-cat", "it's a dog", "hat"]


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (one_hot("key,cat,dog,hat"), ["--min-confidence", "0.5"], "there is no column of confidences"),
        (one_hot("key,cat,dog,hat"), ["--delimiter", "|"], "there is no column of names"),
        (one_hot("key,cat,dog,hat"), ["--negative", "-2"], "--negative -2: no label says so"),
        (named("|".join, "key,tags"), ["--unknown", "catt"], "--unknown catt: no label says so"),
        (one_hot("key,cat,dog,hat"), ["--split-values", "1=val"], "--split-column NAME says which column"),
        (one_hot("key,cat,dog,hat"), ["--group-column", "patient"], "no such column; expected one of cat, dog, hat"),
        (one_hot("key,cat,dog,hat"), ["--image-column", "path"], "no such column; expected one of key, cat, dog, hat"),
        (long("key,label,score", lambda n: [n, "high" if n == "dog" else 1]), [], "the confidence 'high' is no number"),
        (one_hot("key,cat,dog,hat", yes="maybe"), ["--columns", "cat", "dog"], "cat: maybe"),
        (long("key,label,split", lambda n: [n, "test" if n == "hat" else "train"]), [], "give an image another split"),
        ("key,note\n" + "".join(f"pics/p{i % 8}.png,note {i} of {i + 1}\n" for i in range(900)), ["--columns", "note"],
         "are these texts or ids?"),
        (one_hot("key,cat,dog,hat") + "pics/p0.png,0,1,1\n", [], "keep one line of each image"),
    ],
)  # fmt: skip
def test_options_and_cells_that_cannot_be_meant(folder, capsys, text, options, words):
    (folder / "labels.csv").write_text(text)
    capsys.readouterr()
    status = main(["import", "labels.csv", "--out", "a.csv", *options])
    said = capsys.readouterr()
    assert words in said.out + said.err and status == (0 if words == "cat: maybe" else 2), said
    assert (folder / "a.csv").exists() == (status == 0)
