"""Each notebook by papermill at tiny settings, then by nbval on what papermill wrote: the same answers twice."""

import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from conftest import PROJECT

from mlworkbench import Run, WorkbenchError, read_labels
from mlworkbench.cli import main
from mlworkbench.exceptions import RunFailed
from mlworkbench.notebooks import (
    FOLDER,
    copy_notebooks,
    from_project,
    ordered,
    planted,
    project_root,
    run_notebooks,
    use_of_answers,
)
from mlworkbench.runs.folder import writing

DATA = ["labels_file", "image_root", "classes_file", "splits_file", "tag_delimiter", "run_dir"]
PARAMETERS = {
    "01_inspect_data": {*DATA, "image_size", "flip", "seed"},
    "02_train": {
        *DATA, "corrections", "model", "route", "epochs", "batch_size", "image_size", "learning_rate", "flip",
        "precision", "seed",
    },
    "03_tune_thresholds": {
        "run_dir", "objective", "target", "confidence", "anyway", "review_share", "replace", "image_root",
    },
    "04_error_analysis": {"run_dir", "split", "top_k", "image_root"},
    "05_predict_and_export": {"run_dir", "source", "out_dir", "image_root"},
    "06_compare_approaches": {*DATA, "epochs", "image_size", "seed"},
}  # fmt: skip


def test_parameters_are_those_agreed_each_with_a_help_text():
    import papermill as pm

    found = {path.stem: pm.inspect_notebook(str(path)) for path in [*ordered(), *ordered(["lessons"])]}
    assert {name: set(found[name]) for name in PARAMETERS} == PARAMETERS
    assert all(parameter["help"] for names in found.values() for parameter in names.values())


@pytest.mark.parametrize("which", [[], ["lessons"]], ids=["notebooks", "lessons"])
def test_notebooks_are_committed_without_outputs(which):
    subprocess.run([sys.executable, "-m", "nbstripout", "--verify", "--keep-id", *ordered(which)], check=True)


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
    "ü 图 ", "&lt;b&gt;", "%d {x}", "-1", "[0, 1]", "two words", "{{ 7 * 7 }}", "</style>",
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
    assert [path.name for path in written] == [path.name for path in ordered()]
    assert all(path.with_suffix(".html").stat().st_size > 100_000 for path in written)
    assert len(said) == 2 * len(written)
    run = Run(folder)
    assert run.status == "finished" and len(run.history) == 2 and run.state["settings"]["learning_rate"] == 2e-3
    assert run.thresholds().split == "val"
    assert json.loads((folder / "metrics/test.json").read_text())["map"] > 0
    assert json.loads((folder / "inspect/summary.json").read_text())["rows"] == 81


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
def test_each_figure_and_gallery_is_in_the_saved_notebook_once(executed):
    def drawn(cell):
        shown = [output.get("data", {}) for output in cell.outputs]
        return sum("image/png" in data or "mlw-gallery" in data.get("text/html", "") for data in shown)

    # What a cell surely shows; of a training one picture stays, however many epochs it has.
    asked = r"^views\.show(_widget)?\(|\bviews\.LivePlot\("
    for path in executed[0]:
        for cell in (cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"):
            assert drawn(cell) == len(re.findall(asked, cell.source, re.MULTILINE)), (path.stem, cell.source)


@pytest.mark.notebook
@pytest.mark.slow
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
    run_notebooks(tmp_path / "new", ["03"], given | {"replace": "true", "anyway": "true"}, say=lambda _: None)
    assert run.thresholds().objective == "f1" and file.with_name("thresholds.json.1").read_bytes() == by_hand


def test_a_failing_cell_is_told_in_one_line_and_the_notebook_kept_with_its_page(tmp_path):
    with pytest.raises(
        RunFailed, match="03_tune_thresholds.ipynb failed: WorkbenchError: .*run.json does not exist"
    ) as e:
        run_notebooks(tmp_path, ["03"], {"run_dir": str(tmp_path / "absent")}, say=lambda _: None)
    assert str(e.value).endswith(f"(see {tmp_path / '03_tune_thresholds.ipynb'})") and "\n" not in str(e.value)
    assert "run.json does not exist" in (tmp_path / "03_tune_thresholds.html").read_text()
    (error,) = (o for o in outputs(tmp_path / "03_tune_thresholds.ipynb") if o.output_type == "error")
    told, where = error.traceback  # of one line each
    assert told == f"{error.ename}: {error.evalue}" and "traceback.print_exception(sys.last_value)" in where


def test_an_unknown_parameter_is_an_error_that_names_those_that_exist(tmp_path):
    with pytest.raises(
        WorkbenchError, match="no notebook has a parameter 'epoch'; expected one of anyway, batch_size,"
    ):
        run_notebooks(tmp_path / "out", parameters={"epoch": "3"})
    owners = "'epochs' belongs to 02_train, 06_compare_approaches, .*which are not among those that run"
    with pytest.raises(WorkbenchError, match=owners):
        run_notebooks(tmp_path / "out", ["03", "L4"], {"epochs": "3"})
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """A folder with a lesson that ran, where a kernel that cannot start comes first under every usual name."""
    folder = tmp_path_factory.mktemp("lesson")
    for name in ("python3", "mlworkbench"):
        spec = folder / "broken/kernels" / name / "kernel.json"
        spec.parent.mkdir(parents=True)
        spec.write_text(json.dumps({"argv": ["false"], "display_name": "Broken", "language": "python"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "broken"))
        run_notebooks(folder / "out", ["L4"], {"seed": "3"}, say=lambda _: None)
    return folder / "out"


def test_a_lesson_runs_in_this_interpreter_whatever_kernels_are_registered(lesson):
    assert (lesson / "L4_averages.html").stat().st_size > 100_000
    cells = nbformat.read(lesson / "L4_averages.ipynb", as_version=4).cells
    assert any("seed = 3" in cell.source for cell in cells) and any(
        "F1 0." in str(cell.get("outputs")) for cell in cells
    )


def test_a_second_run_moves_the_first_aside_and_two_at_once_are_refused(lesson, tmp_path):
    out, said = tmp_path / "out", []
    shutil.copytree(lesson, out)
    (out / "mine.txt").write_text("mine")
    before = (out / "L4_averages.ipynb").read_bytes()
    with writing(out, "--out", ".notebooks"), pytest.raises(WorkbenchError) as refused:
        run_notebooks(out, ["L4"], say=said.append)
    assert f"{out} is being written by process {os.getpid()} on" in str(refused.value)
    assert "choose another --out" in str(refused.value) and said == []
    run_notebooks(out, ["L4"], say=said.append)
    assert said[0] == f"what an earlier run left in {out} was moved aside to {out}.1"
    assert {file.name for file in (tmp_path / "out.1").iterdir()} == {"L4_averages.ipynb", "L4_averages.html"}
    assert (tmp_path / "out.1/L4_averages.ipynb").read_bytes() == before
    assert (out / "L4_averages.html").exists() and (out / "mine.txt").exists()


def test_plain_papermill_runs_them_too(tmp_path):
    command = [sys.executable, "-m", "papermill", FOLDER / "lessons/L4_averages.ipynb", "out.ipynb", "-p", "seed", "1"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(PROJECT)}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(outputs(tmp_path / "out.ipynb")) > 5


def test_a_notebook_whose_kernel_dies_is_told_in_one_line(tmp_path, monkeypatch):
    deadly = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import os; os._exit(1)")])
    deadly.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(deadly, tmp_path / "01_deadly.ipynb")
    monkeypatch.setattr("mlworkbench.notebooks.FOLDER", tmp_path)
    with pytest.raises(RunFailed, match="01_deadly.ipynb failed: its kernel died"):
        run_notebooks(tmp_path / "out", say=lambda _: None)
    assert (tmp_path / "out/01_deadly.html").exists()


def test_lessons_are_chosen_by_number_or_all_at_once():
    lessons = sorted((FOLDER / "lessons").glob("*.ipynb"))
    assert lessons and ordered(["lessons"]) == lessons and ordered(["lessons", "L4", "01"]) == [ordered()[0], *lessons]
    assert not {*ordered()} & {*lessons}
    with pytest.raises(WorkbenchError, match="notebook 'L77' not in .*; expected of 01, 02, .*L4.*, lessons"):
        ordered(["01", "L77"])


def test_in_a_notebook_errors_are_one_line_and_an_interrupt_ends_the_training_in_good_order(demo_labels, tmp_path):
    from jupyter_client.manager import start_new_kernel

    train = f"""
import mlworkbench as mw
from mlworkbench import views
table, plot = mw.read_labels({str(demo_labels)!r}), views.LivePlot()
settings = dict(epochs=500, image_size=32, batch_size=8, precision="fp32", device="cpu")
run = mw.fit(table, {str(tmp_path / "run")!r}, on_epoch_end=plot.update, **settings)
"""
    early = """
import signal
from mlworkbench.training.loop import Trainer
step = Trainer.step
Trainer.step = lambda self, batch: signal.raise_signal(signal.SIGINT) or step(self, batch)
"""
    manager, client = start_new_kernel()
    outputs = []

    def keep(message):
        outputs.append(message)
        text = message["content"].get("text", "") if message["msg_type"] == "stream" else ""
        if "epoch   2" in text:
            manager.interrupt_kernel()

    def said_of(code):
        said = []
        hook = {"output_hook": lambda m: said.append(m["content"].get("text", ""))}
        return client.execute_interactive(code, timeout=120, **hook)["content"], "".join(said)

    try:
        reply, _ = said_of("import mlworkbench as mw, traceback\nmw.Run('nowhere').state")
        assert reply["ename"] == "WorkbenchError" and len(reply["traceback"]) == 2
        assert "runs/run.py" in said_of(reply["traceback"][1].split(": ", 1)[1][:-1])[1]
        reply, _ = said_of(early + train.replace("run'", "early'"))
        (line,) = reply["traceback"]
        assert line.startswith("Interrupted: training stopped in the first epoch; there are no weights to use yet, but")
        said_of("Trainer.step = step")
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
        assert status == "interrupted" and 2 <= int(epochs) < 500 and images == "17"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_notebooks_are_copied_into_a_folder_and_those_there_are_kept(tmp_path):
    mine = tmp_path / "notebooks" / "02_train.ipynb"
    mine.parent.mkdir()
    mine.write_text("mine")
    new = copy_notebooks(tmp_path)
    there = {file.relative_to(FOLDER) for file in [*ordered(), *ordered(["lessons"])]}
    assert {file.relative_to(tmp_path / "notebooks") for file in new} == there - {mine.relative_to(mine.parent)}
    assert mine.read_text() == "mine" and copy_notebooks(tmp_path) == []
    assert (tmp_path / "notebooks/01_inspect_data.ipynb").read_bytes() == (
        FOLDER / "01_inspect_data.ipynb"
    ).read_bytes()


def test_relative_paths_start_at_the_root(tmp_path, monkeypatch):
    for inside in (PROJECT, FOLDER, FOLDER / "lessons", PROJECT / "tests"):
        monkeypatch.chdir(inside)
        assert project_root() == PROJECT
    (tmp_path / "notebooks/lessons").mkdir(parents=True)
    for outside in (tmp_path, tmp_path / "notebooks", tmp_path / "notebooks/lessons"):
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
    assert (
        environment["MLWORKBENCH_ROOT"] == str(folder)
        and f"{len([*ordered(), *ordered(['lessons'])])} notebooks copied" in capsys.readouterr().out
    )


def test_what_is_planted_is_told_of_the_built_in_data_alone(demo_labels, write_labels):
    told = planted(read_labels(demo_labels))
    assert "built-in data" in told and "- 3% of the labels" in told
    assert planted(read_labels(write_labels([("a.jpg", [1]), ("b.jpg", [0])]))) == ""


def test_the_use_of_answers_names_this_run_and_where_it_will_be_moved(tmp_path):
    (tmp_path / "mine.1").mkdir()
    lines = use_of_answers(tmp_path / "mine")
    assert f'"{tmp_path}/mine/corrections.csv"' in lines and compile(lines, "cell", "exec")
    assert f'mw.Run("{tmp_path}/mine.2"), mw.Run("{tmp_path}/mine")' in lines
