"""Every notebook and lesson in a real JupyterLab in Chromium: run, each widget used, looked at in both themes."""

import json
import re
from contextlib import suppress
from pathlib import Path

import lab
import nbformat
import papermill as pm
import psutil
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from playwright.sync_api import TimeoutError

from mlworkbench.notebooks import FOLDER, LESSONS, copy_notebooks, ordered

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(lab.chromium() is None, reason="needs Chromium (apt-get install chromium)"),
]
FILES = [*ordered(), *ordered([LESSONS])]
TINY = {"run_dir": "run", "epochs": 2, "image_size": 32, "batch_size": 8, "precision": "fp32", "top_k": 3}
# What a person does with each kind of widget: the first kind that is found in an output is the one that it is.
ACTS = {
    ".mlw-tuner": lambda box: box.get_by_role("slider", name="Threshold").press("PageUp"),
    ".mlw-review": lambda box: box.press("n"),
    ".mlw-map": lambda box: box.get_by_role("combobox", name="Colour by").press("ArrowDown"),
    ".mlw-app": lambda box: box.press("n"),
    "[role=slider]": lambda box: box.press("ArrowLeft" if at_its_end(box) else "ArrowRight"),
    "input[role=combobox]": lambda box: box.press("ArrowDown"),
    "select": lambda box: box.press("ArrowDown"),
}
LIVE = ".jp-OutputArea-output:has(.jupyter-widgets)"
LOOK = """output => [output.innerText, ...[...output.querySelectorAll('img')].map(its => its.src),
  ...[...output.querySelectorAll('path')].map(its => its.getAttribute('d') + its.style.fill)].join()"""
IDLE = "output => !output.querySelector('[aria-busy=true]')"
TRIES = 4
MOST = 1.5  # GB that a lesson's kernel may take: Binder ends those above 1 to 2
# JupyterLab's own: it asks for settings of the workspace or a kernel that are not there yet.
HARMLESS = ("Failed to load resource",)


@pytest.fixture(scope="module")
def open_notebook(demo_labels, tmp_path_factory):
    """All notebooks in a folder of their own with tiny parameters, opened by name; they share one run folder."""
    home = tmp_path_factory.mktemp("lab")
    work = home / "work"
    for file in copy_notebooks(work):
        declared = pm.inspect_notebook(str(file))
        values = {name: value for name, value in (TINY | {"labels_file": str(demo_labels)}).items() if name in declared}
        nbformat.write(parameterize_notebook(load_notebook_node(str(file)), values), file)
    with lab.served(home, work) as open_notebook:
        yield open_notebook


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_runs_each_widget_answers_and_both_themes_are_seen(open_notebook, file, tmp_path):
    book = open_notebook(f"notebooks/{file.relative_to(FOLDER)}")
    try:
        book.run(300)
        if file.parent.name == LESSONS:
            assert peak_of_kernels(book.lab) < MOST
        outputs = book.page.locator(LIVE)
        for place in range(outputs.count()):
            use(outputs.nth(place))
        for theme, width, height in (("Light", 1280, 720), ("Dark", 1920, 1080)):
            book.page.set_viewport_size({"width": width, "height": height})
            choose(book.page, theme)
            picture = tmp_path / f"{file.stem}-{theme.lower()}.png"
            book.page.screenshot(path=picture)
            assert picture.stat().st_size > 20_000
        choose(book.page, "Light")
        assert book.problems == []
        assert [said for said in book.console if not said.startswith(HARMLESS)] == []
    finally:
        book.page.screenshot(path=tmp_path / "last.png")
        book.close()


def peak_of_kernels(server):
    """The most memory in GB that a kernel of the server has taken; 0 where the system does not tell (Linux does)."""
    kernels = psutil.Process(server.process.pid).children(recursive=True)
    told = [file.read_text() for its in kernels if (file := Path(f"/proc/{its.pid}/status")).exists()]
    return max((int(re.search(r"VmHWM:\s+(\d+)", text)[1]) / (1 << 20) for text in told), default=0)


def at_its_end(slider):
    return slider.get_attribute("aria-valuenow") == slider.get_attribute("aria-valuemax")


def use(output):
    """Do with a widget what a person does, and see it change."""
    output.scroll_into_view_if_needed()
    kind = next((kind for kind in ACTS if output.locator(kind).count()), None)
    assert kind, f"a widget that nobody uses here: add what a person does with it to ACTS\n{output.inner_html()[:500]}"
    for place in range(output.locator(kind).count()):
        box = output.locator(kind).nth(place)
        if kind == "select" and box.locator("option").count() < 2:
            continue
        before = output.evaluate(LOOK)
        changed = f"([output, before]) => ({LOOK})(output) !== before"
        for _ in range(TRIES):  # what is pressed while it works is dropped, and two rows may have the same images
            output.page.wait_for_function(IDLE, arg=output.element_handle())
            ACTS[kind](box)
            with suppress(TimeoutError):
                output.page.wait_for_function(changed, arg=[output.element_handle(), before], timeout=10_000)
                break
        else:
            raise AssertionError(f"{kind} does not answer")


def choose(page, theme):
    """JupyterLab's light or dark theme."""
    given = json.dumps({"theme": f"JupyterLab {theme}"})
    page.evaluate(f"() => window.jupyterapp.commands.execute('apputils:change-theme', {given})")
    page.wait_for_selector(f"body[data-jp-theme-light={'true' if theme == 'Light' else 'false'}]", state="attached")
    page.wait_for_timeout(500)
