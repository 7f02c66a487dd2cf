from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import binom, fisher_exact, hypergeom
from simulated import World

from mlworkbench import Predictions, Thresholds, WorkbenchError, read_labels
from mlworkbench.analysis.slices import COLUMNS, slice_images, weak_slices
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
        paths = slice_images(predictions, thresholds, row._asdict(), traits)
        assert paths.tolist() == predictions.paths[failed & inside].tolist()
        assert row.rate - row.rest == pytest.approx(row.difference) and row.low <= row.difference <= row.high
        if row.score != "any label wrong":  # whose images have other numbers of labels, see below
            assert row.p == pytest.approx(fisher_exact(cells, "greater").pvalue, rel=1e-6)
            assert row.rest == pytest.approx(cells[1][0] / sum(cells[1]))
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
    assert traits.index.tolist() == list(predictions.paths) and traits.width.isin((160, 192)).all()
    assert not weak_slices(predictions, tiny_run.thresholds(), traits).significant.any()


def test_any_label_wrong_is_compared_between_images_with_as_many_labels():
    """Exact p by enumeration over the numbers of labels, the difference by Mantel and Haenszel's formula."""
    predictions, traits, thresholds = drawn(5, images=60)
    found = weak_slices(predictions, thresholds, traits)
    row = found[(found.score == "any label wrong") & (found.slice == "camera old")].iloc[0]
    wrong = (thresholds.decide(predictions) != (predictions.labels == 1)).any(1)
    inside, labels = (traits.camera == "old").to_numpy(), (predictions.labels == 1).sum(1)
    chance, above, weight = {0: 1.0}, 0.0, 0.0
    for number in np.unique(labels):
        alike = labels == number
        n, bad, mine = alike.sum(), wrong[alike].sum(), inside[alike].sum()
        following = {}
        for hits, share in chance.items():
            for more in range(min(bad, mine) + 1):
                following[hits + more] = following.get(hits + more, 0) + share * hypergeom.pmf(more, n, bad, mine)
        chance = following
        a, b = wrong[alike & inside].sum(), wrong[alike & ~inside].sum()
        above, weight = above + (a * (n - mine) - b * mine) / n, weight + mine * (n - mine) / n
    assert row.p == pytest.approx(sum(share for hits, share in chance.items() if hits >= row.wrong))
    assert row.difference == pytest.approx(above / weight)


@pytest.mark.parametrize("times", [2, 3])
def test_a_camera_with_more_labels_each_as_hard_is_no_worse(times):
    draws, significant, plain = 100, 0, 0
    rng = np.random.default_rng(times)
    for _ in range(draws):
        more = np.arange(400) % 2 == 0
        y = (rng.random((400, 8)) < np.where(more, times, 1)[:, None] * 0.1).astype(np.int8)
        wrong = rng.random(y.shape) < np.where(y == 1, 0.25, 0.02)
        logits = np.where((y == 1) ^ wrong, 2.0, -2.0).astype(np.float32)
        paths, names = np.array([f"{i}.jpg" for i in range(400)], object), [f"c{i}" for i in range(8)]
        traits = pd.DataFrame({"camera": np.where(more, "rich", "poor")}, paths)
        found = weak_slices(Predictions(paths, names, logits, y), Thresholds.default(names), traits)
        significant += (found.significant & (found.score == "any label wrong")).any()
        hit = wrong.any(1)
        cells = [[(hit & m).sum(), (~hit & m).sum()] for m in (more, ~more)]
        plain += fisher_exact(cells, "greater").pvalue <= 0.05
    assert significant <= binom.ppf(0.99, draws, 0.05) < plain


def grouped(seed, size, images=480, planted=False):
    """Images in groups of which each camera took some; planted: the first class is missed by camera a."""
    rng = np.random.default_rng(seed)
    found = World(np.linspace(0.1, 0.5, 4), np.full(4, 2.0), size).draw(rng, images)[0]
    camera = rng.choice(["a", "b", "c"], images // size)[np.arange(images) // size]
    if planted:
        z = found.logits - 5 * (camera == "a")[:, None] * (found.labels == 1)
        found = replace(found, logits=z.astype(np.float32))
    traits = pd.DataFrame({"camera": camera, "iso": rng.normal(size=images)}, found.paths)
    return weak_slices(found, Thresholds.default(found.class_names), traits), found, traits


@pytest.mark.parametrize("size", [3, 12, 20])
def test_groups_make_no_slice_significant(size):
    draws = 100
    any_at_all, held, intervals = 0, 0, 0
    for seed in range(draws):
        found = grouped(seed, size)[0]
        any_at_all += found.significant.any()
        shown = found[found.low.notna()]
        held, intervals = held + ((shown.low <= 0) & (shown.high >= 0)).sum(), intervals + len(shown)
    assert any_at_all <= binom.ppf(0.99, draws, 0.05) and held / intervals >= 0.93, (any_at_all, held / intervals)
    found = grouped(0, size, 1200, planted=True)[0]
    assert (found[found.significant].slice == "camera a").any()


def test_groups_of_one_are_as_no_groups_and_copies_are_no_more_images():
    plain, predictions, traits = grouped(1, 1, images=200)
    thresholds = Thresholds.default(predictions.class_names)
    alone = weak_slices(replace(predictions, groups=np.arange(200)[::-1].copy()), thresholds, traits)
    pd.testing.assert_frame_equal(plain, alone, atol=1e-6)
    rows = np.repeat(np.arange(200), 5)
    paths = np.array([f"{i}.png" for i in range(1000)], object)
    copies = replace(predictions.take(rows), paths=paths, groups=rows)
    found = weak_slices(copies, thresholds, traits.iloc[rows].set_axis(paths))
    both = plain.merge(found, on=["score", "slice"])
    assert len(both) == len(plain) and (both.images_y == 5 * both.images_x).all()
    surer = both[both.p_x < 0.5]  # Fisher's p of few is the more careful one
    assert (surer.p_y > surer.p_x / 4).all() and (both.low_y - both.low_x).abs().max() < 0.02
