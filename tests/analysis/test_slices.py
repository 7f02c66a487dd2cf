from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import binom, fisher_exact

from mlworkbench import Predictions, Thresholds, WorkbenchError, read_labels
from mlworkbench.analysis.slices import COLUMNS, weak_slices
from mlworkbench.data.prepare import image_traits

DARK = 64


def drawn(seed, planted=False, images=401, missed=0.2, added=0.03):
    """Predictions whose mistakes have nothing to do with anything, but where class c2 cannot be read in the dark."""
    rng = np.random.default_rng(seed)
    y = (rng.random((images, 5)) < [0.5, 0.3, 0.3, 0.2, 0.1]).astype(np.int8)
    traits = {
        "width": rng.choice([64, 96, 128], images),
        "height": rng.integers(50, 500, images),
        "brightness": rng.uniform(0, 255, images),
        "camera": rng.choice(["old", "new"], images),
    }
    frame = pd.DataFrame(traits, [f"{i}.jpg" for i in range(images)])
    wrong = rng.random(y.shape) < np.where(y == 1, missed, added)
    if planted:
        wrong[:, 2] |= (frame.brightness < DARK).to_numpy() & (y[:, 2] == 1)
    logits = np.where((y == 1) ^ wrong, 2.0, -2.0).astype(np.float32)
    names = [f"c{i}" for i in range(5)]
    return Predictions(frame.index.to_numpy(object), names, logits, y, "test"), frame, Thresholds.default(names)


def test_a_planted_slice_comes_first():
    for seed in range(20):
        predictions, traits, thresholds = drawn(seed, planted=True)
        found = weak_slices(predictions, thresholds, traits)
        first = found.iloc[0]
        assert first.score == "c2 missed" and first.slice.startswith("brightness up to") and first.significant
        assert first.rate > 0.8 and 0 < first.low < first.difference < first.high < 1


@pytest.mark.parametrize("rates", [(0.2, 0.03), (0.1, 0.1), (0.6, 0.01)])
def test_without_one_anything_is_significant_no_more_often_than_said(rates):
    level, draws = 0.05, 200
    any_at_all = sum(
        weak_slices(*(p := drawn(seed, False, 300, *rates))[::2], p[1], level).significant.any()
        for seed in range(draws)
    )
    assert binom.sf(any_at_all - 1, draws, level) > 0.01, any_at_all


def test_each_comparison_is_fishers_test_and_a_share_of_images():
    predictions, traits, thresholds = drawn(3)
    y = predictions.labels.copy()
    y[::7, 1] = -1
    predictions = replace(predictions, y=y)
    found = weak_slices(predictions, thresholds, traits)
    present = thresholds.decide(predictions)
    masks = {f"camera {name}": (traits.camera == name).to_numpy() for name in ("old", "new")}
    masks |= {f"width {side}": (traits.width == side).to_numpy() for side in (64, 96, 128)}
    masks |= {f"c{c} present": y[:, c] == 1 for c in range(5)}
    low, middle, high = np.quantile(traits.height, [0.25, 0.5, 0.75])
    masks[f"height up to {low:.4g}"] = (traits.height <= low).to_numpy()
    masks[f"height above {middle:.4g} up to {high:.4g}"] = traits.height.between(middle, high, "right").to_numpy()
    masks[f"height above {high:.4g}"] = (traits.height > high).to_numpy()
    assert low in traits.height.values and set(masks) <= {*found.slice}
    checked = 0
    for row in found[found.slice.isin(list(masks))].itertuples():
        inside = masks[row.slice]
        if row.score == "any label wrong":
            counted, failed = (y >= 0).any(1), ((y >= 0) & (present != (y == 1))).any(1)
        else:
            c, value = int(row.score[1]), 1 if row.score.endswith("missed") else 0
            counted = y[:, c] == value
            failed = counted & (present[:, c] != value)
        cells = [[(failed & m).sum(), (counted & ~failed & m).sum()] for m in (inside, ~inside)]
        assert (row.images, row.wrong) == (sum(cells[0]), cells[0][0])
        assert row.p == pytest.approx(fisher_exact(cells, "greater").pvalue, rel=1e-6)
        assert row.rate - row.rest == pytest.approx(row.difference) and row.low <= row.difference <= row.high
        checked += 1
    assert checked > 60 and list(found.columns) == COLUMNS
    assert not found.slice[found.score == "any label wrong"].str.contains("present").any()
    significant = found.q <= 0.05
    assert (found.significant == significant).all() and (found.q >= found.p).all()


def test_the_interval_is_newcombes_own():
    """56 of 70 against 48 of 80, as his table II has it for method 10."""
    from mlworkbench.analysis.slices import _difference_interval

    low, high = _difference_interval(*(np.array([v]) for v in (56 / 70, 70, 48 / 80, 80)))
    assert (round(float(low[0]), 4), round(float(high[0]), 4)) == (0.0524, 0.3339)


def test_traits_align_by_path_and_a_missing_one_is_named():
    predictions, traits, thresholds = drawn(0)
    shuffled = traits.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(
        weak_slices(predictions, thresholds, traits), weak_slices(predictions, thresholds, shuffled)
    )
    with pytest.raises(WorkbenchError, match="no traits of the image '7.jpg' and 0 more"):
        weak_slices(predictions, thresholds, traits.drop("7.jpg"))


def test_few_images_or_nothing_wrong_give_no_alarm():
    predictions, traits, thresholds = drawn(0, images=12)
    assert not weak_slices(predictions, thresholds, traits).significant.any()
    predictions, traits, thresholds = drawn(0, missed=0, added=0)
    found = weak_slices(predictions, thresholds, traits)
    assert len(found) and (found.p == 1).all() and not found.significant.any()
    empty = replace(predictions, y=np.full_like(predictions.labels, -1))
    assert weak_slices(empty, thresholds).empty


def test_traits_of_images_and_of_the_labels_file(tmp_path, write_labels):
    for name, size, grey in (("a.png", (40, 20), 10), ("b.png", (30, 30), 200)):
        Image.new("L", size, grey).save(tmp_path / name)
    rows = "image_path,labels,camera,iso,group\n" + "".join(
        f'{name}.png,"[0, 1]",{camera},{iso},{group}\n'
        for name, camera, iso, group in (("a", "x", 100, "g"), ("b", "", "", "h"), ("gone", "y", "400", "g"))
    )
    found = image_traits(read_labels(write_labels(rows)))
    assert list(found.columns) == ["width", "height", "aspect", "brightness", "camera", "iso", "group"]
    assert found.loc["a.png", ["width", "height", "aspect", "brightness"]].tolist() == [40, 20, 2, 10]
    assert found.loc["b.png", "brightness"] == 200 and np.isnan(found.loc["gone.png", "width"])
    assert found.iso.tolist()[::2] == [100, 400] and np.isnan(found.iso["b.png"])
    assert found.camera.tolist() == ["x", "", "y"] and found.group.tolist() == ["g", "h", "g"]


def test_a_run_gives_the_traits_of_its_split(tiny_run):
    predictions = tiny_run.predictions("test")
    traits = tiny_run.traits("test")
    assert traits.index.tolist() == list(predictions.paths) and (traits.width == 96).all()
    assert not weak_slices(predictions, tiny_run.thresholds(), traits).significant.any()
