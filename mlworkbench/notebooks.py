"""Notebooks: where they lie, where their paths start, a run of all of them, and the servers that open them."""

import ast
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from traitlets.config import Config

from .data.corrections import correct, read_corrections
from .data.demo import make_demo
from .data.labels import LabelTable, read_labels
from .exceptions import RunFailed, WorkbenchError
from .files import read_json, write_whole
from .runs.folder import aside_of, writing

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "notebooks").is_dir() and not (PACKAGE / "_notebooks").exists() else None
FOLDER = PACKAGE / "_notebooks" if CHECKOUT is None else CHECKOUT / "notebooks"  # a wheel carries a copy
LESSONS = "lessons"  # the folder inside FOLDER, and the word that stands for all of them
ROOT = "MLWORKBENCH_ROOT"  # the environment variable by which `lab` tells its kernels where paths start
NAME, HERE = "mlworkbench", "127.0.0.1"  # of our kernel and template; where the page is served
DEMO_LABELS = Path("data/signs/labels.csv")
PATHS = ("labels_file", "image_root", "classes_file", "splits_file", "corrections", "run_dir", "source", "out_dir")


def project_root() -> Path:
    """The folder at which a notebook's relative paths start.

    The one that `mlworkbench lab` was told; a checkout of the project, while at work inside it; else the working
    folder, or the one above where that is called `notebooks` or is the folder of the lessons in it.
    """
    if ROOT in os.environ:
        return Path(os.environ[ROOT])
    here = Path.cwd()
    if CHECKOUT is not None and here.is_relative_to(CHECKOUT):
        return CHECKOUT
    here = here.parent if here.parts[-2:] == ("notebooks", LESSONS) else here
    return here.parent if here.name == "notebooks" else here


def from_project(path: str | Path) -> Path:
    """A path as notebooks take it: a relative one starts at `project_root`."""
    return project_root() / path


def model_from_project(model: str) -> str:
    """A model as notebooks take it: a path of a checkpoint or run starts at `project_root`, a name stays a name."""
    return str(from_project(model)) if from_project(model).exists() else model


def copy_notebooks(folder: Path) -> list[Path]:
    """Copy notebooks and lessons into `notebooks/` of a folder; what is there is kept. Returns the new files."""
    new = []
    for source in [*ordered(), *ordered([LESSONS])]:
        file = folder / "notebooks" / source.relative_to(FOLDER)
        if not file.exists():
            write_whole(file, source.read_bytes())
            new.append(file)
    return new


def open_lab(folder: Path, options: Sequence[str] = ()) -> int:
    """Open JupyterLab on a folder whose notebooks' paths start there; returns its exit status when it ends."""
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}", *options]
    return subprocess.run(command, env=os.environ | {ROOT: str(folder)}, check=False).returncode


def open_app(run: Path, root: Path | None = None, port: int | None = None, browser: bool = True) -> None:
    """Serve the page for trying a run out (`deploy.try_out`) by Voilà, on this machine alone, until interrupted.

    Parameters
    ----------
    port : by default a free one
    browser : whether to open the page; its address, with the token that it asks for, is printed in any case

    Raises
    ------
    WorkbenchError : no Voilà, a run that cannot be read, or a port that is taken
    """
    try:
        from voila.app import Voila
    except ImportError:
        raise WorkbenchError('the page needs Voilà: pip install "mlworkbench[app]"') from None
    import nbformat
    from tornado.ioloop import IOLoop

    from .runs.folder import STATE
    from .views.style import STATIC

    read_json(run / STATE)  # what is no run folder is told here; the page would only say that something went wrong
    port, token = _free_port(port), secrets.token_urlsafe(24)
    places = ", ".join(repr(str(place.resolve())) for place in (run, root) if place is not None)
    cell = nbformat.v4.new_code_cell(f"from mlworkbench import deploy\n\ndeploy.try_out({places})")
    with _own_jupyter_path() as folder:
        template = folder / "voila" / "templates" / NAME
        template.mkdir(parents=True)
        (template / "conf.json").write_bytes(b'{"base_template": "lab"}')
        (template / "index.html.j2").write_bytes((STATIC / "app.html.j2").read_bytes())
        page = folder / "page" / "page.ipynb"  # alone in its folder, which is the one that Voilà serves
        page.parent.mkdir()
        about = {"title": f"Try out {run.resolve().name}", "kernelspec": {"name": NAME, "display_name": NAME}}
        nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=about), page)
        app = Voila(
            ip=HERE,
            port=port,
            port_retries=0,
            token=token,
            open_browser=False,  # it would open without the token
            config_file_paths=[],
            notebook_path=str(page),
            log_level="ERROR",
            config=Config(
                VoilaConfiguration={
                    "template": NAME,
                    "file_allowlist": [],
                    "allow_template_override": "NO",
                    "allow_theme_override": "NO",
                },
                MappingKernelManager={"cull_idle_timeout": 600, "cull_interval": 60},
            ),
        )
        app.initialize([])
        address = f"http://{HERE}:{port}/?token={token}"

        def told() -> None:
            print(f"{address}\nCtrl-C ends it", flush=True)
            if browser:
                Thread(target=webbrowser.open, args=[address], daemon=True).start()

        IOLoop.current().add_callback(told)  # once it listens
        app.start()


def _free_port(wanted: int | None) -> int:
    try:
        with socket.create_server((HERE, wanted or 0)) as trial:
            return int(trial.getsockname()[1])
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WorkbenchError(f"port {wanted}: {reason}; choose another, or leave out --port") from None


def ordered(only: Sequence[str] = ()) -> list[Path]:
    """The notebooks `NN_name.ipynb` in order; or those with these numbers, lessons (`LN_name.ipynb`) among them.

    Raises
    ------
    WorkbenchError : a number that no notebook has
    """
    notebooks = {path.stem.split("_")[0]: path for path in sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))}
    lessons = {path.stem.split("_")[0]: path for path in sorted((FOLDER / LESSONS).glob("L*_*.ipynb"))}
    if not notebooks:
        raise WorkbenchError(f"no notebooks in {FOLDER}")
    chosen = {name for part in only for name in (lessons if part == LESSONS else [part])} if only else {*notebooks}
    found = notebooks | lessons
    if odd := [name for name in only if name != LESSONS and name not in found]:
        raise WorkbenchError(f"notebook {odd[0]!r} not in {FOLDER}; expected of {', '.join([*found, LESSONS])}")
    return [path for name, path in found.items() if name in chosen]


def run_notebooks(
    out: Path, only: Sequence[str] = (), parameters: Mapping[str, str] | None = None, say: Callable[[str], None] = print
) -> list[Path]:
    """Run the notebooks into `out`, each as `.ipynb` and `.html`; what an earlier run of them left there moves aside.

    Parameters
    ----------
    only : numbers such as "01" and "L4", or "lessons"; all notebooks without the lessons by default
    parameters : name to value, as text; each notebook gets those that it declares

    Raises
    ------
    WorkbenchError : a parameter that none of these notebooks declares, a value that does not fit its type, or a
        folder that another process writes into
    RunFailed : a cell failed; the executed notebook is kept with its traceback, and its HTML
    """
    if out.resolve() in (FOLDER, FOLDER / LESSONS):
        raise WorkbenchError(f"--out {out} is where the notebooks themselves lie; choose another folder")
    paths = ordered(only)
    values = _values(paths, dict(parameters or {}))
    written = [out / path.name for path in paths]
    with writing(out, "--out", ".notebooks"), _own_jupyter_path():  # a lock of its own: `out` may be a run folder too
        if aside := _move_aside(written):
            say(f"what an earlier run left in {out} was moved aside to {aside}")
        for path, target in zip(paths, written, strict=True):
            start = time.monotonic()
            say(f"{path.stem} …")
            _execute(path, target, values[path])
            say(f"{path.stem} done in {time.monotonic() - start:.0f} s: {target.with_suffix('.html')}")
    return written


def _values(paths: Sequence[Path], given: Mapping[str, str]) -> dict[Path, dict[str, Any]]:
    """What each notebook gets of the parameters, in its own types."""
    import papermill as pm

    declared = {path: pm.inspect_notebook(str(path)) for path in paths}
    known = sorted({name for names in declared.values() for name in names})
    for name in (name for name in given if name not in known):
        others = [path for path in [*ordered(), *ordered([LESSONS])] if path not in paths]
        owners = [path.stem for path in others if name in pm.inspect_notebook(str(path))]
        if owners:
            which = "which is" if len(owners) == 1 else "which are"
            raise WorkbenchError(f"{name!r} belongs to {', '.join(owners)}, {which} not among those that run")
        raise WorkbenchError(f"no notebook has a parameter {name!r}; expected one of {', '.join(known)}")
    return {path: {n: _typed(n, given[n], names[n]) for n in given if n in names} for path, names in declared.items()}


def _move_aside(notebooks: Sequence[Path]) -> Path | None:
    """Move executed notebooks of one folder, and their pages, to `FOLDER.1`, `.2`, …; says where, if any were there."""
    left = [file for path in notebooks for file in (path, path.with_suffix(".html")) if file.exists()]
    if not left:
        return None
    aside = aside_of(left[0].parent.resolve())
    aside.mkdir()
    for file in left:
        file.rename(aside / file.name)
    return aside


def _execute(path: Path, target: Path, values: Mapping[str, Any]) -> None:
    """Run one notebook by papermill into `target`, and write its page, also where it fails on the way."""
    import papermill as pm
    from nbclient.exceptions import DeadKernelError

    what = ""
    try:
        pm.execute_notebook(
            str(path),
            str(target),
            values,
            kernel_name=NAME,
            cwd=str(path.parent if CHECKOUT else Path.cwd()),
            progress_bar=False,
            stdout_file=sys.stdout,
        )
    except pm.PapermillExecutionError as error:
        what = f"{error.ename}: {str(error.evalue).splitlines()[0]}" if error.evalue else error.ename
    except DeadKernelError:
        what = "its kernel died, which is often for want of memory"
    _write_html(target)
    if what:
        raise RunFailed(f"{path.name} failed: {what} (see {target})")


def _typed(name: str, text: str, declared: Mapping[str, Any]) -> Any:
    """A parameter's value in the type that the notebook's annotation or default gives it."""
    if name in PATHS:
        return None if text in ("", "None") else str(Path(text).absolute())
    if name == "model" and Path(text).exists():  # a name such as yolov8n-cls.yaml stays a name
        return str(Path(text).absolute())
    kinds = re.findall(r"\w+", declared["inferred_type_name"])
    if "str" in kinds:
        return text
    if text == "None" and "None" in kinds:
        return None
    try:
        value = ast.literal_eval(text.capitalize() if text.lower() in ("true", "false") else text)
    except (ValueError, SyntaxError):
        value = text
    value = float(value) if "float" in kinds and type(value) is int else value
    if type(value).__name__ not in kinds:
        raise WorkbenchError(f"parameter {name} is {text!r}; expected {declared['inferred_type_name']}")
    return value


@contextmanager
def _own_jupyter_path() -> Iterator[Path]:
    """A folder in which Jupyter looks first, with a kernel that is surely this interpreter: none can shadow it."""
    before = os.environ.get("JUPYTER_PATH")
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder, "kernels", NAME, "kernel.json")
        spec.parent.mkdir(parents=True)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--IPKernelApp.log_level=ERROR"]
        spec.write_bytes(json.dumps({"argv": argv, "display_name": NAME, "language": "python"}).encode())
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [folder, before]))
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ["JUPYTER_PATH"]
            else:
                os.environ["JUPYTER_PATH"] = before


def _write_html(notebook: Path) -> None:
    from nbconvert import HTMLExporter

    html, _ = HTMLExporter().from_filename(str(notebook))
    notebook.with_suffix(".html").write_text(html, encoding="utf-8")


def open_labels(
    labels_file: str | Path,
    image_root: str | Path | None = None,
    classes_file: str | Path | None = None,
    splits_file: str | Path | None = None,
    corrections: str | Path | None = None,
    tag_delimiter: str | None = None,
) -> LabelTable:
    """Read a notebook's labels file; the built-in data set is made on first need."""
    file = from_project(labels_file)
    if file == from_project(DEMO_LABELS) and not file.exists():
        print(f"making the built-in data set in {DEMO_LABELS.parent} (once)")
        make_demo(file.parent)
    root, classes, splits = (None if p is None else from_project(p) for p in (image_root, classes_file, splits_file))
    table = read_labels(file, root, classes, splits, tag_delimiter)
    return table if corrections is None else correct(table, read_corrections(from_project(corrections)))


def planted(table: LabelTable) -> str:
    """What there is to find in the built-in data; "" for any other."""
    about = table.source.parent / "demo.json"
    if not about.exists():
        return ""
    return (
        "These are the built-in data, with faults planted to be found:\n"
        f"- {read_json(about)['noise']:.0%} of the labels of each class are missing, and others are there wrongly: "
        "notebook 04 looks for them, truth.csv has the right ones\n"
        "- one image in ten is dark: does the network do worse on these? (04)\n"
        "- 'holiday' goes with a plane and 'winter' with a snowflake, though not with each, and no picture shows with "
        "which: p stays low, and only a threshold of their own finds them (03)\n"
        "- a few images stand once more in another split, a little changed, and one is a copy: told below\n"
        "- four files cannot be used: told below"
    )


def use_of_answers(run: Path) -> str:
    """The lines by which the corrections of a run are used, and by which one sees what they brought."""
    return (
        f'corrections = "{run / "corrections.csv"}"  # in notebook 02\n\n'
        f'found = mw.compare_runs(mw.Run("{aside_of(run)}"), mw.Run("{run}"), "test")  # after it has trained again\n'
        "print(found)  # found.classes: by class; found.flips: the labels of which only one run is right\n"
        "views.show(views.flip_gallery(found.flips, run.root))"
    )
