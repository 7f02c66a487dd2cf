"""Notebooks 01 to 04 at their defaults on the built-in data: what they find stays above floors."""

import re

import nbformat
import pytest

from mlworkbench import Run
from mlworkbench.data.demo import make_demo
from mlworkbench.notebooks import run_notebooks

pytestmark = pytest.mark.slow
SETTINGS: dict[str, str] = {}  # none: the floors are those of the defaults


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """The run at the notebooks' defaults, and what the executed notebooks print."""
    folder = tmp_path_factory.mktemp("floors")
    given = {"labels_file": str(make_demo(folder / "signs")), "run_dir": str(folder / "run")}
    written = run_notebooks(folder / "out", ["01", "02", "03", "04"], given | SETTINGS, say=lambda _: None)
    return Run(folder / "run"), {path.stem[:2]: printed(path) for path in written}


def printed(path):
    cells = nbformat.read(path, as_version=4).cells
    return "".join(out.text for cell in cells for out in cell.get("outputs", []) if out.output_type == "stream")


def test_it_learns(default):
    run, _ = default
    assert run.best_epoch["val_map"] >= 0.74


def test_most_of_the_first_suspects_are_really_wrong(default):
    _, said = default
    found = re.search(r"of the first 50 suspects (\d+) are really wrong", said["04"])
    assert int(found[1]) >= 30


def test_tuned_thresholds_gain(default):
    _, said = default
    found = re.search(r"gain ([+-][\d.]+), 95 % interval", said["03"])
    assert float(found[1]) > 0
