"""The package as people install it: a wheel in an environment of its own, far from any checkout."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from conftest import PROJECT

from mlworkbench.data.demo import CLASSES
from mlworkbench.notebooks import FOLDER, ordered


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment with the wheel; what it depends on is lent by this one. And the environment's variables."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=PROJECT, check=True)
    (wheel,) = folder.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    static = ("views/static/review.js", "deploy/static/predict.py", "deploy/static/app.py", "deploy/static/card.md.j2")
    assert {f"mlworkbench/{name}" for name in static} <= {*names}
    notebooks = {str(path.relative_to(FOLDER)) for path in [*ordered(), *ordered(["lessons"])]}
    assert {name.removeprefix("mlworkbench/_notebooks/") for name in names if name.endswith(".ipynb")} == notebooks
    assert not [name for name in names if name.startswith(("tests", "notebooks", "benchmarks", "runs", "data"))]
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    python = folder / "env/bin/python"
    pip = [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--disable-pip-version-check", wheel]
    subprocess.run(pip, check=True)
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    Path(own, "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return python, environment | {"JUPYTER_PATH": str(Path(sysconfig.get_path("data"), "share", "jupyter"))}


@pytest.mark.notebook
def test_an_installed_wheel_works_far_from_the_checkout(installed, demo_labels, tmp_path):
    python, environment = installed
    place = tmp_path / "my data ж"
    place.mkdir()

    def run(*arguments):
        command = [python, "-m", "mlworkbench", *map(str, arguments)]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    where = [python, "-c", "import mlworkbench; print(mlworkbench.__file__)"]
    assert "site-packages" in subprocess.run(where, cwd=place, env=environment, capture_output=True, text=True).stdout
    assert f"81 rows, {len(CLASSES)} classes" in run("check", demo_labels)
    run("notebooks", "--out", "out", "--only", "01", "-p", "labels_file", demo_labels)
    assert (place / "out/01_inspect_data.html").exists()
    assert (place / "runs/demo/inspect/summary.json").exists()  # the default run_dir starts here
    tiny = ["--epochs", "1", "--imgsz", "32", "--precision", "fp32", "--workers", "0"]
    assert "finished" in run("train", demo_labels, "--run", "runs/first", *tiny)
    assert (place / "runs/first/predictions/test.parquet").exists()
