import numpy as np
import pytest

from mlworkbench import WorkbenchError, read_labels
from mlworkbench.exceptions import LabelFaults


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
        "f.jpg,[0, 1]\n"
        'a.jpg,"[1, 1]"\n'
        ',"[1, 1]"\n'
    )
    faults = dict(faults_of(file))
    assert sorted(faults) == [5, 6, 7, 8, 9, 10]
    assert "3 labels; expected 2" in faults[5]
    assert "'2' is no label" in faults[6]
    assert "no list of labels" in faults[7]
    assert "line 2" in faults[9]
    assert "empty image path" in faults[10]


def test_the_text_names_file_and_line_and_counts_the_rest(write_labels):
    file = write_labels([("a.jpg", [0, 1])] + [(f"{i}.jpg", [0]) for i in range(60)])
    with pytest.raises(LabelFaults) as caught:
        read_labels(file)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"60 faults in {file}"
    assert lines[1] == f"{file}:3: 1 labels; expected 2, one for each class"
    assert lines[-1] == "… and 10 more" and len(lines) == 52


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("", 1, "empty"),
        ("image_path,labels\n", 1, "no rows"),
        ('image_path,labels,labels\na,"[1]","[1]"\n', 1, "more than once"),
        ("image_path,cat\na,1\n", 1, "no column 'labels'"),
        ('a.jpg,"[0, 1]"\nb.jpg,"[0, 1\n', 2, "quotes"),
        ('image_path,labels,split\na,"[1]",dev\n', 2, "'dev'"),
    ],
)
def test_faults_of_the_whole_file(write_labels, text, line, part):
    (found_line, message), *_ = faults_of(write_labels(text))
    assert found_line == line and part in message


def test_not_utf8_and_missing(tmp_path):
    (tmp_path / "latin.csv").write_bytes('a.jpg,"[1]"\né.jpg,"[1]"\n'.encode("latin-1"))
    assert faults_of(tmp_path / "latin.csv") == [(2, "not UTF-8 text; save the file as CSV in UTF-8")]
    with pytest.raises(WorkbenchError, match="No such file"):
        read_labels(tmp_path / "absent.csv")


def test_faults_in_class_names(write_labels, tmp_path):
    file = write_labels([("a.jpg", [0, 1])])
    (tmp_path / "classes.txt").write_text("cat\ncat\n")
    assert faults_of(file) == [(2, "class 'cat' stands twice")]
    (tmp_path / "classes.txt").write_text("cat\ndog\nhat\n")
    assert faults_of(file) == [(2, "2 labels; expected 3, one for each class")]
