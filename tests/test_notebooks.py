"""Each notebook by papermill at tiny settings, then by nbval on what papermill wrote: the same answers twice."""

import json
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from conftest import PROJECT

from mlworkbench import Run, WorkbenchError
from mlworkbench.cli import main
from mlworkbench.exceptions import RunFailed
from mlworkbench.notebooks import FOLDER, copy_notebooks, from_project, ordered, project_root, run_notebooks

DATA = ["labels_file", "image_root", "classes_file", "splits_file", "tag_delimiter", "run_dir"]
PARAMETERS = {
    "01_inspect_data": {*DATA, "seed"},
    "02_train": {
        *DATA, "corrections", "model", "route", "epochs", "batch_size", "image_size", "learning_rate", "flip",
        "precision", "seed",
    },
    "03_tune_thresholds": {"run_dir", "objective", "target", "replace", "image_root"},
    "04_error_analysis": {"run_dir", "split", "top_k", "image_root"},
    "05_predict_and_export": {"run_dir", "source", "out_dir", "image_root"},
    "06_compare_approaches": {*DATA, "epochs", "image_size", "seed"},
}  # fmt: skip


def test_parameters_are_those_agreed_each_with_a_help_text():
    import papermill as pm

    for path in ordered():
        found = pm.inspect_notebook(str(path))
        assert set(found) == PARAMETERS[path.stem]
        assert all(parameter["help"] for parameter in found.values())


def test_notebooks_are_committed_without_outputs():
    subprocess.run([sys.executable, "-m", "nbstripout", "--verify", "--keep-id", *ordered()], check=True)


def test_notebooks_narrate_and_call():
    for path in ordered():
        cells = nbformat.read(path, as_version=4).cells
        assert cells[0].cell_type == "markdown" and "**Needs**" in cells[0].source and "**Writes**" in cells[0].source
        for cell in (cell for cell in cells if cell.cell_type == "code"):
            source = cell.source
            assert len(source.splitlines()) <= 15 or "parameters" in cell.metadata.get("tags", ())
            assert not re.search(r"^(def |class |for .*loader|%|!)|sys\.path|filterwarnings", source, re.MULTILINE)


NAMES = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(2)>", "$x^2$", r"\\(y\\)", "=1+1", "N/A", "null", "a_b*c*",
    "ü 图 ", "&lt;b&gt;",
]  # fmt: skip


@pytest.fixture(scope="module")
def executed(demo_labels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    said = []
    (folder / "names.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    parameters = {
        "classes_file": str(folder / "names.txt"),
        "labels_file": str(demo_labels), "run_dir": str(folder / "run"), "epochs": "2", "image_size": "32",
        "batch_size": "8", "precision": "fp32", "top_k": "3", "learning_rate": "2e-3",
    }  # fmt: skip
    return run_notebooks(folder / "out", parameters=parameters, say=said.append), folder / "run", said


def outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    return [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.notebook
def test_they_run_and_the_run_folder_is_whole(executed):
    written, folder, said = executed
    assert [path.stem for path in written] == sorted(PARAMETERS)
    assert all(path.with_suffix(".html").stat().st_size > 100_000 for path in written) and len(said) == 12
    run = Run(folder)
    assert run.status == "finished" and len(run.history) == 2 and run.state["settings"]["learning_rate"] == 2e-3
    assert run.thresholds().split == "val"
    assert json.loads((folder / "metrics/test.json").read_text())["map"] > 0
    assert json.loads((folder / "inspect/summary.json").read_text())["rows"] == 63


@pytest.mark.notebook
def test_names_are_text_everywhere(executed):
    written, folder, _ = executed
    assert Run(folder).class_names == NAMES
    shown = [str(output.get("data", {}).get("text/html", "")) for path in written for output in outputs(path)]
    assert any("&lt;script&gt;alert(1)" in page for page in shown)
    assert not any("<script>alert" in page or "<img src=x" in page for page in shown)
    assert all("tex2jax_ignore" in page for page in shown if "$x^2$" in page)
    widgets = [json.loads(path.read_text())["metadata"].get("widgets", {}) for path in written]
    states = [
        str(model["state"].get("value", ""))
        for book in widgets
        for kind in book.values()
        for model in kind["state"].values()
    ]
    assert states and not any("<script>alert" in state or "<img src=x" in state for state in states)
    for path in written:  # in the page outside the widgets' state, which is JSON
        page = path.with_suffix(".html").read_text().split("application/vnd.jupyter.widget-state+json")[0]
        assert "<img src=x onerror" not in page and "<script>alert" not in page


@pytest.mark.notebook
def test_pictures_are_in_the_saved_notebooks_and_training_leaves_one(executed):
    pictures = [sum("image/png" in output.get("data", {}) for output in outputs(path)) for path in executed[0]]
    assert pictures == [6, 2, 3, 6, 2, 3]  # in 02: one of the training however many epochs, one of the classes


@pytest.mark.notebook
def test_a_second_execution_gives_the_same_outputs(executed):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env"]
    sanitize = ["--nbval-sanitize-with", str(PROJECT / "tests" / "nbval.cfg"), "-c", "/dev/null"]
    done = subprocess.run([*command, *sanitize, *map(str, executed[0])], capture_output=True, text=True, cwd=FOLDER)
    assert done.returncode == 0, done.stdout[-4000:]
    assert executed[1].with_name("run.1").is_dir()  # the second training moved the first aside


@pytest.mark.notebook
def test_thresholds_set_by_hand_are_kept_when_it_runs_again(executed, tmp_path):
    shutil.copytree(executed[1], tmp_path / "run")
    run, file = Run(tmp_path / "run"), tmp_path / "run/thresholds.json"
    run.save_thresholds(0.77)
    by_hand, given = file.read_bytes(), {"run_dir": str(run.folder)}
    run_notebooks(tmp_path / "kept", ["03"], given, say=lambda _: None)
    assert file.read_bytes() == by_hand
    assert any(
        "by hand: see `replace`" in o.get("text", "") for o in outputs(tmp_path / "kept/03_tune_thresholds.ipynb")
    )
    run_notebooks(tmp_path / "new", ["03"], given | {"replace": "true"}, say=lambda _: None)
    assert run.thresholds().objective == "f1" and file.with_name("thresholds.json.1").read_bytes() == by_hand


def test_a_failing_cell_is_told_and_the_notebook_kept(tmp_path):
    with pytest.raises(RunFailed, match=r"03_tune_thresholds.ipynb failed: WorkbenchError: .*run.json does not exist"):
        run_notebooks(tmp_path, ["03"], {"run_dir": str(tmp_path / "absent")}, say=lambda _: None)
    assert any(output.output_type == "error" for output in outputs(tmp_path / "03_tune_thresholds.ipynb"))


def test_an_unknown_parameter_is_an_error_that_names_those_that_exist(tmp_path):
    with pytest.raises(WorkbenchError, match="no notebook has a parameter 'epoch'; expected one of batch_size,"):
        run_notebooks(tmp_path / "out", parameters={"epoch": "3"})
    assert not (tmp_path / "out").exists()


def test_jupyters_own_interrupt_ends_the_training_and_the_next_cell_goes_on(demo_labels, tmp_path):
    from jupyter_client.manager import start_new_kernel

    train = f"""
import mlworkbench as mw
from mlworkbench import views
table, plot = mw.read_labels({str(demo_labels)!r}), views.LivePlot()
settings = dict(epochs=500, image_size=32, batch_size=8, precision="fp32", device="cpu")
run = mw.fit(table, {str(tmp_path / "run")!r}, on_epoch_end=plot.update, **settings)
"""
    manager, client = start_new_kernel()
    outputs = []

    def keep(message):
        outputs.append(message)
        text = message["content"].get("text", "") if message["msg_type"] == "stream" else ""
        if "epoch   2" in text:
            manager.interrupt_kernel()

    try:
        reply = client.execute_interactive(train, output_hook=keep, timeout=120)
        assert reply["content"]["status"] == "ok", reply["content"]
        pictures = [m for m in outputs if m["msg_type"] == "display_data" and "image/png" in m["content"]["data"]]
        bars = [m["content"]["data"]["text/plain"] for m in outputs if m["msg_type"] == "update_display_data"]
        assert len(pictures) == 1 and any("training" in bar and "images/s" in bar for bar in bars)
        said = []
        client.execute_interactive(
            "print(run.status, len(run.history), len(run.predictions('test')))",
            output_hook=lambda m: said.append(m["content"].get("text", "")),
            timeout=60,
        )
        status, epochs, images = "".join(said).split()
        assert status == "interrupted" and 2 <= int(epochs) < 500 and images == "10"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_notebooks_are_copied_into_a_folder_and_those_there_are_kept(tmp_path):
    mine = tmp_path / "notebooks" / "02_train.ipynb"
    mine.parent.mkdir()
    mine.write_text("mine")
    new = copy_notebooks(tmp_path)
    assert {file.name for file in new} == {file.name for file in ordered()} - {"02_train.ipynb"}
    assert mine.read_text() == "mine" and copy_notebooks(tmp_path) == []
    assert (tmp_path / "notebooks/01_inspect_data.ipynb").read_bytes() == (
        FOLDER / "01_inspect_data.ipynb"
    ).read_bytes()


def test_relative_paths_start_at_the_root(tmp_path, monkeypatch):
    for inside in (PROJECT, FOLDER, PROJECT / "tests"):
        monkeypatch.chdir(inside)
        assert project_root() == PROJECT
    (tmp_path / "notebooks").mkdir()
    for outside in (tmp_path, tmp_path / "notebooks"):
        monkeypatch.chdir(outside)
        assert from_project("runs/demo") == tmp_path / "runs/demo"
    monkeypatch.setenv("MLWORKBENCH_ROOT", str(tmp_path / "elsewhere"))
    assert project_root() == tmp_path / "elsewhere" and from_project(tmp_path / "a.pt") == tmp_path / "a.pt"


def test_lab_opens_on_the_folder_and_its_kernels_know_it(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        "mlworkbench.notebooks.subprocess.run",
        lambda command, env, check: asked.append((command, env)) or subprocess.CompletedProcess(command, 7),
    )
    assert main(["lab", str(tmp_path / "teaching ж"), "--", "--no-browser"]) == 7
    (command, environment), folder = asked[0], tmp_path / "teaching ж"
    assert command[1:] == ["-m", "jupyterlab", f"--ServerApp.root_dir={folder}", "--no-browser"]
    assert environment["MLWORKBENCH_ROOT"] == str(folder) and "6 notebooks copied" in capsys.readouterr().out
