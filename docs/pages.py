"""Pages of the executed notebooks and lessons, for who reads on the web: each with its pictures, light and dark.

`make gallery RUN_DIR=runs/demo` writes docs/gallery. Notebooks that ran into RUN_DIR/notebooks are taken as they are,
those that did not are run; lessons run into a temporary folder. A page asks for nothing from elsewhere.
"""

import argparse
import base64
import io
import re
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path

import nbformat
from matplotlib.textpath import TextPath
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from PIL import Image
from pygments.formatters import HtmlFormatter

from mlworkbench.notebooks import LESSONS, ordered, project_root, run_notebooks

DOCS = Path(__file__).resolve().parent
MOST = 5e6  # bytes of all pages
WIDEST, QUALITY = 896, 72  # of pictures, as WebP
WIDGET = "application/vnd.jupyter.widget-view+json"
PLAIN = ("run_dir",)  # parameters whose value says nothing to a reader
ABOUT = (
    "What the notebooks show on the built-in data, as they ran. Tuner, review, map and sliders move in a live Jupyter: "
    "<code>mlworkbench lab</code>."
)
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="stylesheet" href="style.css"></head>
<body>{body}</body></html>
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", required=True, type=Path, help="run folder; executed notebooks lie in its `notebooks`")
    parser.add_argument("--out", default=DOCS / "gallery", type=Path, help="folder of the pages (docs/gallery)")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = [*executed(args.run, dict(args.p)), *run_notebooks(Path(folder), [LESSONS])]
        write_pages(files, args.out)
    size = sum(file.stat().st_size for file in args.out.iterdir())
    print(f"{len(files)} pages, {size / 1e6:.1f} MB: {args.out / 'index.html'}")
    if size > MOST:
        raise SystemExit(f"error: more than {MOST / 1e6:.0f} MB; lower QUALITY or WIDEST in {__file__}")


def executed(run: Path, parameters: Mapping[str, str]) -> list[Path]:
    """The executed notebooks of a run; those that are not there are run."""
    files = [run / "notebooks" / path.name for path in ordered()]
    if missing := [file.name[:2] for file in files if not file.exists()]:
        run_notebooks(run / "notebooks", missing, {"run_dir": str(run)} | dict(parameters))
    return files


def write_pages(files: Sequence[Path], out: Path) -> None:
    """Write the page of each executed notebook, their index, and the looks of all."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.html"):
        old.unlink()
    books = [nbformat.read(file, as_version=4) for file in files]
    titles = [re.match(r"# (.+)", book.cells[0].source)[1] for book in books]  # type: ignore[index]
    names = ["index.html", *(f"{file.stem}.html" for file in files), "index.html"]
    for place, (book, title) in enumerate(zip(books, titles, strict=True), 1):
        around = {"←": names[place - 1], "All notebooks": "index.html", "→": names[place + 1]}
        links = "".join(f'<a href="{name}">{text}</a>' for text, name in around.items())
        body = f"<nav>{links}</nav>\n{body_of(book)}"
        (out / names[place]).write_text(PAGE.format(title=escape(title), body=body), encoding="utf-8")
    body = index_of(dict(zip(names[1:], zip(titles, books, strict=True), strict=False)))
    (out / "index.html").write_text(PAGE.format(title="mlworkbench: notebooks", body=body), encoding="utf-8")
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("friendly", "github-dark"))
    own = (DOCS / "pages.css").read_text(encoding="utf-8")
    looks = f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n{own}"
    (out / "style.css").write_text(looks, encoding="utf-8")


def index_of(pages: Mapping[str, tuple[str, NotebookNode]]) -> str:
    """The body of the page that leads to all others."""
    parts = {"Notebooks": "", "Lessons": ""}
    for name, (title, book) in pages.items():
        about = re.sub(r"[*_`]|The question\. ", "", book.cells[0].source.split("\n\n")[1]).replace("\n", " ")
        first = " ".join(re.split(r"(?<=[.?!]) (?=[A-Z])", about)[:2])
        picture = f"images/{name[:2]}.webp"
        shown = f'<img alt="" src="../{picture}">' if (DOCS / picture).exists() else ""
        row = f'<li><a href="{name}">{shown}{escape(title)}</a><p>{escape(first)}</p></li>\n'
        parts["Lessons" if name.startswith("L") else "Notebooks"] += row
    lists = "".join(f'<h2>{what}</h2>\n<ul class="pages">\n{rows}</ul>\n' for what, rows in parts.items() if rows)
    return f"<h1>mlworkbench</h1>\n<p>{ABOUT}</p>\n{lists}"


def body_of(book: NotebookNode) -> str:
    """An executed notebook as HTML that needs neither kernel nor script from elsewhere."""
    cells, heading = [], ""
    for cell in book.cells:
        if "injected-parameters" in cell.metadata.get("tags", ()) and not told(cell.source):
            continue
        if cell.metadata.get("jupyter", {}).get("source_hidden"):  # the cell that installs
            continue
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ (.+)", cell.source, re.MULTILINE) or [heading])[-1]
            cell.source = with_formulas(cell.source)
        if cell.cell_type == "code":  # a picture stands beside each widget
            cell.outputs = [output for output in cell.outputs if stays(output)]
            for output in (output for output in cell.outputs if "image/png" in output.get("data", {})):
                output.metadata["image/png"] = {"alt": f"Figure of: {heading}"}
        cells.append(cell)
    book.cells = cells
    book.metadata.pop("widgets", None)
    exporter = HTMLExporter(
        template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True, exclude_anchor_links=True
    )
    page, _ = exporter.from_notebook_node(book)
    page = page.replace(f"{project_root()}/", "")  # whose machine it ran on says nothing to a reader
    page = re.sub(rf"{re.escape(tempfile.gettempdir())}/\w+/?", "", page)
    page = re.sub(r'href="([\w/]*)([0-9L]\d_\w+)\.ipynb"', r'href="\2.html"', page)
    page = re.sub(r"<code>([0-9L]\d_\w+)\.ipynb</code>", r'<a href="\1.html">\1</a>', page)
    return re.sub(r"data:image/(?:png|jpeg);base64,([\w+/=\s]+)", smaller, page)


def stays(output: NotebookNode) -> bool:
    """Whether an output says anything on a page: no widget, and not the blank that a progress bar leaves."""
    data = output.get("data", {"text/plain": output.get("text", output.output_type)})
    return WIDGET not in data and any(str(value).strip() for value in data.values())


def told(source: str) -> list[str]:
    """Parameters in an injected cell that a reader should know of."""
    return [name for name in re.findall(r"^(\w+) = ", source, re.MULTILINE) if name not in PLAIN]


def smaller(found: re.Match[str]) -> str:
    """A picture inside a page as WebP, no wider than need be: flat colours as they are, photographs nearly so."""
    picture = Image.open(io.BytesIO(base64.b64decode(found[1])))
    picture.thumbnail((WIDEST, 10 * WIDEST), Image.Resampling.LANCZOS)
    tries = []
    for how in (partial(picture.save, lossless=True), partial(picture.save, quality=QUALITY)):
        kept = io.BytesIO()
        how(kept, format="webp", method=4)
        tries.append(kept.getvalue())
    return f"data:image/webp;base64,{base64.b64encode(min(tries, key=len)).decode()}"


def with_formulas(source: str) -> str:
    """Markdown whose formulas, `$…$` outside code, are drawings; one that cannot be drawn stays as it is written."""

    def drawn(found: re.Match[str]) -> str:
        return found[0] if found["tex"] is None else formula(found["tex"])

    return re.sub(r"```.*?```|`[^`]*`|(?<![\\$])\$(?P<tex>[^$\n]+)\$", drawn, source, flags=re.DOTALL)


def formula(tex: str) -> str:
    """A formula as SVG in the colour of the text around it."""
    try:
        outline = TextPath((0, 0), f"${tex}$", size=10)
    except ValueError:
        return f"<code>{escape(tex)}</code>"
    letters = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
    steps = [
        letters[int(code)] + ("" if code == 79 else " ".join(f"{number:.2f}" for number in points))
        for points, code in outline.iter_segments(curves=True, simplify=False)
    ]
    box = outline.get_extents()
    view = f"{box.x0:.1f} {-box.y1:.1f} {box.width:.1f} {box.height:.1f}"
    style = f"--height: {box.height / 10:.2f}em; --drop: {box.y0 / 10:.2f}em"
    path = f'<path transform="scale(1 -1)" d="{"".join(steps)}"/>'
    return f'<svg class="math" role="img" aria-label="{escape(tex)}" viewBox="{view}" style="{style}">{path}</svg>'


if __name__ == "__main__":
    main()
