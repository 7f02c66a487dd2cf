"""Pictures of README and docs, drawn anew from a finished run: each as JupyterLab shows it in Chromium, light theme.

`make gallery RUN_DIR=runs/demo` writes docs/images. It works on a copy of the run, so the answers that it gives for a
picture are none of the run's own. Notebook 06 has its picture drawn if it was run on this run; else that one stays.
"""

import argparse
import io
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
from PIL import Image, ImageChops, ImageDraw, ImageFont

DOCS = Path(__file__).resolve().parent
IMAGES = DOCS / "images"
sys.path.insert(0, str(DOCS.parent / "tests/browser"))
import lab  # noqa: E402

BEGIN = """
from mlworkbench import Run, analysis, data, deploy, find_suspects, views
from mlworkbench.analysis.approaches import APPROACHES
run = Run({run!r})
trained = {{name: Run(run.folder / "approaches" / name) for name in APPROACHES}}
"""
SHOWN = {  # what stands for each notebook
    "01": "views.show(views.class_examples(data.prepare(run.table()).spread('train', 12)))",
    "02": "views.show(views.history(run.history))",
    "03": "views.ThresholdTuner(run.validation(), run.thresholds(), root=run.root, save=run.save_thresholds)",
    "04": "views.LabelReview(run, find_suspects(run, 'val'))",
    "05": "deploy.try_out(run)",
    "06": "views.show(views.comparison(analysis.comparison(trained)))",
}
THUMBNAIL, MARGIN = (560, 350), 12
WIDTH, TITLE = 1000, 44  # pixels of the recording, and of the words above it
FIRST, STEP, LAST = 1800, 700, 2500  # ms that its frames stay
SETTLED = 1500  # ms after which images that follow a step are there


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", required=True, type=Path, help="a finished run, tuned, whose images are at hand")
    parser.add_argument("--out", default=IMAGES, type=Path, help="folder of the pictures (docs/images)")
    args = parser.parse_args()
    if lab.chromium() is None:
        sys.exit("error: the pictures need Chromium (apt-get install chromium)")
    with tempfile.TemporaryDirectory() as home:
        draw(args.run, args.out, Path(home))
    for file in sorted(args.out.iterdir()):
        print(f"{file}  {file.stat().st_size / 1e3:.0f} kB")


def draw(run: Path, out: Path, home: Path) -> None:
    """Draw all pictures of a run into a folder; `home` takes what passes on the way."""
    copy, notebooks = home / run.resolve().name, home / "notebooks"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("notebooks", "export", "corrections.csv*"))
    shown = {number: source for number, source in SHOWN.items() if number != "06" or (copy / "approaches").exists()}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    sources = [BEGIN.format(run=str(copy)), *shown.values()]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebooks.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), notebooks / "gallery.ipynb")
    out.mkdir(parents=True, exist_ok=True)
    with lab.opened(home, notebooks, "gallery.ipynb", 1440, 1000) as book:
        book.run()
        book.page.wait_for_timeout(SETTLED)
        outputs = {number: book.page.locator(".jp-CodeCell").nth(n) for n, number in enumerate(shown, 1)}
        frames = [*record("Labels that may be wrong, the most suspect first: one key each", outputs["04"], review)]
        frames += record("Thresholds: move one, and see what it lets in and leaves out", outputs["03"], tune)
        for number, output in outputs.items():
            thumbnail(picture(output)).save(out / f"{number}.webp", quality=80, method=6)
        for number, name in (("03", "tuner"), ("04", "review")):
            picture(outputs[number]).save(out / f"{name}.webp", quality=85, method=6)
    save(frames, out / "workbench.webp")


def picture(output) -> Image.Image:
    """The output of a cell without the page's ground around it."""
    found = output.locator(".jp-OutputArea-output").last
    found.scroll_into_view_if_needed()
    shot = Image.open(io.BytesIO(found.screenshot())).convert("RGB")
    ground = Image.new("RGB", shot.size, shot.getpixel((shot.width - 1, shot.height - 1)))
    return shot.crop(ImageChops.difference(shot, ground).getbbox())


def thumbnail(shot: Image.Image) -> Image.Image:
    """The upper part of a picture at the size in which a front page has room for it."""
    small = as_wide(shot, THUMBNAIL[0] - 2 * MARGIN)
    page = Image.new("RGB", THUMBNAIL, "white")
    page.paste(small, (MARGIN, max(MARGIN, (page.height - small.height) // 2)))
    return page


def as_wide(shot: Image.Image, width: int) -> Image.Image:
    """A picture at another width."""
    return shot.resize((width, round(shot.height * width / shot.width)), Image.Resampling.LANCZOS)


def record(title: str, output, steps: Callable) -> Iterator[tuple[Image.Image, int]]:
    """Frames of a widget while it is used, each under a title, and the ms that it stays."""
    yield titled(title, picture(output)), FIRST
    for stays in steps(output):
        output.page.wait_for_timeout(SETTLED)
        yield titled(title, picture(output)), stays


def tune(output) -> Iterator[int]:
    """Another class, its threshold moved to and fro, then set by a rule."""
    classes, slider = output.get_by_role("listbox").first, output.get_by_role("slider").first
    classes.focus()
    for _ in range(2):
        classes.press("ArrowDown")
        yield STEP
    slider.focus()
    for key in 3 * ["PageUp"] + 2 * ["PageDown"]:
        slider.press(key)
        yield STEP
    output.get_by_role("button", name="Best F1").click()
    yield LAST


def review(output) -> Iterator[int]:
    """A few suspects answered, and where the network looked."""
    output.locator(".mlw-review").focus()
    for key in "wwmmww":
        output.page.keyboard.press(key)
        yield STEP
    yield LAST


def titled(title: str, shot: Image.Image) -> Image.Image:
    """A frame of the recording."""
    small = as_wide(shot, WIDTH - 2 * MARGIN)
    page = Image.new("RGB", (WIDTH, TITLE + small.height + MARGIN), "white")
    page.paste(small, (MARGIN, TITLE))
    ImageDraw.Draw(page).text((MARGIN, 8), title, "#222", ImageFont.load_default(22))
    return page


def save(frames: list[tuple[Image.Image, int]], file: Path) -> None:
    """The recording as an animated WebP, all frames as high as the highest."""
    size = WIDTH, max(frame.height for frame, _ in frames)
    pages = [Image.new("RGB", size, "white") for _ in frames]
    for page, (frame, _) in zip(pages, frames, strict=True):
        page.paste(frame, (0, 0))
    stays = [ms for _, ms in frames]
    pages[0].save(file, save_all=True, append_images=pages[1:], duration=stays, loop=0, quality=70, method=4)


if __name__ == "__main__":
    main()
