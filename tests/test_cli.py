import csv
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT

from mlworkbench import Predictions, Run, calibrate
from mlworkbench.cli import main
from mlworkbench.data.demo import CLASSES
from mlworkbench.decisions.tuning import DRAWN
from mlworkbench.exceptions import Interrupted
from mlworkbench.files import write_json
from mlworkbench.runs.folder import FORMAT_VERSION


@pytest.fixture(scope="module")
def cli_run(demo_labels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    options = ["--epochs", "1", "--imgsz", "32", "--batch", "8", "--precision", "fp32", "--flip", "--seed", "3"]
    assert main(["train", str(demo_labels), "--run", str(folder), *options]) == 0
    return folder


def refused(capsys, *arguments, status=2):
    capsys.readouterr()  # what was said before is not about this
    assert main([str(argument) for argument in arguments]) == status
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err and captured.err.startswith("error: ")
    return captured.err


def test_the_whole_path(cli_run, demo_labels, tmp_path, capsys):
    settings = json.loads((cli_run / "run.json").read_text())["settings"]
    assert settings["flip"] is True and settings["seed"] == 3 and settings["image_size"] == 32
    assert main(["tune", str(cli_run)]) == 0
    assert main(["evaluate", str(cli_run), "--json", str(tmp_path / "scores.json")]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert f"test mAP {scores['map']:.4f}" in capsys.readouterr().out
    assert scores == json.loads((cli_run / "metrics/test.json").read_text())
    assert main(["predict", str(cli_run), str(demo_labels), "--out", str(tmp_path / "p.csv")]) == 0
    assert len(list(csv.DictReader((tmp_path / "p.csv").open()))) == 77
    assert main(["errors", str(cli_run), "--out", str(tmp_path / "e.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "e.csv").open()))
    assert list(rows[0]) == ["rank", "image_path", "split", "class", "label", "probability", "score"] and len(
        rows
    ) == 17 * len(CLASSES)
    assert main(["errors", str(cli_run)]) == 0


def test_check_says_what_it_found(demo_labels, tmp_path, capsys):
    assert main(["check", str(demo_labels), "--json", str(tmp_path / "c.json")]) == 0
    found = json.loads((tmp_path / "c.json").read_text())
    assert list(found) == ["rows", "class_names", "faults", "quarantine", "warnings", "splits"]
    assert [row["line"] for row in found["quarantine"]] == [73, 74, 75, 76] and found["splits"] == {
        "train": 43,
        "val": 17,
        "test": 17,
    }
    out = capsys.readouterr().out
    assert f"81 rows, {len(CLASSES)} classes" in out and "images/not_an_image.jpg: not an image" in out


def test_faults_in_labels_are_told_with_file_and_line(write_labels, tmp_path, capsys):
    file = write_labels([("a.jpg", [0, 1]), ("b.jpg", [0]), ("c.jpg", [0, 5])])
    text = refused(capsys, "check", file, "--json", tmp_path / "c.json")
    assert f"{file}:3: 1 labels; expected 2" in text and f"{file}:4: '5' in place 2 is no label" in text
    assert [fault["line"] for fault in json.loads((tmp_path / "c.json").read_text())["faults"]] == [3, 4]
    refused(capsys, "train", file, "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_check_shows_every_bad_image_also_when_it_refuses(write_labels, tmp_path, capsys):
    file = write_labels([(f"{i}.jpg", [0, 1]) for i in range(30)])
    text = refused(capsys, "check", file, "--json", tmp_path / "c.json")
    assert "30 of 30 images cannot be used" in text
    assert len(json.loads((tmp_path / "c.json").read_text())["quarantine"]) == 30


@pytest.mark.parametrize(
    ("case", "message", "set_aside", "known"),
    [
        ("empty split", "no image is left for the split 'test'", 1, True),
        ("too many", "1 of 5 images cannot be used (line 6, 'absent.png': missing), more than 15%", 1, True),
        ("none left", "1 of 1 images cannot be used (line 2, 'absent.png': missing), and none is left", 1, True),
        ("seed", "seed is -1; expected a whole number", 0, True),
        ("no file", "labels.csv: No such file or directory", 0, False),
        ("no class", "class 'other' stands in only one of the header and the classes file", 0, False),
        ("interrupted", "KeyboardInterrupt", 0, True),
        ("bug", "division by zero", 0, True),
    ],
)
def test_the_json_of_a_check_holds_every_refusal(
    case, message, set_aside, known, write_labels, picture, tmp_path, capsys, monkeypatch
):
    names = [picture(f"{i}.png", seed=i // 2) for i in range(4)]
    rows = [f"{name},1,{split}\n" for name, split in zip(names, ["train", "train", "val", "val"], strict=True)]
    rows = [*rows, "absent.png,1,test\n"] if case != "none left" else ["absent.png,1,test\n"]
    file = write_labels("image_path,cat,split\n" + "".join(rows))
    options = {"too many": ["--max-quarantine", "0.15"], "seed": ["--seed", "-1"]}.get(case, ["--max-quarantine", "1"])
    if case == "no file":
        file.unlink()
    if case == "no class":
        (tmp_path / "names.txt").write_text("other\n")
        options = ["--classes", str(tmp_path / "names.txt")]
    if case in ("interrupted", "bug"):
        error = KeyboardInterrupt() if case == "interrupted" else ZeroDivisionError("division by zero")
        monkeypatch.setattr(
            import_module("mlworkbench.data.prepare"), "check_images", lambda *_, **__: (_ for _ in ()).throw(error)
        )
    status = main(["check", str(file), "--json", str(tmp_path / "c.json"), *options])
    assert status == {"interrupted": 130, "bug": 1}.get(case, 2)
    found = json.loads((tmp_path / "c.json").read_text())
    assert list(found) == ["rows", "class_names", "faults", "quarantine", "warnings", "splits"]
    assert [fault["line"] for fault in found["faults"]] == [1] and message in found["faults"][0]["message"]
    assert "more than 100" not in found["faults"][0]["message"] and len(found["quarantine"]) == set_aside
    assert found["rows"] == (known and len(rows)) and found["class_names"] == ["cat"] * known
    kinds = [warning["kind"] for warning in found["warnings"]]
    assert kinds == (["duplicate", "duplicate"] if case == "empty split" else [])


def test_wrong_arguments_are_one_line_too(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train"])
    text = capsys.readouterr().err
    assert caught.value.code == 2 and text.startswith("error: the following arguments") and text.count("\n") == 1


def test_refusals_are_one_line(cli_run, demo_labels, tmp_path, capsys):
    for arguments in (
        ("train", demo_labels, "--run", cli_run),
        ("train", demo_labels, "--run", tmp_path / "r", "--model", "absent.pt"),
        ("train", demo_labels, "--run", tmp_path / "r", "--epochs", "0"),
        ("train", tmp_path / "absent.csv", "--run", tmp_path / "r"),
        ("evaluate", tmp_path),
        ("predict", cli_run, demo_labels, "--out", tmp_path / "p.txt"),
        ("notebooks", "--out", tmp_path / "n", "-p", "epoch", "3"),
        ("notebooks", "--out", tmp_path / "n", "-p", "epochs", "many"),
        ("notebooks", "--out", tmp_path / "n", "--only", "77"),
        ("notebooks", "--out", PROJECT / "notebooks"),
        ("demo-data", tmp_path / "d", "--seed", "-1"),
    ):
        assert refused(capsys, *arguments).count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_unexpected_errors_are_one_line_too_and_debug_shows_them(demo_labels, capsys, monkeypatch):
    monkeypatch.setattr("mlworkbench.data.labels.read_labels", lambda *_: 1 / 0)
    assert "ZeroDivisionError" in refused(capsys, "check", demo_labels, status=1)
    with pytest.raises(ZeroDivisionError):
        main(["check", str(demo_labels), "--debug"])


def test_a_source_is_never_written_even_when_asked_to(demo_labels, cli_run, tmp_path, capsys):
    before = demo_labels.read_bytes()
    refused(capsys, "check", demo_labels, "--json", demo_labels)
    copy = tmp_path / "labels.csv"
    copy.write_bytes(before)
    refused(capsys, "predict", cli_run, copy, "--out", copy)
    assert demo_labels.read_bytes() == copy.read_bytes() == before


def test_only_what_the_same_command_wrote_is_replaced(demo_labels, cli_run, scored_run, tmp_path, capsys):
    photo = demo_labels.parent / "images" / "00000.jpg"
    commands = (
        ("p.csv", ("predict", cli_run, photo, "--out")),
        ("p.parquet", ("predict", cli_run, photo, "--out")),
        ("e.csv", ("errors", scored_run, "--out")),
        ("r.html", ("report", scored_run, "--out")),
        ("c.json", ("check", demo_labels, "--json")),
        ("s.json", ("evaluate", scored_run, "--json")),
    )
    table = pd.DataFrame({"image_path": ["a.jpg"], "cat": [1]}).to_parquet()
    others = (demo_labels.read_bytes(), b"<!DOCTYPE html>\n", b'{"version": 1}', table)
    for name, words in commands:
        file = tmp_path / name
        for other in others:
            file.write_bytes(other)
            assert f"{file} is there and holds something else" in refused(capsys, *words, file)
            assert file.read_bytes() == other
        file.write_bytes(b"")  # as mktemp makes it
        for _ in range(2):
            assert main([str(word) for word in (*words, file)]) == 0
            assert file.stat().st_size


def test_what_is_no_file_is_written_as_it_is(demo_labels):
    found = python(f"from mlworkbench.cli import main; main(['check', {str(demo_labels)!r}, '--json', '/dev/stdout'])")
    assert json.loads(found[: found.index("\n}\n") + 3])["class_names"] and Path("/dev/stdout").is_symlink()


def test_escape_sequences_do_not_reach_the_terminal(write_labels, capsys):
    rows = [(f"\x1b[31m{i}.jpg", [0, 1]) for i in range(3)]
    main(["check", str(write_labels(rows))])
    captured = capsys.readouterr()
    assert "set aside" in captured.out and "\x1b" not in captured.out + captured.err


def test_formulas_do_not_reach_a_spreadsheet(tmp_path, cli_run, capsys):
    from PIL import Image

    for name in ("=1+1.png", "@a.png", "b.png"):
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    assert main(["predict", str(cli_run), str(tmp_path), "--out", str(tmp_path / "p.csv")]) == 0
    paths = [row["image_path"] for row in csv.DictReader((tmp_path / "p.csv").open())]
    assert paths == ["./=1+1.png", "./@a.png", "b.png"]


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_package_imports_without_the_heavy_ones():
    loaded = python("import sys, mlworkbench; print(*sys.modules)").split()
    assert not {"torch", "ultralytics", "pandas", "numpy", "matplotlib"} & set(loaded)


def test_the_numpy_half_never_imports_torch():
    half = [
        f"{room}.{file.stem}"
        for room in ("tables", "data", "imports", "scoring", "decisions")
        for file in (PROJECT / "mlworkbench" / room).glob("*.py")
    ]
    half += [
        "notebooks",
        "analysis.errors",
        "analysis.slices",
        "analysis.compare",
        *(f"runs.{name}" for name in ["folder", "run", "other", "listing"]),
        *(f"views.{name}" for name in ["style", "plots", "live", "galleries", "tuner"]),
    ]
    half = [f"mlworkbench.{name.removesuffix('.__init__')}" for name in half]
    loaded = python(f"import sys, {', '.join(half)}\nprint(*sys.modules)").split()
    assert not {"torch", "ultralytics"} & set(loaded)


def test_python_dash_m_is_the_same_program():
    text = subprocess.run(
        [sys.executable, "-m", "mlworkbench", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(
        name in text for name in ("demo-data", "check", "train", "tune", "evaluate", "predict", "errors", "notebooks")
    )


@pytest.fixture
def scored_run(tmp_path):
    """A run folder with predictions and no network: three classes, one of them without a positive in validation."""
    rng, folder = np.random.default_rng(0), tmp_path / "scored"
    write_json(folder / "run.json", {"format_version": FORMAT_VERSION, "class_names": ["a", "$b", "none"]})
    rows = ["image_path,split\n"]
    for split in ("val", "test"):
        y = (rng.random((120, 3)) < [0.4, 0.1, 0 if split == "val" else 0.1]).astype(np.int8)
        logits = (4 * rng.normal(2 * y - 1, 1)).astype(np.float32)
        paths = np.array([f"{split}{i}.png" for i in range(120)], object)
        rows += [f"{path},{split}\n" for path in paths]
        (folder / "predictions").mkdir(exist_ok=True)
        for kept in (split, f"{split}_judged"):
            frame = Predictions(paths, ["a", "$b", "none"], logits, y).to_frame()
            frame.to_parquet(folder / f"predictions/{kept}.parquet")
    (folder / "splits.csv").write_text("".join(rows))
    return folder


def test_tune_with_every_objective(scored_run, capsys):
    for objective, target, missed in (
        ("f1", None, "f1 cannot be met for 1 of 3 classes (no positive, or not learnt): none"),
        ("fbeta", "2", "fbeta 2 cannot be met for 1 of 3 classes (no positive,"),
        ("cost", "5", "cost 5 cannot be met for 1 of 3"),
        ("precision", "0.8", "precision 0.8 cannot be met for 1 of 3 classes (nothing is called present): none"),
        ("recall", "0.9", "recall 0.9 cannot be met for 1 of 3 classes (everything is called present): none"),
        ("guarantee", "0.1", "guarantee 0.1 cannot be met for 2 of 3 classes (everything is called present): $b, none"),
    ):
        how = [*(["--target", target] if target else []), *(["--anyway"] if objective in DRAWN else [])]
        assert main(["tune", str(scored_run), "--objective", objective, *how]) == 0
        assert missed in capsys.readouterr().out
        saved = json.loads((scored_run / "thresholds.json").read_text())
        assert (saved["objective"], saved["split"], saved["run"]) == (objective, "val", "scored")
        assert saved["target"] == (None if target is None else float(target)) and not saved["classes"]["none"]["met"]
    assert main(["tune", str(scored_run), "--global"]) == 0
    saved = json.loads((scored_run / "thresholds.json").read_text())
    assert len({row["threshold"] for row in saved["classes"].values()}) == 1
    assert "needs as target the recall to hold" in refused(capsys, "tune", scored_run, "--objective", "recall")
    assert "takes no target" in refused(capsys, "tune", scored_run, "--target", "0.5")


def test_tune_keeps_one_half_where_tuning_cannot_be_told_to_pay(scored_run, capsys):
    file = scored_run / "thresholds.json"
    assert main(["tune", str(scored_run)]) == 0
    said, saved = capsys.readouterr().out, json.loads(file.read_text())
    assert "cannot be told from nothing" in said and "so 0.5 stays" in said
    assert {row["threshold"] for row in saved["classes"].values()} == {0.5}
    assert (saved["objective"], saved["split"], saved["confidence"]) == ("default", "val", None)
    assert [row["learnt"] for row in saved["classes"].values()] == [True, True, None]
    assert saved["gain"]["low"] <= 0 < saved["gain"]["high"] and saved["gain"]["objective"] == "f1"
    assert main(["tune", str(scored_run), "--anyway"]) == 0
    said, asked = capsys.readouterr().out, json.loads(file.read_text())
    assert asked["objective"] == "f1" and asked["gain"] == saved["gain"] and "is used as asked" in said
    assert len({row["threshold"] for row in asked["classes"].values()}) == 3


def test_tune_with_a_confidence(scored_run, capsys):
    file = scored_run / "thresholds.json"
    for how, met in (
        (["recall", "--target", "0.9", "--confidence", "0.9"], [True, False, False]),
        (["recall", "--target", "0.9", "--confidence", "0.9", "--jointly"], [True, False, False]),
        (["precision", "--target", "0.8", "--confidence", "0.9"], [True, False, False]),
        (["guarantee", "--target", "0.1", "--confidence", "0.95"], [True, False, False]),
    ):
        assert main(["tune", str(scored_run), "--objective", *how]) == 0
        said, saved = capsys.readouterr().out, json.loads(file.read_text())
        assert [row["met"] for row in saved["classes"].values()] == met, how
        assert saved["confidence"] == float(how[4]) and saved["jointly"] == ("--jointly" in how)
        assert ("all 3 classes at once" in said) == saved["jointly"]
    assert "takes no confidence" in refused(capsys, "tune", scored_run, "--confidence", "0.9")
    assert "jointly is for a confidence" in refused(
        capsys, "tune", scored_run, "--objective", "recall", "--target", "0.9", "--jointly"
    )


def test_a_share_of_the_images_for_a_person(scored_run, capsys):
    assert main(["tune", str(scored_run), "--review-share", "0.1"]) == 0
    told, run = capsys.readouterr().out, Run(scored_run)
    val, thresholds = run.predictions("val"), run.thresholds()
    rows = json.loads((scored_run / "thresholds.json").read_text())["classes"]
    low, high = np.float32([row["review"] for row in rows.values()]).T
    asked = (val.probabilities >= low) & (val.probabilities < high)
    assert (asked == thresholds.asks(val)).all() and asked.any(1).sum() == 12 and not asked[:, 2].any()
    for name, row in rows.items():
        low, high = row["review"]
        line = next(line for line in told.splitlines() if line.startswith(f"{name} "))
        assert line.endswith(f"  {low:.4f} ≤ p < {high:.4f}" if low < high else "  –")
    said = re.search(r"^with (.*)% of the images looked at .* macro F1 (.*) → (.*) on validation, cross-v", told, re.M)
    assert 3 < float(said[1]) < 20 and float(said[2]) < float(said[3])
    assert main(["evaluate", str(scored_run)]) == 0
    scores = json.loads((scored_run / "metrics/test.json").read_text())
    found = scores["review"]
    assert found["f1_macro"] > scores["f1_macro"] and found["labels"] >= 1 and 0.02 < found["share"] < 0.25
    assert f"with a person for the {found['share']:.1%} of the images that lie in a zone" in capsys.readouterr().out
    assert main(["tune", str(scored_run), "--review-hours", "0.5", "--objective", "cost", "--target", "3"]) == 0
    assert "cost an image" in capsys.readouterr().out
    assert Run(scored_run).thresholds().asks(val).any(1).sum() == round(0.18 * len(val))  # 180 of 1,000 in half an hour
    before = (scored_run / "thresholds.json").read_bytes()
    assert "expected a share above 0 and at most 1" in refused(capsys, "tune", scored_run, "--review-share", 1.5)
    assert "at 10 s an image all of them take 2.78" in refused(capsys, "tune", scored_run, "--review-hours", 3)
    assert (scored_run / "thresholds.json").read_bytes() == before
    assert main(["tune", str(scored_run)]) == 0 and main(["evaluate", str(scored_run)]) == 0
    assert "person" not in capsys.readouterr().out and Run(scored_run).thresholds().review is None


def test_a_calibration_is_saved_honoured_and_dropped(scored_run, capsys):
    assert main(["tune", str(scored_run)]) == 0 and main(["evaluate", str(scored_run)]) == 0
    plain = json.loads((scored_run / "metrics/test.json").read_text())
    raw = Run(scored_run).predictions("test").probabilities
    assert main(["tune", str(scored_run), "--calibrate"]) == 0 and main(["evaluate", str(scored_run)]) == 0
    found = json.loads((scored_run / "metrics/test.json").read_text())
    assert found["calibration_error"] < plain["calibration_error"] and found["map"] == plain["map"]
    run = Run(scored_run)
    scale = run.thresholds().calibration[0]
    common = calibrate(run.predictions("val", raw=True), "shifts").calibration[0, 2]
    assert scale[0] < 0.8 and scale[2] == common and run.thresholds().tuned_on(run.predictions("val"))
    assert (run.predictions("test").probabilities[:, 0] != raw[:, 0]).any()
    assert (run.predictions("test", raw=True).probabilities == raw).all()
    assert f"F1 macro {found['f1_macro']:.4f} ({found['intervals']['f1_macro']['low']:.4f}" in capsys.readouterr().out
    assert main(["errors", str(scored_run), "--split", "test", "--out", str(scored_run / "e.csv")]) == 0
    row = next(csv.DictReader((scored_run / "e.csv").open()))
    place = list(run.predictions("test").paths).index(row["image_path"])
    column = run.class_names.index(row["class"].removeprefix("'"))
    assert float(row["probability"]) == pytest.approx(run.predictions("test").probabilities[place, column], abs=1e-6)
    (scored_run / "thresholds.json").write_text("{")
    assert "each judged by what has not learnt from it" in capsys.readouterr().err
    assert "no readable JSON" in refused(capsys, "evaluate", scored_run)
    assert main(["tune", str(scored_run)]) == 0  # a damaged file does not stand in its own way
    assert Run(scored_run).thresholds().calibration is None


@pytest.mark.parametrize("bent", [{"loss": "asl"}, {"loss": "bce", "positive_weight": 10.0}])
def test_where_the_loss_bends_probabilities_they_are_calibrated_unless_refused(scored_run, capsys, bent):
    state = json.loads((scored_run / "run.json").read_text())
    write_json(scored_run / "run.json", state | {"settings": bent})
    assert main(["tune", str(scored_run)]) == 0
    what = "loss asl" if bent["loss"] == "asl" else "positive_weight 10"
    assert f"calibrated first, since {what} bends probabilities" in capsys.readouterr().out
    found = calibrate(Run(scored_run).predictions("val", raw=True)).calibration
    np.testing.assert_allclose(Run(scored_run).thresholds().calibration, found)
    for options, calibrated in ((["--no-calibrate"], False), (["--calibrate"], True)):
        assert main(["tune", str(scored_run), *options]) == 0
        assert "calibrated first" not in capsys.readouterr().out
        assert (Run(scored_run).thresholds().calibration is not None) == calibrated


def test_thresholds_set_by_hand_are_kept_until_asked_and_then_beside(scored_run, capsys):
    run, file = Run(scored_run), scored_run / "thresholds.json"
    assert main(["tune", str(scored_run)]) == 0
    run.save_thresholds(run.thresholds().with_values([0.77] * 3))
    by_hand = file.read_bytes()
    capsys.readouterr()
    option = re.search(r"were set by hand; (--\w+) tunes anew", refused(capsys, "tune", scored_run))[1]
    assert file.read_bytes() == by_hand and not (scored_run / "thresholds.json.1").exists()
    assert main(["tune", str(scored_run), option, "--anyway"]) == 0
    assert json.loads(file.read_text())["objective"] == "f1"
    assert (scored_run / "thresholds.json.1").read_bytes() == by_hand
    run.save_thresholds(0.3)  # by hand again, and a rule that a person applies in the tuner
    run.save_thresholds(run.thresholds().with_values([0.4] * 3))
    again = file.read_bytes()
    run.save_thresholds(run.thresholds().default(run.class_names))
    assert (scored_run / "thresholds.json.2").read_bytes() == again and len(list(scored_run.glob("thresholds*"))) == 3
    assert main(["tune", str(scored_run)]) == 0


def test_an_interrupt_says_what_is_kept(demo_labels, tmp_path, capsys, monkeypatch):
    def stopped(*_, **__):
        raise Interrupted("training stopped in the first epoch; what was trained is kept")

    monkeypatch.setattr(import_module("mlworkbench.training.fit"), "fit", stopped)
    assert main(["train", str(demo_labels), "--run", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err == "training stopped in the first epoch; what was trained is kept\n"


def test_without_a_command_the_first_steps_are_shown(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert out.index("demo-data") < out.index("first steps:") < out.index("mlworkbench import FOLDER")


def test_each_step_says_the_next_beside_its_output(scored_run, tmp_path, capsys):
    assert main(["demo-data", str(tmp_path / "two words"), "--images", "30"]) == 0
    told = capsys.readouterr()
    assert told.err.splitlines()[-1] == f"next: mlworkbench check '{tmp_path}/two words/labels.csv'"
    assert "next:" not in told.out
    labels = tmp_path / "two words/labels.csv"
    classes = labels.parent / "classes.txt"
    assert main(["check", str(labels), "--classes", str(classes)]) == 0
    expected = f"next: mlworkbench train '{labels}' --classes '{classes}' --run runs/first"
    assert capsys.readouterr().err.splitlines()[-1] == expected
    assert main(["tune", str(scored_run)]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == f"next: mlworkbench evaluate {scored_run}"
    assert main(["errors", str(scored_run)]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[4] in ("present", "absent") and len(row) == 7


def test_suspects_of_a_network_that_has_learnt_too_little_are_told_with_that(scored_run, capsys):
    assert main(["tune", str(scored_run)]) == 0
    file = scored_run / "thresholds.json"
    saved = json.loads(file.read_text())
    saved["classes"]["a"]["learnt"] = False
    write_json(file, saved)
    capsys.readouterr()
    assert main(["errors", str(scored_run)]) == 0
    assert "learnt" in capsys.readouterr().err.splitlines()[0]


@pytest.mark.parametrize(
    ("words", "meant", "of"),
    [
        (["train", "x.csv", "--run", "y", "--img-size", "64"], "--imgsz", "mlworkbench train --help"),
        (["trian", "x.csv"], "train", "mlworkbench --help"),
        (["tune", "y", "--objective", "f-1"], "f1", "mlworkbench tune --help"),
    ],
)
def test_a_word_that_is_mistyped_is_answered_by_the_one_that_is_meant(capsys, words, meant, of):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert f"; did you mean {meant}?; see {of}\n" in capsys.readouterr().err


def test_what_is_near_a_run_or_a_setting_leads_to_it(scored_run, tmp_path, capsys):
    for inside in ("checkpoints", "checkpoints/best.safetensors"):
        assert f"name the run itself, {scored_run}\n" in refused(capsys, "tune", scored_run / inside)
    assert "is a run folder" not in refused(capsys, "evaluate", scored_run.parent)
    assert "did you mean patience?" in refused(capsys, "train", "x.csv", "--run", tmp_path, "--set", "patince", "3")
    assert "there is nothing of this name" in refused(capsys, "predict", scored_run, "neww")


def test_evaluate_says_that_nothing_was_tuned_and_what_comes_next(scored_run, capsys):
    file = scored_run / "thresholds.json"
    kept = file.read_bytes() if file.exists() else None
    file.unlink(missing_ok=True)
    assert main(["evaluate", str(scored_run)]) == 0
    told = capsys.readouterr().err
    assert "no thresholds were tuned yet" in told and f"next: mlworkbench tune {scored_run}" in told
    if kept is not None:
        file.write_bytes(kept)
        assert main(["evaluate", str(scored_run)]) == 0
        assert f"next: mlworkbench errors {scored_run}" in capsys.readouterr().err


def test_no_out_replaces_a_file_of_a_run(scored_run, tmp_path, capsys):
    kept = (scored_run / "run.json").read_bytes()
    for words in (["errors", scored_run], ["predict", scored_run, tmp_path]):
        assert "is a file of that run" in refused(capsys, *words, "--out", scored_run / "run.json")
    assert (scored_run / "run.json").read_bytes() == kept
