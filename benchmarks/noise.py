"""What finding wrong labels is worth: `python benchmarks/noise.py [--quick] [--losses] [LABELS MODEL [SPLITS]]`.

5 % of all labels are flipped, in every split, and a network is trained on them: how many of the first 100 suspects are
really wrong among validation and test images, and among training images when these are ranked by the network that was
trained on them or out of fold; and what mending the first 200 of those, as somebody who sees the truth would, does to
test mAP against the clean labels. With `--losses` instead how many are found, by logits as they are and calibrated,
where the training weighs positives more, by the asymmetric loss, and by plain cross entropy. Three seeds. Without
LABELS: the built-in data, from random weights.
"""

import argparse
import json
import logging
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

logging.disable(logging.WARNING)
FLIPPED, FOLDS, MENDED = 0.05, 5, 200
LOSSES = {"bce": {}, "positive_weight 10": {"positive_weight": 10.0}, "asl": {"loss": "asl"}}


def quiet(_: str) -> None:
    """What `find_suspects` says of its doing is known here."""


def flipped(table, seed: int, folder: Path):
    """The table read again from a labels file in which 5 % of the known labels are the other way round."""
    from mlworkbench import read_labels
    from mlworkbench.files import write_csv

    rng, y = np.random.default_rng(seed), table.y.copy()
    rows, columns = np.nonzero(y >= 0)
    chosen = rng.permutation(len(rows))[: round(FLIPPED * len(rows))]
    y[rows[chosen], columns[chosen]] ^= 1
    file, names = folder / "labels.csv", folder / "classes.txt"
    written = (
        (path, json.dumps(row.tolist()), split) for path, row, split in zip(table.paths, y, table.split, strict=True)
    )
    file.write_bytes(write_csv(written, ("image_path", "labels", "split")))
    names.write_text("\n".join(table.class_names))
    return read_labels(file, table.root, names)


def beside(found: pd.DataFrame, truth) -> pd.DataFrame:
    """The suspects with the clean label beside each."""
    rows = pd.Series(np.arange(len(truth)), truth.paths).loc[found.image_path]
    columns = pd.Series(np.arange(len(truth.class_names)), truth.class_names).loc[found["class"]]
    return found.assign(truth=truth.y[rows.to_numpy(), columns.to_numpy()])


def quality(found: pd.DataFrame) -> dict[str, float]:
    wrong = (found.label != found.truth).to_numpy()
    return {"of first 100": int(wrong[:100].sum()), "AP": round(float(average_precision_score(wrong, -found.score)), 3),
            "wrong": int(wrong.sum())}  # fmt: skip


def clean_map(run, truth) -> float:
    from mlworkbench.scoring.metrics import score

    test = run.predictions("test")
    rows = pd.Series(np.arange(len(truth)), truth.paths).loc[test.paths].to_numpy()
    return float(score(replace(test, y=truth.y[rows]), np.full(len(truth.class_names), 0.5))["map"])


def one_seed(truth, seed: int, folder: Path, **settings) -> dict[str, float]:
    import mlworkbench as mw
    from mlworkbench.analysis.suspects import find_suspects, rank_labels
    from mlworkbench.data.corrections import Correction, correct

    def say(**what) -> None:
        print(json.dumps({"seed": seed, **what}), flush=True)

    table = flipped(truth, seed, folder)
    run = mw.fit(table, folder / "noisy", seed=seed, **settings)
    for what, ranking in (
        ("as predicted", lambda split: rank_labels(run.predictions(split))),
        ("judged", lambda split: find_suspects(run, split).ranking),
    ):
        held = pd.concat([beside(ranking(split), truth) for split in ("val", "test")])
        say(ranking=f"held out, {what}", **quality(held.sort_values("score")))
    inside = beside(rank_labels(run.predictions("train"), in_sample=True), truth)
    say(ranking="in sample, as predicted", **quality(inside))
    rankings = {"in sample": beside(find_suspects(run, "train", in_sample=True).ranking, truth)}
    say(ranking="in sample, judged", **quality(rankings["in sample"]))
    start = time.perf_counter()
    rankings["out of fold"] = beside(find_suspects(run, "train", FOLDS, say=quiet).ranking, truth)
    seconds = time.perf_counter() - start
    say(ranking="out of fold", **quality(rankings["out of fold"]), seconds=round(seconds))
    found = {"before": clean_map(run, truth)}
    for name, suspects in rankings.items():
        looked_at = suspects.head(MENDED)
        looked_at = looked_at[looked_at.label != looked_at.truth]
        marks = [Correction(*row, "wrong") for row in zip(
            looked_at.image_path, looked_at["class"], looked_at.label, looked_at.truth, strict=True)]  # fmt: skip
        again = mw.fit(correct(table, marks), folder / name, seed=seed, **settings)
        found[f"after mending, {name}"] = clean_map(again, truth)
    say(**{name: round(value, 4) for name, value in found.items()})
    return found


def by_loss(truth, seed: int, folder: Path, **settings) -> dict[str, float]:
    """How many of the first 100 suspects are wrong, by loss: held out and in sample, as they are and calibrated."""
    import mlworkbench as mw
    from mlworkbench.analysis.suspects import find_suspects, rank_labels

    table, found = flipped(truth, seed, folder), {}
    for loss, more in LOSSES.items():
        run = mw.fit(table, folder / loss, seed=seed, **settings, **more)
        for where, splits in (("held out", ("val", "test")), ("training", ("train",))):
            judged = [find_suspects(run, split, in_sample=split == "train") for split in splits]
            plain = [rank_labels(its.predictions, in_sample=splits == ("train",)) for its in judged]
            for how, rankings in (("as they are", plain), ("calibrated", [its.ranking for its in judged])):
                both = beside(pd.concat(rankings).sort_values("score", kind="stable"), truth)
                print(
                    json.dumps({"seed": seed, "loss": loss, "labels": where, "logits": how, **quality(both)}),
                    flush=True,
                )
                found[f"{loss}, {where}, {how}"] = quality(both)["of first 100"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--losses", action="store_true", help="compare losses, and mend nothing")
    parser.add_argument("data", nargs="*", metavar="LABELS MODEL [SPLITS]")
    args = parser.parse_args()
    import mlworkbench as mw
    from mlworkbench.data.demo import make_demo
    from mlworkbench.data.prepare import prepare

    settings = {"epochs": 2 if args.quick else 16}
    with tempfile.TemporaryDirectory() as place:
        if args.data:
            labels, settings["model"], *splits = args.data
            truth = mw.read_labels(labels, None, None, *splits)
        else:
            labels = make_demo(Path(place) / "data", images=300 if args.quick else 3400, label_noise=0)
            truth = mw.read_labels(labels)
            settings["image_size"] = 96
        prepared = prepare(truth)
        truth = replace(prepared.table, split=prepared.split).take(prepared.split != "")
        rows = []
        for seed in range(1 if args.quick else 3):
            folder = Path(place) / str(seed)
            folder.mkdir()
            rows.append((by_loss if args.losses else one_seed)(truth, seed, folder, **settings))
    told = "wrong among the first 100:" if args.losses else "test mAP against clean labels:"
    print(told, {k: round(v, 4) for k, v in pd.DataFrame(rows).mean().items()})


if __name__ == "__main__":
    main()
