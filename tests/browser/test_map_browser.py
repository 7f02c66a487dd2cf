"""The map of the data in a real JupyterLab in Chromium: drawn, clicked, encircled and coloured."""

import re

import lab
import numpy as np
import pytest
from PIL import Image

NAMES = ["cat", "<script>alert(1)</script>", "$x^2$"]
CELL = """import numpy as np
from pathlib import Path
from mlworkbench import Predictions
from mlworkbench.analysis.datamap import MappedImages
from mlworkbench.views.map import DataMap
kept = np.load("images.npz", allow_pickle=True)
said = Predictions(kept["paths"], {names!r}, kept["logits"], kept["y"])
data_map = DataMap(MappedImages(said, said.probabilities >= 0.5, kept["split"], kept["features"], Path("images")))
data_map"""
pytestmark = pytest.mark.skipif(lab.chromium() is None, reason="needs Chromium (apt-get install chromium)")


@pytest.fixture
def book(tmp_path, rng):
    """A notebook whose one cell shows 80 images, of which number 70 looks much like number 3; 79 lies far outside."""
    notebooks = tmp_path / "notebooks"
    (notebooks / "images").mkdir(parents=True)
    features = rng.normal(size=(80, 40)).astype(np.float32)
    features[70] = features[3] + rng.normal(0, 0.02, 40)
    features[79] *= 6
    paths = np.array([f"{i} <img src=x onerror=alert(1)> $y$.png" for i in range(80)], object)
    for path in paths:
        Image.new("RGB", (24, 24), tuple(rng.integers(0, 256, 3).tolist())).save(notebooks / "images" / path)
    split = np.array(["train"] * 50 + ["val"] * 20 + ["test"] * 10, object)
    kept = {"y": rng.integers(-1, 2, (80, 3)).astype(np.int8), "logits": rng.normal(size=(80, 3)).astype(np.float32)}
    np.savez(notebooks / "images.npz", features=features, paths=paths, split=split, **kept)
    with lab.opened_cell(tmp_path, CELL.format(names=NAMES)) as book:
        yield book
        assert book.problems == []


def test_the_map_is_drawn_clicked_encircled_and_coloured(book, tmp_path):
    page, box = book.page, book.page.locator(".mlw-map")
    points = box.locator(".scatterlayer .trace").nth(0).locator("path.point")  # neither lines nor rings yet
    points.nth(79).wait_for()
    assert points.count() == 80
    images, says = box.locator("figure img"), box.get_by_role("status")

    # A click shows the image: the one far outside, which nothing hides.
    middles = points.evaluate_all("all => all.map(p => p.getBoundingClientRect()).map(r => [r.x + r.width / 2, "
                                  "r.y + r.height / 2])")  # fmt: skip
    middles = np.array(middles)
    far = np.linalg.norm(middles - np.median(middles, axis=0), axis=1).argmax()
    page.mouse.move(*middles[far])
    page.mouse.click(*middles[far])
    says.filter(has_text="1 image shown").wait_for()
    assert images.get_attribute("alt") == "79 <img src=x onerror=alert(1)> $y$.png"
    assert images.evaluate("image => image.naturalWidth") == 192

    # A choice of colours changes the points; names in the list are text.
    before = points.evaluate_all("all => all.map(p => p.style.fill)")
    assert len(set(before)) == 3
    colour = box.get_by_role("combobox", name="Colour by")
    colour.focus()
    page.keyboard.type("SCRIPT")
    page.keyboard.press("Enter")
    assert colour.input_value() == f"class: {NAMES[1]}"
    box.get_by_text(re.compile(r"^present \(\d+\)$")).wait_for()
    page.wait_for_function(
        "before => [...document.querySelectorAll('.mlw-map .trace:nth-child(1) path.point')]"
        ".map(p => p.style.fill).join() != before",
        arg=",".join(before),
    )

    # A line around all shows twelve, also once colours have changed, and so does a second line within the first.
    area = box.locator(".nsewdrag").bounding_box()
    for inset in (4, 40):
        left, top = area["x"] + inset, area["y"] + inset
        right, bottom = area["x"] + area["width"] - inset, area["y"] + area["height"] - inset
        page.mouse.move(left, top)
        page.mouse.down()
        for x, y in ((right, top), (right, bottom), (left, bottom), (left, top + 5)):
            page.mouse.move(x, y, steps=8)
        page.mouse.up()
        said = r"^80 selected" if inset == 4 else r"^(?!80)\d+ selected"
        says.filter(has_text=re.compile(said)).wait_for()
        assert images.count() == 12

    # Pairs side by side, ringed once they are asked for, and the other arrangement.
    # How many points each layer has: all images, the rings, and in newer plotly those that are selected.
    layers = "[...document.querySelectorAll('.mlw-map .trace')].map(its => its.querySelectorAll('path.point').length)"
    assert 2 not in page.evaluate(layers)
    box.get_by_label("Near duplicates across splits (1 pair)").check()
    says.filter(has_text="1 pair across splits").wait_for()
    assert [name.split()[0] for name in images.evaluate_all("all => all.map(i => i.alt)")] == ["3", "70"]
    places = [image.bounding_box() for image in images.all()]
    assert places[0]["y"] == places[1]["y"] and places[0]["x"] < places[1]["x"]
    page.wait_for_function(f"() => {layers}.includes(2)")
    page.mouse.move(middles[0][0], middles[0][1])
    page.keyboard.press("?")  # the picture has no focus, but the mouse
    keys = box.get_by_role("dialog", name="Keys")
    keys.filter(has_text="around points").wait_for()
    page.keyboard.press("Escape")
    assert not keys.is_visible()
    box.get_by_role("button", name="t-SNE").click()
    box.get_by_role("button", name="Back to PCA").wait_for(timeout=60_000)

    controls = re.findall(r"- '?(button|combobox|checkbox)\b(.*)", box.aria_snapshot())
    assert len(controls) >= 5 and all('"' in rest for _, rest in controls), controls
    assert page.locator(".mlw-map script, .mlw-map mjx-container, .mlw-map [onerror]").count() == 0
    assert box.locator(".modebar-btn").filter(has_text="Share").count() == 0
    assert page.locator("[data-title*=Share], [data-title*=loud]").count() == 0
    page.screenshot(path=tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000
