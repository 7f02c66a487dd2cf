"""Two lessons need no torch."""

import ast
import os
import subprocess
import sys

import nbformat
import pytest
from conftest import PROJECT

LESSONS = sorted((PROJECT / "notebooks" / "lessons").glob("L[0-9]_*.ipynb"))
LIGHT = [path for path in LESSONS if path.name[:2] in ("L4", "L5")]


def cells_of(path):
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def without_torch(source):
    """Run a source in a process of its own, which fails if that imports torch."""
    ends = "import sys\nassert not {'torch', 'torchvision', 'ultralytics'} & set(sys.modules), 'torch was imported'\n"
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-c", f"{source}\n{ends}"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_checks_and_hints_need_no_torch():
    without_torch("import mlworkbench.lessons")


def test_there_are_two_light_lessons():
    assert [path.stem for path in LIGHT] == ["L4_averages", "L5_decisions"]


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_lessons_without_a_network_need_no_torch(path):
    source = "\n".join(cells_of(path))
    assert all(not isinstance(node, ast.Await) for node in ast.walk(ast.parse(source)))
    without_torch(source)
