import csv
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlworkbench import Run, WorkbenchError, fit, read_labels
from mlworkbench.cli import main
from mlworkbench.data.corrections import Correction, correct, read_corrections, record, withdraw
from mlworkbench.files import write_json


@pytest.fixture
def table(write_labels):
    (write_labels([]).parent / "classes.txt").write_text("cat\n=dog\n")
    return read_labels(write_labels([("a.jpg", [1, 0]), ("=b.jpg", [0, -1]), ("c.jpg", [1, 1])]))


def test_only_wrong_labels_change_and_nothing_that_no_longer_agrees(table):
    marks = [
        Correction("a.jpg", "cat", 1, 0, "wrong"),
        Correction("a.jpg", "=dog", 0, 0, "right"),
        Correction("=b.jpg", "=dog", -1, 1, "wrong"),
        Correction("=b.jpg", "cat", 0, 0, "unsure"),
        Correction("c.jpg", "cat", 0, 1, "wrong"),  # the file has been changed to 1 since
        Correction("d.jpg", "cat", 0, 1, "wrong"),
        Correction("c.jpg", "cow", 0, 1, "wrong"),
    ]
    found = correct(table, marks)
    assert found.y.tolist() == [[0, 0], [0, 1], [1, 1]] and table.y.tolist() == [[1, 0], [0, -1], [1, 1]]
    assert found.changed == (("a.jpg", "cat", 1, 0), ("=b.jpg", "=dog", -1, 1))
    *stale, applied = found.notes
    assert applied == ("corrected", "2 labels are as the corrections have them")
    reasons = ["the label is 1 by now", "no such image in", "no such class in"]
    assert len(stale) == 3 and all(r in message for r, (_, message) in zip(reasons, stale, strict=True))
    assert correct(table, marks[1:2]).notes == ()


names = st.text(st.characters(exclude_categories=("Cs",)) | st.sampled_from("=+./'\",;\n"), min_size=1, max_size=8)
labels = st.sampled_from([(1, 0, "wrong"), (0, 1, "wrong"), (1, 1, "right"), (-1, -1, "unsure"), (-1, 0, "wrong")])
marks = st.builds(
    lambda path, name, rest: Correction(path, name, *rest),
    st.just("a.jpg") | names,
    st.sampled_from(["cat", "=1", "'='"]),
    labels,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(marks, st.booleans()), max_size=6))
def test_the_file_always_holds_the_last_mark_of_each_label(tmp_path_factory, steps):
    file, expected = tmp_path_factory.mktemp("marks") / "corrections.csv", {}
    for mark, undone in steps:
        key = mark.image_path, mark.class_name
        assert record(file, mark) == expected.get(key)
        before, expected[key] = expected.pop(key, None), mark
        if undone:
            assert withdraw(file, *key) == mark
            del expected[key]
            if before is not None:
                record(file, before)
                expected[key] = before
        assert read_corrections(file) == list(expected.values())


def test_what_is_written_is_safe_in_a_spreadsheet(tmp_path):
    file = tmp_path / "new" / "corrections.csv"
    record(file, Correction("=b.jpg", "+1", 1, 0, "wrong"))
    rows = list(csv.reader(file.open()))
    assert rows == [["image_path", "class", "old", "new", "mark"], ["./=b.jpg", "'+1", "1", "0", "wrong"]]
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))  # saved again by one
    assert read_corrections(file) == [Correction("=b.jpg", "+1", 1, 0, "wrong")]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "expected the header image_path,class,old,new,mark"),
        ("image_path,class,old,new\n", 1, "expected the header"),
        ("H\na,cat,1,0\n", 2, "4 cells; expected 5"),
        ("H\na,cat,1,0,wrong\n\nb,cat,2,0,wrong\n", 4, "'2' is no label; expected 0, 1 or -1"),
        ("H\na,cat,1,x,wrong\n", 2, "'x' is no label"),
        ("H\na,cat,1,0,bad\n", 2, "mark 'bad'; expected one of wrong, right, unsure"),
        ("H\na,cat,1,1,wrong\n", 2, "mark 'wrong' with the labels 1 and 1"),
        ("H\na,cat,1,0,right\n", 2, "mark 'right' with the labels 1 and 0"),
        ("H\n,cat,1,1,right\n", 2, "no image path or no class"),
        ("H\na,cat,1,1,right\na,cat,1,0,wrong\n", 3, "'a', class 'cat' stands on line 2 too"),
        ('H\n"a,cat,1,1,right\n', 2, "quote"),
    ],
)
def test_faults_name_file_and_line(tmp_path, text, line, message):
    file = tmp_path / "corrections.csv"
    file.write_text(text.replace("H", "image_path,class,old,new,mark"))
    with pytest.raises(WorkbenchError, match=f"corrections.csv:{line}: ") as caught:
        read_corrections(file)
    assert message in str(caught.value)
    with pytest.raises(WorkbenchError):  # and a mark is not written over what cannot be read
        record(file, Correction("z", "cat", 1, 0, "wrong"))
    assert "z" not in file.read_text()


def test_a_missing_file_is_an_error_in_one_line(tmp_path):
    with pytest.raises(WorkbenchError, match="corrections file .*absent.csv: No such file"):
        read_corrections(tmp_path / "absent.csv")


MARKING = """
import sys
from mlworkbench.data.corrections import Correction, record
for i in range(int(sys.argv[2])):
    record(sys.argv[1], Correction(f"{i}{sys.argv[3]}", "cat", 1, 0, "wrong"))
    print(i, flush=True)
"""


def marking(file, times, name):
    command = [sys.executable, "-c", MARKING, file, str(times), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_kill_in_the_middle_keeps_every_mark_that_was_told(tmp_path):
    file = tmp_path / "corrections.csv"
    process, told = marking(file, 10_000, ".jpg"), 0
    while told < 60:
        told = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    told = max([told, *map(int, process.stdout.read().split())])
    process.wait()
    kept = [int(mark.image_path[:-4]) for mark in read_corrections(file)]
    assert kept == list(range(len(kept))) and told + 1 <= len(kept) <= told + 2
    record(file, Correction("last.jpg", "cat", 1, 0, "wrong"))  # the lock went with the process
    assert len(read_corrections(file)) == len(kept) + 1


def test_a_mark_that_cannot_be_written_leaves_the_others(tmp_path, monkeypatch):
    file = tmp_path / "corrections.csv"
    record(file, Correction("a.jpg", "cat", 1, 0, "wrong"))
    with monkeypatch.context() as patch:
        patch.setattr("mlworkbench.runs.folder.os.fsync", lambda _: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space left"):
            record(file, Correction("b.jpg", "cat", 1, 0, "wrong"))
    assert read_corrections(file) == [Correction("a.jpg", "cat", 1, 0, "wrong")]
    assert sorted(f.name for f in tmp_path.iterdir()) in ([".corrections.csv.lock", file.name], [file.name])


def test_of_two_writers_neither_loses_the_others_marks(tmp_path):
    file = tmp_path / "corrections.csv"
    for writer in [marking(file, 40, name) for name in "ab"]:
        writer.communicate()
    assert len(read_corrections(file)) == 80


@pytest.fixture(scope="module")
def mended(demo_labels, tmp_path_factory):
    """A tiny run by the command line with three corrections, one of them stale: (run, its corrections file)."""
    folder, table = tmp_path_factory.mktemp("mended"), read_labels(demo_labels)
    file = folder / "corrections.csv"
    for row in (0, 1, 2):
        label = int(table.y[row, 3])
        old, new = (label, 1 - label) if row else (1 - label, label)
        record(file, Correction(table.paths[row], table.class_names[3], old, new, "wrong"))
    before = demo_labels.read_bytes()
    arguments = ["--route", "probe", "--imgsz", "32", "--batch", "8", "--corrections", str(file)]
    assert main(["train", str(demo_labels), "--run", str(folder / "run"), *arguments]) == 0
    assert demo_labels.read_bytes() == before
    return Run(folder / "run"), file


def test_a_run_keeps_its_corrections_and_trains_scores_and_reads_by_them(mended, demo_labels):
    run, _ = mended
    plain, table = read_labels(demo_labels), run.table()
    changed = plain.y != table.y
    assert np.argwhere(changed).tolist() == [[1, 3], [2, 3]] and (table.y[changed] == 1 - plain.y[changed]).all()
    assert [(c.image_path, c.class_name) for c in run.corrections] == [(plain.paths[r], "cup") for r in (1, 2)]
    truth = dict(zip(table.paths, table.y.tolist(), strict=True))
    for split in ("train", "val", "test", "train_out_of_fold"):
        found = run.predictions(split)
        assert all(truth[p] == y.tolist() for p, y in zip(found.paths, found.labels, strict=True))


def test_a_corrections_file_may_grow_and_the_run_stays_what_it_was(mended, demo_labels, tmp_path, capsys):
    run, file = mended
    grown = tmp_path / "grown.csv"
    grown.write_bytes(file.read_bytes())
    test = run.predictions("test")
    for path, y in zip(test.paths, test.labels, strict=True):
        if path not in [c.image_path for c in run.corrections]:
            record(grown, Correction(path, "cloud", int(y[1]), 1 - int(y[1]), "wrong"))
    own = run.evaluate()
    against = run.evaluate("test", read_corrections(grown))
    flipped = [path not in [c.image_path for c in run.corrections] for path in test.paths]
    assert against["classes"]["cloud"]["support"] == np.where(flipped, 1 - test.labels[:, 1], test.labels[:, 1]).sum()
    assert against["classes"]["cloud"]["support"] != own["classes"]["cloud"]["support"]
    assert against["classes"]["anchor"]["ap"] == pytest.approx(own["classes"]["anchor"]["ap"], nan_ok=True)
    kept = (run.folder / "metrics/test.json").read_bytes()
    assert main(["evaluate", str(run.folder), "--corrections", str(grown)]) == 0
    assert f"test mAP {against['map']:.4f}" in capsys.readouterr().out
    assert (run.folder / "metrics/test.json").read_bytes() == kept
    assert main(["evaluate", str(run.folder), "--corrections", str(grown), "--json", str(grown)]) == 2


def test_resuming_goes_on_with_the_runs_own_corrections_and_refuses_others(mended, tiny_run, demo_labels, tmp_path):
    run, file = mended
    plain = read_labels(demo_labels)
    assert fit(plain, run.folder, resume=True).status == "finished"
    assert fit(correct(plain, read_corrections(file)), run.folder, resume=True).status == "finished"
    other = correct(plain, read_corrections(file)[1:2])
    with pytest.raises(WorkbenchError, match="the corrections are not those that"):
        fit(other, run.folder, resume=True)
    with pytest.raises(WorkbenchError, match="the corrections are not those that"):
        fit(other, tiny_run.folder, resume=True)
    older = {name: value for name, value in tiny_run.state.items() if name != "corrections"}
    write_json(tmp_path / "run.json", older)
    assert Run(tmp_path).corrections == []


def test_check_and_notebook_02_take_them_too(mended, demo_labels, capsys):
    from mlworkbench.notebooks import open_labels

    _, file = mended
    assert main(["check", str(demo_labels), "--corrections", str(file)]) == 0
    out = capsys.readouterr().out
    assert "correction  not applied: 'images/00000.jpg', class 'cup'" in out and "2 labels are as the corr" in out
    assert len(open_labels(demo_labels, corrections=file).changed) == 2
