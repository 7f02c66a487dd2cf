import contextlib
import csv
import json
import os

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlworkbench import LabelTable, WorkbenchError, read_labels
from mlworkbench.data.labels import save_labels
from mlworkbench.exceptions import LabelFaults
from mlworkbench.text import mark_text


def faults_of(file, **options):
    with pytest.raises(LabelFaults) as caught:
        read_labels(file, **options)
    return caught.value.faults


def test_list_column_with_and_without_header(write_labels):
    with_header = read_labels(write_labels('image_path,labels\na.jpg,"[0, 1, 1]"\nb/c.jpg,"[1, 0, 0]"\n'))
    without = read_labels(write_labels('a.jpg,"[0, 1, 1]"\nb/c.jpg,"[1, 0, 0]"\n'))
    for table in (with_header, without):
        assert list(table.paths) == ["a.jpg", "b/c.jpg"]
        assert table.y.tolist() == [[0, 1, 1], [1, 0, 0]] and table.y.dtype == np.int8
        assert table.class_names == ["class_0", "class_1", "class_2"]
    assert with_header.lines.tolist() == [2, 3] and without.lines.tolist() == [1, 2]


@pytest.mark.parametrize("name", ["image", "path", "file", "filename", "file_name"])
def test_other_names_of_the_path_column(write_labels, name):
    assert list(read_labels(write_labels(f'labels,{name}\n"[1, 0]",a.jpg\n')).paths) == ["a.jpg"]


def test_byte_order_mark_crlf_and_unknown_labels(write_labels):
    table = read_labels(
        write_labels('\ufeffimage_path,labels\r\na.jpg,"[0, -1, null]"\r\nb.jpg,"[true, 0.0, 1.0]"\r\n')
    )
    assert table.y.tolist() == [[0, -1, -1], [1, 0, 1]]


def test_class_names_from_classes_txt_and_from_a_file(write_labels, tmp_path):
    names = ["N/A", "<script>alert(1)</script>"]
    (tmp_path / "classes.txt").write_text("\n".join(names) + "\n")
    file = write_labels([("a.jpg", [0, 1])])
    assert read_labels(file).class_names == names
    (tmp_path / "other.txt").write_text("null\n=1+1\n")
    assert read_labels(file, classes=tmp_path / "other.txt").class_names == ["null", "=1+1"]


def test_split_and_group_columns(write_labels):
    table = read_labels(write_labels('image_path,labels,split,group\na,"[1]",train,g1\nb,"[0]",test,g1\n'))
    assert list(table.split) == ["train", "test"] and list(table.group) == ["g1", "g1"]


def test_splits_file_overrides(write_labels, tmp_path):
    file = write_labels('image_path,labels,split\na,"[1]",train\nb,"[0]",test\n')
    (tmp_path / "splits.csv").write_text("image_path,split\nb,val\na,test\n")
    assert list(read_labels(file, splits=tmp_path / "splits.csv").split) == ["test", "val"]
    (tmp_path / "short.csv").write_text("image_path,split\nb,val\n")
    assert "'a'" in faults_of(file, splits=tmp_path / "short.csv")[0][1]


def test_every_fault_at_once_with_its_physical_line(write_labels):
    file = write_labels(
        "image_path,labels\n"
        'a.jpg,"[0, 1]"\n'
        'b.jpg,"[0,\n 1]"\n'  # a newline inside the quotes: the next row begins on line 5
        'c.jpg,"[0, 1, 1]"\n'
        'd.jpg,"[0, 2]"\n'
        "e.jpg,\"__import__('os')\"\n"
        "f.jpg,[0, 1\n"
        'a.jpg,"[1, 1]"\n'
        ',"[1, 1]"\n'
    )
    faults = dict(faults_of(file))
    assert sorted(faults) == [5, 6, 7, 8, 9, 10]
    assert "3 labels; expected 2" in faults[5]
    assert "'2' in place 2 is no label" in faults[6]
    assert "no list of labels" in faults[7]
    assert "line 2" in faults[9]
    assert "empty image path" in faults[10]


def test_the_text_names_file_and_line_and_counts_the_rest(write_labels, tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    rows = [(f"{i}.jpg", [0]) for i in range(60)] + [(f"{i}.png", [0, 1, i]) for i in range(2, 62)]
    file = write_labels([(f"{i}.gif", [0, 1]) for i in range(130)] + rows)
    with pytest.raises(LabelFaults) as caught:
        read_labels(file)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"120 faults in {file}" and len(caught.value.faults) == 120
    assert lines[1] == f"{file}:132: 1 labels; expected 2, one for each class (in 60 rows)"  # one cause, one line
    assert lines[2] == f"{file}:192: '2' in place 3 is no label; expected 0, 1 or -1 (unknown)"
    assert lines[-1] == "… and 11 more" and len(lines) == 52


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("", 1, "empty"),
        ("image_path,labels\n", 1, "no rows"),
        ('image_path,labels,labels\na,"[1]","[1]"\n', 1, "more than once"),
        ("image_path,split\na,train\n", 1, "no column of labels"),
        ("name,labels\na,1\n", 1, "no column of image paths among 'name, labels'"),
        ("[\n", 1, "neither a header nor a row"),
        ('{"images": [], "annotations": []}\n', 1, "no column of image paths"),
        ("image_path,cat,\na,1,0\n", 1, "column 3 has no name"),
        ("image_path,cat\na,1,0\n", 2, "3 cells; expected 2"),
        ("image_path,cat\na,1\nb,0\nc,maybe\n", 4, "'maybe' in column 'cat' is no label"),
        ('["a", [0, 1]]\n["b", [0, 1], 2]\n', 2, "3 cells; expected 2"),
        ('{"image_path": "a", "labels": [0]}\n{"image_path": "b", "lables": [0]}\n', 2, "key 'lables'"),
        ('{"image_path": 5, "labels": [0]}\n', 1, "'5' is no path"),
        ('["\\ud800.jpg", [0]]\n', 1, "is no path"),
        ('{"image_path": "a", "\\ud800": 0}\n', 1, "a column name is not UTF-8"),
        ('{"image_path": "a", "tags": ["\\ud800"]}\n', 1, "is no list of tags"),
        ('a.jpg,"[0, 1]"\nb.jpg,"[0, 1\n', 2, "quotes"),
        ('image_path,labels,split\na,"[1]",spare\n', 2, "'spare'"),
    ],
)
def test_faults_of_the_whole_file(write_labels, text, line, part):
    (found_line, message), *_ = faults_of(write_labels(text))
    assert found_line == line and part in message


def test_not_utf8_and_missing(tmp_path):
    (tmp_path / "latin.csv").write_bytes('a.jpg,"[1]"\né.jpg,"[1]"\n'.encode("latin-1"))
    with pytest.raises(
        WorkbenchError, match="line 2 is not UTF-8 text; save the file in UTF-8 .*or have it read as Win"
    ):
        read_labels(tmp_path / "latin.csv")
    with pytest.raises(WorkbenchError, match="No such file"):
        read_labels(tmp_path / "absent.csv")


def test_faults_in_class_names(write_labels, tmp_path):
    file = write_labels([("a.jpg", [0, 1])])
    (tmp_path / "classes.txt").write_text("cat\ncat\n")
    assert faults_of(file) == [(2, "class 'cat' stands more than once")]
    (tmp_path / "classes.txt").write_text("cat\ndog\nhat\n")
    what = f"lists of 2 labels, but {tmp_path / 'classes.txt'} has 3 names ('cat, dog, hat'); move that file away, or"
    assert faults_of(file) == [(2, f"{what} give the right one with --classes FILE")]


NAMES = ["cat", "N/A", "null", "<script>", "=1+1", "$x$", "true", "a,b", "'quoted"]


def rows_of_200(unknown):
    rng = np.random.default_rng(0)
    y = (rng.random((200, len(NAMES))) < 0.3).astype(int)
    y[:5] = 0
    if unknown:
        y[rng.random(y.shape) < 0.1] = -1
    return [f"a/{i:03d}.jpg" for i in range(195)] + ["=1.jpg", "@b.jpg", "-c.jpg", "+d.jpg", "ü, é.jpg"], y


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


def as_lines(header, rows, delimiter=","):
    return "\n".join([*([delimiter.join(header)] if header else []), *(delimiter.join(row) for row in rows)]) + "\n"


def by_form(form, paths, y):
    words = {1: "True", 0: "False"}
    cells = [[quoted(path), row] for path, row in zip(paths, y.tolist(), strict=True)]
    texts = {
        "list": lambda row: quoted(str(row)),
        "numpy": lambda row: quoted("[" + " ".join(map(str, row)) + "]"),
        "numpy floats": lambda row: quoted("[" + " ".join(f"{v}." for v in row) + "]"),
        "words": lambda row: quoted(str([words[v] for v in row]).replace("'", "")),
        "floats": lambda row: quoted(str([float(v) for v in row])),
        "unquoted": str,
    }
    if form in texts:
        return as_lines(("image_path", "labels"), [(path, texts[form](row)) for path, row in cells])
    if form == "no header":
        return as_lines(None, [(path, quoted(str(row))) for path, row in cells])
    if form == "unquoted, no header":
        return as_lines(None, [(path, str(row)) for path, row in cells])
    if form == "tabs":
        return as_lines(("image_path", "labels"), [(path, str(row)) for path, row in cells], "\t")
    if form == "semicolons":
        return as_lines(("image_path", "labels"), [(path, str(row)) for path, row in cells], ";")
    if form == "json arrays":
        return "".join(json.dumps([path, row]) + "\n" for path, row in zip(paths, y.tolist(), strict=True))
    if form == "json objects":
        records = [{"image_path": path, "labels": row} for path, row in zip(paths, y.tolist(), strict=True)]
        return "".join(json.dumps(record) + "\n" for record in records)
    marked = [mark_text(name) for name in NAMES]
    if form == "columns":
        header = ("image_path", *map(quoted, marked))
        return as_lines(header, [(path, *map(str, row)) for path, row in cells])
    if form == "columns with pandas' row numbers, words and a byte order mark":
        header = ("", *map(quoted, marked), "filename")
        rows = [(str(i), *(words[v] for v in row), path) for i, (path, row) in enumerate(cells)]
        return "\ufeff" + as_lines(header, rows)
    assert form == "tags"
    tags = ["|".join(name for name, v in zip(marked, row, strict=True) if v) or "|" for _, row in cells]
    return as_lines(("image_path", "tags"), [(path, quoted(tag)) for (path, _), tag in zip(cells, tags, strict=True)])


LISTS = [
    "list",
    "numpy",
    "numpy floats",
    "floats",
    "unquoted",
    "no header",
    "unquoted, no header",
    "tabs",
    "semicolons",
]
FORMS = [(form, unknown) for form in [*LISTS, "json arrays", "json objects", "columns"] for unknown in (False, True)]
FORMS += [("words", False), ("tags", False), ("columns with pandas' row numbers, words and a byte order mark", False)]


@pytest.mark.parametrize(("form", "unknown"), FORMS)
@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl", "labels.txt"])
def test_every_form_reads_to_the_same_table(write_labels, tmp_path, form, unknown, name):
    paths, y = rows_of_200(unknown)
    (tmp_path / "classes.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    table = read_labels(write_labels(by_form(form, paths, y), name))
    assert list(table.paths) == paths and table.class_names == NAMES
    assert (table.y == y).all() and {kind for kind, _ in table.notes} <= {"blank"}


@pytest.mark.parametrize("kind", ["lists", "columns", "tags"])
def test_parquet_reads_to_the_same_table(tmp_path, kind):
    paths, y = rows_of_200(unknown=kind != "tags")
    (tmp_path / "classes.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    if kind == "columns":
        masked = {name: [None if v < 0 else bool(v) for v in y[:, c]] for c, name in enumerate(NAMES)}
        frame = pyarrow.table({"image_path": paths} | {mark_text(n): column for n, column in masked.items()})
    elif kind == "tags":
        tags = [[name for name, v in zip(NAMES, row, strict=True) if v] for row in y]
        frame = pyarrow.table({"image_path": paths, "tags": [[mark_text(tag) for tag in row] for row in tags]})
    else:
        frame = pyarrow.table({"image_path": paths, "labels": y.tolist()})
    pyarrow.parquet.write_table(frame, tmp_path / "labels.csv")  # the content tells, not the ending
    table = read_labels(tmp_path / "labels.csv")
    assert list(table.paths) == paths and table.class_names == NAMES and (table.y == y).all()
    whole = (tmp_path / "labels.csv").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WorkbenchError, match="damaged Parquet"):
        read_labels(tmp_path / "cut.parquet")


def test_a_parquet_file_of_endless_rows_is_refused_by_its_own_count(tmp_path, monkeypatch):
    pyarrow.parquet.write_table(
        pyarrow.table({"image_path": ["a"] * 100, "labels": [[1]] * 100}), tmp_path / "l.parquet"
    )
    monkeypatch.setattr("mlworkbench.tables.rows.MAX_ROWS", 99)
    with pytest.raises(WorkbenchError, match="100 rows, over the limit of 99"):
        read_labels(tmp_path / "l.parquet")


def test_tags_find_their_delimiter_and_their_classes(write_labels):
    table = read_labels(write_labels("file,tags\na,dog; hat\nb,cat;\nc,;\nd,\n"))
    assert table.class_names == ["cat", "dog", "hat"] and table.tag_delimiter == ";"
    assert table.y.tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0], [-1, -1, -1]]
    given = read_labels(write_labels("file,tags\na,x;y/z\n"), tag_delimiter="/")
    assert given.class_names == ["x;y", "z"]


def test_a_tag_that_is_no_class_is_a_fault(write_labels, tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert "'hat' is no class" in faults_of(write_labels("file,tags\na,cat|hat\n"))[0][1]


def test_classes_may_reorder_the_columns_of_a_header_but_not_rename_them(write_labels, tmp_path):
    file = write_labels("image_path,cat,dog\na,1,0\n")
    (tmp_path / "order.txt").write_text("dog\ncat\n")
    table = read_labels(file, classes=tmp_path / "order.txt")
    assert table.class_names == ["dog", "cat"] and table.y.tolist() == [[0, 1]]
    (tmp_path / "other.txt").write_text("dog\nhat\n")
    with pytest.raises(WorkbenchError, match="class 'hat' stands in only one of"):
        read_labels(file, classes=tmp_path / "other.txt")


def test_the_length_that_most_rows_have_is_taken_for_right(write_labels):
    file = write_labels([("a.jpg", [0]), ("b.jpg", [0, 1]), ("c.jpg", [1, 1])])
    assert faults_of(file) == [(2, "1 labels; expected 2, one for each class")]


def test_repeated_rows_are_read_once_and_noted(write_labels):
    table = read_labels(write_labels([("a.jpg", [0, 1]), ("a.jpg", [0, 1]), ("b.jpg", [1, 1])]))
    assert list(table.paths) == ["a.jpg", "b.jpg"] and table.lines.tolist() == [2, 4]
    assert table.notes == (("repeated", "rows that repeat another one are read once: line 3 and 0 more"),)


def test_a_quote_that_is_never_closed_is_a_fault_of_its_own_line(write_labels):
    file = write_labels('image_path,labels\na.jpg,"[0, 1]"\nb.jpg,"[0, 1]\nc.jpg,"[0, 7]"\nd.jpg,"[1, 1]"\n')
    assert [line for line, _ in faults_of(file)] == [3, 4]


def test_a_pipe_or_a_folder_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(WorkbenchError, match="no regular file"):
        read_labels(tmp_path / "pipe.csv")
    with pytest.raises(WorkbenchError, match=f"is a folder .*mlworkbench import {tmp_path} --out"):
        read_labels(tmp_path)
    (tmp_path / "labels.csv").touch()
    with pytest.raises(WorkbenchError, match=f"the one in it is {tmp_path}/labels.csv"):
        read_labels(tmp_path)


@pytest.mark.parametrize("cell", ["__import__('os').system('touch executed')", "[" * 100_000, "9" * 5000, "[1e999]"])
def test_cells_are_data_and_never_code(write_labels, tmp_path, monkeypatch, cell):
    monkeypatch.chdir(tmp_path)
    file = write_labels(f'image_path,labels\na.jpg,{quoted(cell)}\nb.jpg,"[0]"\nc.jpg,"[1]"\n')
    assert [line for line, _ in faults_of(file)] == [2] and not (tmp_path / "executed").exists()


one_line = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), min_size=1)
class_name = one_line.filter(lambda name: name.strip() and not name.startswith("\ufeff"))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_is_written_is_read_again(tmp_path_factory, data):
    names = data.draw(st.lists(class_name, min_size=1, max_size=4, unique=True))
    text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
    paths = data.draw(st.lists(text, min_size=1, max_size=6, unique=True))
    shape = (len(paths), len(names))
    y = np.array(
        data.draw(st.lists(st.sampled_from([0, 1, -1]), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    )
    split = data.draw(
        st.none() | st.lists(st.sampled_from(["train", "val", "test"]), min_size=shape[0], max_size=shape[0])
    )
    folder = tmp_path_factory.mktemp("round")
    before = LabelTable(
        np.array(paths, object), names, y.reshape(shape).astype(np.int8), np.arange(shape[0]), folder, folder, "",
        split=None if split is None else np.array(split, object),
    )  # fmt: skip
    for file, content in save_labels(before, folder / "labels.csv").items():
        file.write_bytes(content)
    after = read_labels(folder / "labels.csv")
    assert list(after.paths) == paths and after.class_names == names and (after.y == before.y).all()
    assert (after.split is None) == (split is None) and (split is None or list(after.split) == split)
    cells = [cell for row in csv.reader((folder / "labels.csv").open(newline="")) for cell in row]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.text(alphabet='ab,"[]{}:01 \n\t|.jpg', max_size=200).map(str.encode))
def test_arbitrary_bytes_give_a_table_or_an_error_of_ours(tmp_path_factory, data):
    file = tmp_path_factory.getbasetemp() / "arbitrary.csv"
    for start in (b"", b"image_path,labels\n", b"image_path,tags\n", b"PAR1"):
        file.write_bytes(start + data)
        with contextlib.suppress(WorkbenchError):
            assert isinstance(read_labels(file), LabelTable)


def test_other_columns_beside_a_list_are_kept_row_by_row(write_labels):
    rows = 'camera,image_path,night,labels\nx,a.jpg,1,"[0, 1]"\n,b.jpg,2.5,"[1, 1]"\n\n'
    rows += 'x,c.jpg,1,[0, 1]\nx,a.jpg,1,"[0, 1]"\n'  # a list without quotes, and a row that repeats another
    table = read_labels(write_labels(rows))
    assert {name: values.tolist() for name, values in table.extra.items()} == {
        "camera": ["x", "", "x"],
        "night": ["1", "2.5", "1"],
    }
    assert table.take(np.array([2, 1])).extra["night"].tolist() == ["1", "2.5"] and len(table) == 3
    lines = '{"image_path": "a.jpg", "labels": [0], "site": null}\n{"image_path": "b.jpg", "labels": [1], "site": 7}\n'
    assert read_labels(write_labels(lines, "labels.jsonl")).extra["site"].tolist() == ["", "7"]
    assert read_labels(write_labels("image_path,cat,dog\na.jpg,0,1\n")).extra == {}  # every column is a class there
