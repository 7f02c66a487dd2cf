import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import CLOSE

from mlworkbench import Run, Thresholds, WorkbenchError, evaluate, fit, predict, read_labels, tune_thresholds
from mlworkbench.data.demo import CLASSES
from mlworkbench.data.prepare import prepare
from mlworkbench.files import write_json
from mlworkbench.runs import folder as folder_of
from mlworkbench.runs.run import save_inspection

TINY = {"epochs": 1, "image_size": 32, "batch_size": 8, "precision": "fp32"}


def test_the_run_folder_holds_what_the_contract_says(tiny_run):
    files = sorted(str(f.relative_to(tiny_run.folder)) for f in tiny_run.folder.rglob("*") if f.is_file())
    assert [f for f in files if not f.startswith(".")] == [
        "checkpoints/best.safetensors",
        "checkpoints/last.safetensors",
        "checkpoints/previous.pt",
        "checkpoints/resume.pt",
        "history.csv",
        "predictions/test.parquet",
        "predictions/val.parquet",
        "quarantine.csv",
        "run.json",
        "splits.csv",
    ]
    state = json.loads((tiny_run.folder / "run.json").read_text())
    assert state["status"] == "finished" and state["class_names"][0] == "sun"
    assert state["settings"]["epochs"] == 2 and state["settings"]["learning_rate"] == 1e-3
    assert state["precision"]["name"] == "fp32" and state["architecture"]["nc"] == len(CLASSES)
    assert {"torch", "ultralytics", "mlworkbench"} <= set(state["versions"])
    per_class = [f"ap_{name}" for name in tiny_run.class_names]
    columns = ["epoch", "lr", "train_loss", "val_loss", "val_map", *per_class, "seconds"]
    assert tiny_run.history.columns.tolist() == columns
    quarantine = pd.read_csv(tiny_run.folder / "quarantine.csv")
    assert quarantine.columns.tolist() == ["line", "image_path", "reason"]
    assert quarantine.line.tolist() == [73, 74, 75, 76]


def test_a_run_read_back_gives_the_stored_logits(tiny_run):
    again = Run(tiny_run.folder)
    stored = again.predictions("val")
    fresh = again.predict(stored.paths, again.root)
    np.testing.assert_allclose(fresh.logits, stored.logits, **CLOSE)
    assert stored.logits.shape == (17, len(CLASSES)) and (stored.labels >= 0).all()


def test_predictions_of_train_are_made_when_asked_and_aligned(demo_labels, tiny_run, tmp_path):
    table = read_labels(demo_labels)
    run = fit(table, tmp_path / "run", **TINY)
    train = run.predictions("train")
    labels = dict(zip(table.paths, table.y.tolist(), strict=True))
    assert len(train) == 43 and all(
        labels[path] == row.tolist() for path, row in zip(train.paths, train.labels, strict=True)
    )
    with pytest.raises(WorkbenchError, match="split 'dev'"):
        run.predictions("dev")


def test_changed_labels_are_noticed(tmp_path, demo_labels):
    shutil.copytree(demo_labels.parent, tmp_path / "data")
    run = fit(read_labels(tmp_path / "data/labels.csv"), tmp_path / "run", **TINY)
    with (tmp_path / "data/labels.csv").open("a") as file:
        file.write("\n")
    with pytest.raises(WorkbenchError, match="has changed since"):
        run.predictions("train")


def test_the_same_seed_gives_the_same_run(demo_labels, tmp_path):
    table = read_labels(demo_labels)
    one, two = (fit(table, tmp_path / name, **TINY) for name in "ab")
    assert (one.folder / "checkpoints/last.safetensors").read_bytes() == (
        two.folder / "checkpoints/last.safetensors"
    ).read_bytes()
    assert one.history.drop(columns="seconds").equals(two.history.drop(columns="seconds"))


def test_a_folder_that_holds_a_run_is_refused_and_overwritten_when_asked(demo_labels, tmp_path):
    table = read_labels(demo_labels)
    run = fit(table, tmp_path, **TINY)
    run.save_thresholds(Thresholds.default(run.class_names))
    with pytest.raises(WorkbenchError, match="holds a run; choose another folder, --resume"):
        fit(table, tmp_path, **TINY)
    assert fit(table, tmp_path, overwrite=True, **TINY).status == "finished"
    assert not (tmp_path / "thresholds.json").exists()


def test_an_overwrite_that_is_refused_leaves_the_old_run(demo_labels, tmp_path):
    table = read_labels(demo_labels)
    fit(table, tmp_path, **TINY)
    before = (tmp_path / "run.json").read_bytes()
    for wrong in ({"precision": "fp16", "device": "cpu"}, {"model": "absent.pt"}, {"max_quarantine": 0.0}):
        with pytest.raises(WorkbenchError):
            fit(table, tmp_path, overwrite=True, **{**TINY, **wrong})
    assert (tmp_path / "run.json").read_bytes() == before and (tmp_path / "checkpoints/best.safetensors").exists()


def test_while_one_writes_every_other_writer_is_refused(demo_labels, tiny_run, tmp_path):
    shutil.copytree(tiny_run.folder, tmp_path / "run")
    run, other = Run(tmp_path / "run"), "import sys, pathlib, mlworkbench.runs.folder as r\n"
    other += "with r.writing(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", other, run.folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    thresholds = Thresholds.default(run.class_names)
    writers = [
        lambda: fit(read_labels(demo_labels), run.folder, overwrite=True, **TINY),
        lambda: run.save_thresholds(thresholds),
        lambda: run.predictions("train"),
        lambda: run.evaluate("test"),
        lambda: folder_of.move_aside(run.folder),
    ]
    for write in writers:
        with pytest.raises(WorkbenchError, match=f"is being written by process {process.pid} on"):
            write()
    assert len(run.predictions("val")) == 17  # what is there can be read
    process.communicate()


def test_precision_auto_trains_whatever_it_finds_fastest(demo_labels, tmp_path, monkeypatch):
    monkeypatch.setattr("mlworkbench.network.device.WORTH", 0)
    run = fit(read_labels(demo_labels), tmp_path, **{**TINY, "precision": "auto", "epochs": 2})
    assert run.status == "finished" and len(run.state["precision"]["images_per_second"]) == 4


def test_an_image_that_vanished_after_the_check_is_named(tmp_path, demo_labels):
    shutil.copytree(demo_labels.parent, tmp_path / "data")
    run = fit(read_labels(tmp_path / "data/labels.csv"), tmp_path / "run", **TINY)
    splits = pd.read_csv(tmp_path / "run/splits.csv")
    gone = splits.image_path[splits.split == "train"].iloc[0]
    (tmp_path / "data" / gone).unlink()
    with pytest.raises(WorkbenchError, match=f"image '{gone}': missing; has it changed"):
        run.predictions("train")


def test_without_a_score_the_loss_decides_which_epoch_is_best(write_labels, picture, tmp_path):
    given = ["train"] * 4 + ["val", "test"]
    rows = [(f"a{i}", i, [int(i < 2)]) for i in range(6)]
    run = fit(small_table(write_labels, picture, rows, split=given), tmp_path / "run", **{**TINY, "epochs": 3})
    assert run.history.val_map.isna().all()
    assert run.best_epoch.val_loss == run.history.val_loss.min()


def test_a_wrong_setting_or_model_leaves_nothing_behind(demo_labels, tmp_path):
    table = read_labels(demo_labels)
    for wrong in ({"model": "absent.pt"}, {"epoch": 1}, {"device": "warp"}, {"max_quarantine": 0.0}):
        with pytest.raises(WorkbenchError):
            fit(table, tmp_path / "run", **{**TINY, **wrong})
    assert not (tmp_path / "run").exists()


def test_tune_save_evaluate(demo_labels, tmp_path):
    run = fit(read_labels(demo_labels), tmp_path, **TINY)
    run.save_thresholds(tune_thresholds(run.predictions("val")))
    loaded = Run(tmp_path).thresholds()
    assert loaded.split == "val" and loaded.tuned_paths == frozenset(run.predictions("val").paths)
    with pytest.raises(WorkbenchError, match="tuned on 17 of these images"):
        run.evaluate("val")
    scores = run.evaluate("test")
    stored = json.loads((tmp_path / "metrics/test.json").read_text())
    assert {"map", "classes", "f1_micro", "f1_macro", "f1_samples", "exact_match", "undefined", "intervals"} <= set(
        stored
    )
    assert stored["map"] == pytest.approx(scores["map"]) and stored["classes"]["cloud"]["support"] > 0


def test_predict_from_every_source_agrees(tiny_run, demo_labels, picture, tmp_path):
    folder = demo_labels.parent / "images"
    image, bad = predict(tiny_run, folder / "00003.jpg")
    names = tiny_run.class_names
    assert list(image.columns) == ["image_path", *(f"p_{n}" for n in names), *(f"present_{n}" for n in names)]
    assert not bad and image.image_path.tolist() == ["00003.jpg"]
    everything, bad = predict(tiny_run, folder)
    assert len(everything) == 77 and [path for path, _ in bad] == ["empty.jpg", "not_an_image.jpg", "truncated.jpg"]
    from_labels, _ = predict(tiny_run, demo_labels)
    from_glob, _ = predict(tiny_run, str(folder / "0000*.jpg"))
    expected = image.filter(like="p_").to_numpy()
    for frame in (everything, from_labels, from_glob):
        row = frame[frame.image_path.str.endswith("00003.jpg")]
        np.testing.assert_allclose(row.filter(like="p_").to_numpy(), expected, **CLOSE)
    p, present = (everything[[f"{kind}_{n}" for n in names]].to_numpy() for kind in ("p", "present"))
    assert ((p >= np.float32(0.5)) == (present == 1)).all() and (p >= 0).all() and (p <= 1).all()
    with pytest.raises(WorkbenchError, match="names no image"):
        predict(tiny_run, tmp_path / "nothing*.jpg")
    with pytest.raises(WorkbenchError, match="no image to predict"):
        predict(tiny_run, folder / "truncated.jpg")


def test_predicting_decodes_each_image_once(tiny_run, picture, tmp_path, monkeypatch):
    from mlworkbench.data import images

    for i in range(40):
        picture(f"many/{i:02}.png", seed=i)
    (tmp_path / "many" / "07.png").write_bytes(b"no image")
    opened, real = Counter(), images._open
    monkeypatch.setattr(images, "_open", lambda file, **how: opened.update([Path(file.name).name]) or real(file, **how))
    frame, bad = predict(tiny_run, tmp_path / "many")
    assert opened == Counter({f"{i:02}.png": 1 for i in range(40)}) and len(frame) == 39
    assert [path for path, _ in bad] == ["07.png"] and "07.png" not in set(frame.image_path)
    again = tiny_run.predict(frame.image_path, tmp_path / "many")
    np.testing.assert_allclose(frame.filter(like="p_"), again.probabilities, **CLOSE)


def small_table(write_labels, picture, rows, **columns):
    names = [picture(f"{name}.png", seed=seed) for name, seed, _ in rows]
    extra = "".join(f",{column}" for column in columns)
    lines = [
        f'{name},"{labels}"' + "".join(f",{values[i]}" for values in columns.values())
        for i, (name, (_, _, labels)) in enumerate(zip(names, rows, strict=True))
    ]
    return read_labels(write_labels("\n".join([f"image_path,labels{extra}", *lines]) + "\n"))


def test_identical_images_stay_together_and_conflicts_are_told(write_labels, picture):
    rows = [(f"a{i}", i, [1, i % 2]) for i in range(30)] + [("twin", 3, [1, 1]), ("liar", 4, [1, 1])]
    prepared = prepare(small_table(write_labels, picture, rows))
    where = dict(zip(prepared.table.paths, prepared.split, strict=True))
    assert where["twin.png"] == where["a3.png"] and where["liar.png"] == where["a4.png"]
    kinds = dict(prepared.warnings)
    assert "'a3.png', 'twin.png'" in kinds["duplicate"] and "(lines 6, 33)" in kinds["conflict"]


def test_groups_and_copies_are_joined_across_each_other(write_labels, picture):
    # a0 and b0 are the same image; b0 is in a group with c0: all three must stay together.
    rows = [(f"{kind}{i}", i if kind != "c" else 100 + i, [1]) for i in range(20) for kind in "abc"]
    groups = [f"g{i}" if kind != "a" else f"alone{i}" for i in range(20) for kind in "abc"]
    prepared = prepare(small_table(write_labels, picture, rows, group=groups))
    split = prepared.split.reshape(20, 3)
    assert (split == split[:, :1]).all() and len(set(split.ravel())) == 3


def test_rows_without_a_group_are_in_none(write_labels, picture):
    rows = [(f"a{i}", i, [1]) for i in range(20)]
    prepared = prepare(small_table(write_labels, picture, rows, group=[""] * 20))
    assert prepared.split_sizes == {"train": 14, "val": 3, "test": 3}


def test_a_group_that_given_splits_part_is_told(write_labels, picture):
    rows = [(f"a{i}", i, [1]) for i in range(4)]
    table = small_table(write_labels, picture, rows, split=["train", "val", "test", "test"], group=["g", "g", "h", "h"])
    (message,) = [message for kind, message in prepare(table).warnings if kind == "leak"]
    assert message.startswith("one group in several splits: 'a0.png', 'a1.png' (lines 2, 3)")


def test_a_conflict_across_splits_is_a_leak_too(write_labels, picture):
    rows = [("a", 0, [1, 1]), ("b", 0, [1, 0]), ("c", 1, [1, 1])]
    kinds = [
        kind for kind, _ in prepare(small_table(write_labels, picture, rows, split=["train", "val", "test"])).warnings
    ]
    assert "conflict" in kinds and "leak" in kinds


def test_given_splits_are_honoured_and_a_leak_is_told(write_labels, picture):
    rows = [(f"a{i}", i, [1]) for i in range(6)] + [("twin", 0, [1])]
    given = ["train", "train", "val", "val", "test", "test", "test"]
    prepared = prepare(small_table(write_labels, picture, rows, split=given))
    assert list(prepared.split) == given and dict(prepared.warnings)["leak"].startswith("the same image in several")


def test_too_many_bad_images_or_an_empty_split_are_refused(write_labels, picture, tmp_path):
    table = small_table(write_labels, picture, [(f"a{i}", i, [1]) for i in range(4)])
    (tmp_path / "a0.png").unlink()
    with pytest.raises(
        WorkbenchError, match=r"1 of 4 images cannot be used \(line 2, 'a0.png': missing\), more than 20%"
    ):
        prepare(table)
    rows = [(f"a{i}", i, [1]) for i in range(4)]
    held = prepare(small_table(write_labels, picture, rows[1:], split=["train", "train", "test"]))
    assert sorted(held.split) == ["test", "train", "val"] and held.split[2] == "test"  # the missing one is of train
    assert "the file gives no val: 1 of 2 train images are held out for it" in dict(held.warnings)["split"]
    with pytest.raises(WorkbenchError, match="no image has the split 'val' and train has none to spare"):
        prepare(small_table(write_labels, picture, rows[1:3], split=["train", "test"]))
    table = small_table(write_labels, picture, rows, split=["val", "train", "train", "test"])
    (tmp_path / "a0.png").unlink()
    with pytest.raises(WorkbenchError, match="no image is left for the split 'val'"):
        prepare(table, max_quarantine=1.0)


def test_nothing_usable_is_refused_whatever_is_allowed(write_labels, picture, tmp_path):
    table = small_table(write_labels, picture, [("a", 0, [1])])
    (tmp_path / "a.png").unlink()
    with pytest.raises(WorkbenchError, match="1 of 1 images cannot be used"):
        prepare(table, max_quarantine=1.0)
    with pytest.raises(WorkbenchError, match="seed -1"):
        prepare(table, seed=-1)


def test_a_class_without_positives_in_a_split_is_said(write_labels, picture):
    rows = [(f"a{i}", i, [1, 0]) for i in range(3)]
    prepared = prepare(small_table(write_labels, picture, rows, split=["train", "val", "test"]))
    assert next(m for kind, m in prepared.warnings if kind == "no positive").startswith(
        "class 'class_1' has no positive in train"
    )


def test_inspection_is_written_for_the_run(demo_labels, tmp_path):
    prepared = prepare(read_labels(demo_labels))
    folder = save_inspection(prepared, tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    assert (
        summary["rows"] == 81
        and summary["splits"] == prepared.split_sizes
        and len(summary["positives"]["val"]) == len(CLASSES)
    )
    assert fit(read_labels(demo_labels), tmp_path, **TINY).status == "finished" and (folder / "summary.json").exists()


def test_scores_of_the_trained_weights_use_the_best_epoch(demo_labels, tmp_path):
    run = fit(read_labels(demo_labels), tmp_path, **{**TINY, "epochs": 3})
    thresholds = Thresholds.default(run.class_names)
    assert evaluate(run.predictions("val"), thresholds)["map"] == pytest.approx(run.history.val_map.max(), abs=1e-6)
    assert run.best_epoch.val_map == run.history.val_map.max()


def test_a_run_of_another_format_is_refused(tmp_path):
    write_json(tmp_path / "run.json", {"format_version": 99})
    with pytest.raises(WorkbenchError, match="of no version that this package reads"):
        _ = Run(tmp_path).class_names


def test_sources_are_never_written(demo_labels, tiny_run, tmp_path):
    stamps = {f: f.stat().st_mtime_ns for f in demo_labels.parent.rglob("*")}
    predict(tiny_run, demo_labels)
    fit(read_labels(demo_labels), tmp_path, **TINY).evaluate("test")
    assert stamps == {f: f.stat().st_mtime_ns for f in demo_labels.parent.rglob("*")}


def test_paths_that_a_spreadsheet_would_run_are_marked_in_the_run_folder_and_read_back(write_labels, picture, tmp_path):
    names = [picture(f"{start}{i}.png", seed=i) for i, start in enumerate("=+-@==ab")]
    splits = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    rows = "".join(
        f'"{name}","[1, {i % 2}]",{split}\n' for i, (name, split) in enumerate(zip(names, splits, strict=True))
    )
    (tmp_path / "=broken.png").write_text("no image")
    table = read_labels(write_labels("image_path,labels,split\n" + rows + '"=broken.png","[0, 0]",train\n'))
    run = fit(table, tmp_path / "run", **TINY)
    for name in ("splits.csv", "quarantine.csv"):
        cells = (tmp_path / "run" / name).read_text().replace('"', "").replace("\n", ",").split(",")
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells) and any("./=" in cell for cell in cells)
    assert list(run.predictions("train").paths) == names[:4]
    run.save_thresholds(tune_thresholds(run.predictions("val")))
    assert run.thresholds().tuned_paths == set(names[4:6])


def test_a_class_name_with_a_carriage_return_comes_back_from_the_history(write_labels, picture, tmp_path):
    names = [picture(f"{i}.png", seed=i) for i in range(6)]
    splits = ["train"] * 4 + ["val", "test"]
    rows = "".join(f"{name},1,0,{split}\n" for name, split in zip(names, splits, strict=True))
    table = read_labels(write_labels('image_path,"a\rb","c,""d",split\n' + rows))
    run = fit(table, tmp_path / "run", **TINY)
    assert [c for c in run.history.columns if c.startswith("ap_")] == ["ap_a\rb", 'ap_c,"d']


def test_a_run_knows_which_images_belong_together(write_labels, picture, tmp_path):
    splits = ["train"] * 4 + ["val"] * 3 + ["test"] * 2
    rows = [(f"a{i}", 0 if i == 5 else i, [i % 2]) for i in range(9)]  # a5 looks as a0 does
    rows[5] = ("a5", 4, [1])  # … as a4 does
    shoot = ["", "", "", "", "s", "", "s", "t", "t"]
    run = fit(small_table(write_labels, picture, rows, split=splits, group=shoot), tmp_path / "run", **TINY)
    groups = run.predictions("val").groups
    assert groups[0] == groups[1] == groups[2]
    assert len(set(run.predictions("test").groups)) == 1
    assert len(set(run.groups().values())) == 6
    first = (tmp_path / "run/splits.csv").read_text().splitlines()[0]
    assert first == "image_path,split,group"
