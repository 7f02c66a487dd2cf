"""The report: what it says, held against the files; what is missing; hostile names; nothing from outside."""

import base64
import csv
import hashlib
import io
import json
import re
import shutil
from dataclasses import asdict, replace
from functools import partial
from html.parser import HTMLParser

import numpy as np
import PIL.Image
import pytest
from helpers import WILD_NAMES, finished_run
from sklearn.metrics import f1_score

from mlworkbench import Run, WorkbenchError, report, tune_thresholds
from mlworkbench.cli import main
from mlworkbench.decisions.zone import with_zones
from mlworkbench.files import write_json
from mlworkbench.settings import Settings
from mlworkbench.text import shown

VOID = {"meta", "link", "img", "line", "circle", "path", "br"}


class Page(HTMLParser):
    """A page taken apart: its elements, the text of its sections, and its tables by their captions."""

    def __init__(self, file):
        super().__init__()
        self.elements, self.sections, self.tables, self.open = [], {}, {}, []
        self._cell = self._row = self._heading = None
        self.source = file.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        self.sections = {name: " ".join(text.split()) for name, text in self.sections.items()}
        assert not self.open, "elements that are not closed"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._table = []
        elif tag == "tr":
            self._row = []
        elif tag in ("th", "td", "caption", "h2"):
            self._cell = ""

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self.open.pop() == tag
        if tag == "h2":
            self._heading = self._cell
            self.sections[self._heading] = ""
        elif tag == "caption":
            self.tables[self._cell] = self._table
        elif tag in ("th", "td"):
            self._row.append(" ".join(self._cell.split(" ")) if self._cell.strip() else "")
        elif tag == "tr":
            self._table.append(self._row)
        if tag in ("th", "td", "caption", "h2"):
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data
        if self._heading is not None:
            self.sections[self._heading] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def rows(self, caption):
        (found,) = [table for title, table in self.tables.items() if title.startswith(caption)]
        return {row[0]: [" ".join(cell.split()) for cell in row[1:]] for row in found[1:]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of hostile names that was evaluated; tests must not write to it."""
    run = finished_run(tmp_path_factory.mktemp("reported"), WILD_NAMES)
    run.evaluate("test")
    return run


@pytest.fixture(scope="module")
def page(run):
    before = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()}
    file = report(run)
    assert file == run.folder / "report.html"
    after = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()}
    assert after.keys() - before.keys() == {file} and {f: after[f] for f in before} == before
    return Page(file)


@pytest.fixture
def copy(run, tmp_path):
    """A colleague's copy of the run folder, to change."""
    return Run(shutil.copytree(run.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("report.html")))


def test_scores_are_those_of_the_file_in_the_run_folder(page, run):
    scores = json.loads((run.folder / "metrics/test.json").read_text())
    rows = page.rows("Classes on test")
    assert rows.keys() == set(WILD_NAMES)
    for name, its in scores["classes"].items():
        spread = scores["intervals"]["classes"][name]
        if its["ap"] is None:
            assert rows[name] == ["0", "–", "–" if its["precision"] is None else "0.000", "–", "–"]
            continue
        assert rows[name] == [
            str(its["support"]),
            f"{its['ap']:.3f} {spread['ap']['low']:.2f} to {spread['ap']['high']:.2f}",
            *(f"{its[key]:.3f}" for key in ("precision", "recall")),
            f"{its['f1']:.3f} {spread['f1']['low']:.2f} to {spread['f1']['high']:.2f}",
        ]
    ap = [float(row[1].split()[0]) for row in rows.values() if row[1] != "–"]
    assert ap == sorted(ap)
    low, high = (scores["intervals"]["map"][end] for end in ("low", "high"))
    beside = f" {scores['undefined']} of {len(WILD_NAMES)} classes undefined" if scores["undefined"] else ""
    assert page.rows("Scores on test")["mAP"] == [f"{scores['map']:.3f} {low:.2f} to {high:.2f}{beside}"]
    assert page.rows("Scores on test")["Brier score"] == [f"{scores['brier']:.3f}"]
    assert f"{scores['map']:.3f}" in page.sections["Summary"] and "1 of 12 classes" in page.sections["Scores"]
    assert "Scores on val (tuned on these)" in page.tables


def test_data_thresholds_and_settings_are_those_of_the_files(page, run):
    assert "240 images: 80 train, 80 val, 80 test" in page.sections["Images and labels"]
    labels = list(csv.reader((run.folder.parent / "images/labels.csv").open()))[1:]
    y = np.array([json.loads(row[1]) for row in labels])
    rows = page.rows("Images in which a class is present")
    assert list(rows) == WILD_NAMES
    for c, name in enumerate(WILD_NAMES):
        assert rows[name] == [*(str(y[80 * i : 80 * i + 80, c].sum()) for i in range(3)), "0"]
    assert page.rows("6 images set aside") == {
        "cut <off>": ["<i>0.png · <i>1.png · <i>2.png · and 2 more", "5"], "no image": ["x.txt", "1"],
    }  # fmt: skip
    assert page.rows("12 findings")["rare"][1] == "12"
    assert "The weights are those of epoch 2, whose validation mAP 0.750" in page.sections["Training"]
    chosen = json.loads((run.folder / "thresholds.json").read_text())["classes"]
    for name, row in page.rows("Thresholds and calibration").items():
        its = chosen[name]
        numbers = [its["threshold"], its["scale"], its["shift"]]
        learnt = {True: "yes", False: "no", None: "–"}[its["learnt"]]
        assert row == [*(f"{number:.3f}" for number in numbers), str(its["positives"]), learnt]
    assert "the threshold with its best F1, chosen on val" in page.sections["Thresholds"]
    settings = page.rows("Settings")
    assert settings["epochs"] == ["3", "✓"] and settings["seed"] == ["0", ""] and settings.keys() >= {"ultralytics"}
    assert page.rows("Data, machine")["torch"] == ["9.9"]


def test_the_command_begins_a_run_with_the_same_settings(page, run):
    from mlworkbench.cli import _settings
    from mlworkbench.parser import make_parser
    from mlworkbench.settings import as_arguments

    command = page.sections["To repeat it"]
    for words in ("--root", "--classes CLASSES", "--epochs 3", "--flip", "--set backbone_rate 0.5"):
        assert words in command
    other = Settings(model="a b.pt", route="probe", crop=True, patience=4, learning_rate=2e-5, ema=0.0, device="0")
    for settings in (Settings(), other, Settings.of(**run.state["settings"])):
        arguments = as_arguments(asdict(settings))
        args = make_parser().parse_args(["train", "x.csv", "--run", "y", *arguments])
        assert Settings.of(**_settings(args)) == settings
    assert as_arguments(asdict(Settings())) == []


def test_the_worst_errors_and_the_first_suspects_are_shown_with_their_images(page, run):
    predictions, limits = run.predictions("val"), run.thresholds()
    wrong = limits.decide(predictions) != (predictions.labels == 1)
    missed = int((wrong & (predictions.labels == 1)).sum())
    assert f"{missed} labels missed, {int(wrong.sum()) - missed} falsely found" in page.sections["Worst errors"]
    cards = [attributes for tag, attributes in page.elements if tag == "img" and attributes.get("class") != "drawn"]
    assert len(cards) == 24
    for card in cards:
        data = base64.b64decode(card["src"].removeprefix("data:image/jpeg;base64,"))
        assert 192 <= max(PIL.Image.open(io.BytesIO(data)).size) <= 448 and card["alt"] == ""
    sure = np.where(predictions.labels == 1, predictions.logits, -predictions.logits)
    row, c = np.unravel_index(sure.argmin(), sure.shape)
    first = page.sections["Suspect labels"].partition("one by one. ")[2]
    label = "present" if predictions.labels[row, c] == 1 else "absent"
    p = shown(float(predictions.probabilities[row, c]), 2)
    assert first.startswith(" ".join(f"{WILD_NAMES[c]} label {label}, p {p} {predictions.paths[row]}".split()))


def test_hostile_names_stay_text_and_nothing_comes_from_outside(page):
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "button", "iframe", "object", "embed", "base", "form", "input", "b", "i"}
    assert len(page.all("style")) == 1 and "49" not in page.rows("Classes on test")
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "srcset", "action")], tag
        for name in ("src", "href", "data", "poster"):
            assert re.match(r"data:|#", attributes.get(name, "#")), (tag, attributes)
    style = page.source[page.source.index("<style>") + 7 : page.source.index("</style>")]
    assert not re.search(r"url\(|@import|@font-face", style)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.split("; ") == [
        "default-src 'none'", "img-src data:", f"style-src 'sha256-{digest}'", "base-uri 'none'", "form-action 'none'",
    ]  # fmt: skip


def test_a_reader_of_screens_and_keyboards_finds_its_way(page):
    assert page.all("html")[0]["lang"] == "en" and [tag for tag, _ in page.elements if tag in ("h1", "h3")] == ["h1"]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in page.all("a")} == {a["id"] for a in page.all("h2")} <= set(ids)
    assert {a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a} <= set(ids)
    assert all(a["alt"] for a in page.all("img") if a.get("class") == "drawn")
    assert len(page.all("caption")) == len(page.all("table"))
    assert {a.get("scope") for a in page.all("th")} == {"col", "row"}


def test_zones_for_a_person_are_told_with_what_they_bring(copy, page):
    val, test = copy.predictions("val"), copy.predictions("test")
    thresholds = with_zones(val, tune_thresholds(val), 0.2)
    copy.save_thresholds(thresholds)
    asked, decided = thresholds.asks(test), thresholds.decide(test)
    y = test.labels == 1  # of a class without a positive F1 is undefined
    f1 = f1_score(y, np.where(asked, y, decided), average="macro", labels=np.flatnonzero(y.any(0)))
    told = Page(report(copy)).sections["Thresholds"]
    assert f"On test these are {asked.any(1).mean():.1%} of the images" in told and f"macro F1 is {f1:.3f}." in told
    assert "zone" not in page.sections["Thresholds"]


def gone(name):
    def remove(folder):
        place = folder / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()

    return remove


def changed(name, **changes):
    def write(folder):
        write_json(folder / name, json.loads((folder / name).read_text()) | changes)

    return write


state, thresholds = (partial(changed, name) for name in ("run.json", "thresholds.json"))


@pytest.mark.parametrize(
    ("change", "section", "told"),
    [
        (gone("history.csv"), "Training", r"history\.csv: No such file"),
        (gone("quarantine.csv"), "Images and labels", r"quarantine\.csv: No such file"),
        (gone("splits.csv"), "Images and labels", r"splits\.csv: No such file"),
        (gone("inspect"), "Images and labels", "Notebook 01 has not inspected"),
        (gone("thresholds.json"), "Thresholds", "Nobody has chosen thresholds yet"),
        (thresholds(objective="{x}"), "Thresholds", "a threshold that was chosen in another way, chosen on val"),
        (
            thresholds(objective="recall", target=0.9),
            "Thresholds",
            "highest threshold with a recall of at least 0.9, ch",
        ),
        (thresholds(objective="by hand"), "Thresholds", "Thresholds were set by hand"),
        (gone("metrics"), "Summary", "The test split was not looked at"),
        (gone("predictions"), "Scores", "keeps no predictions of val"),
        (gone("predictions"), "Weak slices", "keeps no predictions of val"),
        (state(image_root="/nowhere"), "Worst errors", "its images were in /nowhere, which is not here"),
        (state(image_root="/nowhere"), "Weak slices", "Slices by label only"),
        (state(labels_sha256="0"), "Images and labels", "has changed since this run was trained"),
        (state(labels_sha256="0"), "Images and labels", "is of other labels than the run's"),
        (state(status="running"), "Summary", "the training is running. What follows is what the folder holds so far"),
        (lambda folder: (folder / "thresholds.json").write_text("{"), "Thresholds", "is no readable JSON"),
        (lambda folder: (folder / "predictions/val.parquet").write_bytes(b"x"), "Worst errors", r"val\.parquet is dam"),
        (state(settings={}), "To repeat it", "mlworkbench train"),
    ],
)
def test_what_is_missing_is_told_in_its_place(copy, change, section, told):
    change(copy.folder)
    page = Page(report(copy.folder))
    assert re.search(told, page.sections[section]), page.sections[section]
    assert len(page.sections) == 12


def test_the_test_split_is_shown_only_where_it_was_evaluated(copy):
    gone("metrics")(copy.folder)
    page = Page(report(copy.folder))
    assert not [caption for caption in page.tables if "on test" in caption] and not (copy.folder / "metrics").exists()
    assert "split val (tuned on these)" in page.sections["Summary"]


def test_a_run_that_nobody_trained_here_and_one_just_trained(handmade_run, tiny_run, tmp_path):
    assert "was it edited by hand?" in Page(report(handmade_run, tmp_path / "a.html")).sections["To repeat it"]
    page = Page(report(tiny_run.folder, tmp_path / "b.html"))
    assert "--epochs 2" in page.sections["To repeat it"] and "2 epochs" in page.sections["Training"]
    assert not (tiny_run.folder / "report.html").exists()


def test_several_runs_stand_side_by_side(run, copy, handmade_run, tmp_path):
    from mlworkbench import compare_runs

    worse = copy.predictions("test", raw=True)
    noise = np.random.default_rng(1).normal(0, 2, worse.logits.shape).astype(np.float32)
    copy.write_predictions(replace(worse, logits=worse.logits + noise), "test")
    state(settings=asdict(Settings(epochs=9)))(copy.folder)
    handmade = Run(shutil.copytree(handmade_run.folder, tmp_path / "other"))
    page = Page(report([run, copy.folder, handmade], tmp_path / "all.html"))
    scores = json.loads((run.folder / "metrics/test.json").read_text())
    assert page.rows("Scores on test")["run"][0].startswith(f"{scores['map']:.3f} ")
    assert page.rows("Scores on test")["other"] == ["not evaluated"] * 3
    found = compare_runs(run, Run(copy.folder))
    rows = page.rows("copy against run on test")
    assert rows["difference of mAP"][0].startswith(f"{found.map['difference']:+.3f} (95 % interval ")
    assert rows["label sets that only run has right"] == [str(found.sets["worse"])]
    text = page.sections["Compared on the same images"]
    for name in found.classes[found.classes.q <= 0.05]["class"]:
        assert f"{name} (" in text
    assert "other cannot be compared with run: class" in text
    assert page.rows("Settings and versions")["epochs"] == ["3", "9", "–"]
    assert "seed" not in page.rows("Settings and versions") or len(page.rows("Settings and versions")["seed"]) == 3


def test_runs_that_differ_in_their_seed_alone_are_compared_as_recipes(run, tmp_path):
    from mlworkbench import compare_runs

    rng, runs = np.random.default_rng(2), []
    for i, name in enumerate(("a0", "a1", "b0", "b1")):
        its = Run(shutil.copytree(run.folder, tmp_path / name))
        state(settings=asdict(Settings(seed=i % 2, epochs=3 + i // 2)))(its.folder)
        said = its.predictions("test", raw=True)
        noise = rng.normal(0, 1, said.logits.shape).astype(np.float32)
        its.write_predictions(replace(said, logits=said.logits + noise), "test")
        runs.append(Run(its.folder))
    page = Page(report(runs, tmp_path / "all.html"))
    its = compare_runs(runs[:2], runs[2:]).scores.loc["map"]
    row = page.rows("Recipes on test: b0 and 1 more against a0 and 1 more")["mAP"]
    assert row[2] == f"{its.difference:+.3f} ({its.low:+.3f} to {its.high:+.3f})"
    assert "two networks, not two recipes" in page.sections["Compared on the same images"]
    page = Page(report(runs[:3], tmp_path / "three.html"))
    assert not [caption for caption in page.tables if caption.startswith("Recipes")]


def test_what_cannot_be_written_is_refused(run, tmp_path, capsys):
    with pytest.raises(WorkbenchError, match=r"2 runs; say where their page goes: --out FILE\.html"):
        report([run, run])
    with pytest.raises(WorkbenchError, match="0 runs"):
        report([], tmp_path / "page.html")
    with pytest.raises(WorkbenchError, match=r"labels\.csv: expected a name that ends in \.html"):
        report(run, tmp_path / "labels.csv")
    with pytest.raises(WorkbenchError, match="is .* a run folder"):
        report(tmp_path)
    assert not list(tmp_path.iterdir())
    assert main(["report", str(run.folder), "--out", str(tmp_path / "p.html")]) == 0
    assert capsys.readouterr().out == f"written: {tmp_path / 'p.html'}\n"


def test_a_long_table_ends_and_the_page_stays_small(tmp_path, page):
    from mlworkbench.reports.blocks import ROWS

    run = finished_run(tmp_path, [f"class {i}" for i in range(ROWS + 50)], images=12)
    found = Page(report(run))
    assert len(found.rows("Classes on val")) == ROWS
    assert f"Classes on val (tuned on these), the weakest first, the first {ROWS} of {ROWS + 50}" in str(found.tables)
    assert len(page.source) < 3e6
