"""From a key press to changed numbers in a real browser: the threshold tuner, an empty callback, and doing it naively.

The tuner's page counts by itself, so it should take a small part of what an empty callback in the kernel takes.
Nothing here is a test: machines differ and are noisy, so the three take turns in one page. Needs Chromium.
"""

import argparse
import random
import statistics
import sys
import tempfile
from pathlib import Path

import nbformat
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/browser"))
import lab

# The three in one notebook. Empty: the same slider, one label set. Naive: scikit-learn on every class and a new figure.
NOTEBOOK = """
import base64
import ipywidgets as w, numpy as np
from IPython.display import display
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, precision_recall_fscore_support
from mlworkbench.views.style import png
from mlworkbench import Predictions, tune_thresholds
from mlworkbench.views import plots
from mlworkbench.views.tuner import ThresholdTuner
from pathlib import Path

rng, images, classes = np.random.default_rng(0), {images}, 80
y = (rng.random((images, classes)) < np.geomspace(0.3, 0.003, classes)).astype(np.int8)
logits = (rng.normal(3 * y - 2.5, 1.5)).astype(np.float32)
paths = np.array([f"{{i % 200}}.jpg" for i in range(images)], object)
predictions = Predictions(paths, [f"class {{c}}" for c in range(classes)], logits, y, "val")
p = predictions.probabilities
thresholds = tune_thresholds(predictions)
tuner = ThresholdTuner(predictions, thresholds, Path({root!r}), print)

def paired(name, callback):
    slider, out = w.FloatSlider(0.3, min=0, max=1, step=0.01, description=name), w.HTML()
    slider.observe(lambda change: setattr(out, "value", callback(change["new"])), "value")
    return w.VBox([slider, out]).add_class(name)

values = thresholds.values.copy()
def naive(value):
    values[0] = value
    precision, recall, f1, _ = precision_recall_fscore_support(y, p >= values, average=None, zero_division=0)
    figure = Figure(figsize=(6, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*precision_recall_curve(y[:, 0], p[:, 0])[1::-1])
    left.plot(recall[0], precision[0], "o")
    right.hist([p[y[:, 0] == 1, 0], p[y[:, 0] == 0, 0]], 50)
    right.axvline(value)
    data = base64.b64encode(png(figure)).decode()
    numbers = f"{{precision[0]:.3f}} {{recall[0]:.3f}} {{f1[0]:.3f}} {{f1.mean():.4f}}"
    return f"{{numbers}}<img src='data:image/png;base64,{{data}}'>"

display(paired("empty", lambda value: f"{{value:.2f}}"), paired("naive", naive), tuner)
"""
# Milliseconds from the key to the change in the page, and to the end of the frame that shows it.
LISTEN = """([slider, place]) => {
  const handle = document.querySelector(slider), watched = document.querySelector(place);
  const found = window.found = {};
  handle.addEventListener('keydown', () => { found.start = performance.now() }, { capture: true, once: true });
  const observer = new MutationObserver(() => {
    observer.disconnect();
    found.changed = performance.now() - found.start;
    requestAnimationFrame(() => setTimeout(() => { found.painted = performance.now() - found.start }));
  });
  observer.observe(watched, { childList: true, subtree: true, characterData: true });
  handle.focus();
}"""
PLACES = {
    "empty": (".empty [role=slider]", ".empty .widget-html"),
    "tuner": (".mlw-tuner [type=range]", ".mlw-scores"),
    "naive": (".naive [role=slider]", ".naive .widget-html"),
}


def press(page, place: str, key: str) -> tuple[float, float]:
    page.evaluate(LISTEN, PLACES[place])
    page.keyboard.press(key)
    page.wait_for_function("() => window.found.painted !== undefined", timeout=60_000)
    found = page.evaluate("() => window.found")
    return found["changed"], found["painted"]


def measure(images: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    times: dict[str, list[tuple[float, float]]] = {place: [] for place in PLACES}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home, notebooks = Path(folder), Path(folder, "notebooks")
        notebooks.mkdir()
        rng, waits = np.random.default_rng(0), random.Random(0)
        for i in range(200):
            pixels = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(home / f"{i}.jpg")
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK.format(images=images, root=folder))])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, notebooks / "bench.ipynb")
        with lab.opened(home, notebooks, "bench.ipynb", height=1600) as opened:
            opened.run(600)
            opened.page.locator(".mlw-tuner [type=range]").scroll_into_view_if_needed()
            for place in PLACES:
                press(opened.page, place, "ArrowRight")  # the first draws what later ones only change
            for turn in range(rounds):
                for place, presses in (("empty", 10), ("tuner", 10), ("naive", 2)):
                    for _ in range(presses):
                        # Now and then past the rest, so that keys also meet the loading of images.
                        opened.page.wait_for_timeout(waits.uniform(50, 450))
                        times[place].append(press(opened.page, place, ("ArrowRight", "ArrowLeft")[turn % 2]))
            assert not opened.problems, opened.problems
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a tenth of the images, fewer keys")
    quick = parser.parse_args().quick
    if lab.chromium() is None:
        print("the tuner's latency needs Chromium (apt-get install chromium)")
        return
    images = 5000 if quick else 50_000
    times = measure(images, 3 if quick else 10)
    print(f"key press to changed numbers, {images:,} images x 80 classes, median (quartiles) in ms")
    for column, what in enumerate(("in the page", "painted")):
        middle = {}
        for place, found in times.items():
            low, middle[place], high = statistics.quantiles([row[column] for row in found], n=4)
            print(f"  {what}, {place}: {middle[place]:.1f} ({low:.1f} to {high:.1f}), {len(found)} keys")
        print(
            f"  {what}: {middle['tuner'] / middle['empty']:.2f} times an empty callback (asked: less than 1), "
            f"naive takes {middle['naive'] / middle['tuner']:.0f} times as long (asked: at least 10)"
        )


if __name__ == "__main__":
    main()
