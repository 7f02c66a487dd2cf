"""Pages of executed notebooks: what they hold, and what they must not."""

import base64
import io
import re
import sys
import tempfile

import nbformat
import pytest
from conftest import PROJECT
from PIL import Image

from mlworkbench.notebooks import LESSONS, ordered

sys.path.insert(0, str(PROJECT / "docs"))
import pages

GALLERY = PROJECT / "docs/gallery"


def png(width, height):
    kept = io.BytesIO()
    Image.effect_noise((width, height), 90).save(kept, "png")
    return base64.b64encode(kept.getvalue()).decode()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The pages of two notebooks, by name."""
    folder, v4 = tmp_path_factory.mktemp("pages"), nbformat.v4
    picture, note = png(1800, 300), png(40, 40)
    gallery = (
        f"<style>p {{ color: red }}</style><div class='mlw-gallery'><img src='data:image/png;base64,{note}'></div>"
    )
    widget = {pages.WIDGET: {"model_id": "a"}, "text/plain": "VBox()"}
    begin = "# 1 · A <b>title</b>\n\nFirst. Second `code`. Third.\n\n**Needs** $\\frac{1}{2}$ and `$x$`."
    cells = [
        v4.new_markdown_cell(begin),
        v4.new_code_cell("a = 1", metadata={"tags": ["parameters"]}),
        v4.new_code_cell('# Parameters\nrun_dir = "/x/y"', metadata={"tags": ["injected-parameters"]}),
        v4.new_code_cell("show()", outputs=[
            v4.new_output("display_data", widget),
            v4.new_output("display_data", {"text/plain": "\n"}),
            v4.new_output("display_data", {"image/png": picture}),
            v4.new_output("display_data", {"text/html": gallery}),
            v4.new_output("stream", text=f"{PROJECT}/runs/demo, {tempfile.gettempdir()}/tmpab12/a.png"),
        ]),
        v4.new_markdown_cell("**Next:** `L2_b.ipynb`"),
    ]  # fmt: skip
    book = v4.new_notebook(cells=cells, metadata={"widgets": {"state": "STATE"}})
    second = v4.new_notebook(cells=[v4.new_markdown_cell("# Lesson 2 · B\n\nWhy?"), cells[2].copy()])
    second.cells[1].source += "\nepochs = 2"
    for name, its in (("01_a", book), ("L2_b", second)):
        nbformat.write(its, folder / f"{name}.ipynb")
    pages.write_pages([folder / "01_a.ipynb", folder / "L2_b.ipynb"], folder / "out")
    return {file.stem: file.read_text(encoding="utf-8") for file in (folder / "out").iterdir()}


def test_a_page_has_pictures_and_formulas_and_nothing_that_needs_a_kernel_or_a_network(made):
    page = made["01_a"]
    kinds = re.findall(r"data:image/(\w+);base64,([\w+/=]+)", page)
    assert [kind for kind, _ in kinds] == ["webp", "webp"]
    assert Image.open(io.BytesIO(base64.b64decode(kinds[0][1]))).size == (
        pages.WIDEST,
        round(300 * pages.WIDEST / 1800),
    )
    assert page.count('class="output_area"') == 3
    assert "VBox" not in page and "STATE" not in page and "model_id" not in page
    assert re.search(r'<svg aria-label="\\frac\{1\}\{2\}" class="math" role="img"', page) and "<code>$x$</code>" in page
    assert 'alt="Figure of: 1 · A &lt;b&gt;title&lt;/b&gt;"' in page
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", page) and 'class="mlw-gallery"' in page


def test_a_page_tells_of_no_machine_and_of_parameters_that_are_not_the_usual(made):
    assert "runs/demo, a.png" in made["01_a"] and str(PROJECT) not in made["01_a"]
    assert "/x/y" not in made["01_a"] and "injected" not in made["01_a"]
    assert re.search(r"epochs.*2", made["L2_b"])


def test_pages_lead_to_each_other(made):
    assert '<a href="L2_b.html">L2_b</a>' in made["01_a"] and '<a href="L2_b.html">→</a>' in made["01_a"]
    index = made["index"]
    assert re.findall(r'href="(\w+)\.html"', index) == ["01_a", "L2_b"]
    assert "<p>First. Second code.</p>" in index and "<b>title" not in index
    assert "prefers-color-scheme: dark" in made["style"]


def test_what_is_no_formula_stays_text():
    assert pages.with_formulas("`$a$` and \\$5\n```\n$b$\n```") == "`$a$` and \\$5\n```\n$b$\n```"
    assert pages.with_formulas(r"$\nonsense{$") == r"<code>\nonsense{</code>"


def test_the_gallery_is_small_and_whole():
    files = [*GALLERY.iterdir()]
    assert sum(file.stat().st_size for file in files) < pages.MOST
    books = {file.stem for file in files if file.suffix == ".html"} - {"index"}
    assert not books or books == {path.stem for path in [*ordered(), *ordered([LESSONS])]}, "make gallery"
    index = (GALLERY / "index.html").read_text(encoding="utf-8")
    assert {*re.findall(r'<li><a href="(\w+)\.html"', index)} == books
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert "widget-state" not in text and not re.search(r"<(script|link|img)[^>]+(src|href)=.https?:", text)
        assert not any(place in text for place in (f"{PROJECT}/", f"{tempfile.gettempdir()}/"))
