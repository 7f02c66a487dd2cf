"""The routes side by side: `make bench`, or `python benchmarks/routes.py [--quick] [probe LABELS MODEL [SPLITS]]`.

Without a part: the built-in data by our loop, by Ultralytics' trainer and as plain softmax, at equal epochs and
recipe, three seeds each.
`probe` holds the frozen backbone against full fine-tuning on data and a checkpoint of yours: mAP and seconds.
"""

import argparse
import json
import logging
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import platformdirs

logging.disable(logging.WARNING)


def train(table, folder, **settings):
    """Run, and the seconds that `fit` took."""
    import mlworkbench as mw

    start = time.perf_counter()
    run = mw.fit(table, folder, **settings)
    return run, time.perf_counter() - start


def seeds(quick: bool) -> None:
    import mlworkbench as mw
    from mlworkbench.data.demo import make_demo

    # With the routes' modules in memory, the first of them has no import to wait for.
    from mlworkbench.training import (
        loop,  # noqa: F401
        ultralytics_route,  # noqa: F401
    )

    common = {"epochs": 1 if quick else 15, "image_size": 96, "precision": "fp32"}
    ways = {
        "loop": {"route": "loop"},
        "ultralytics": {"route": "ultralytics"},
        "softmax": {"route": "ultralytics", "loss": "softmax"},
    }
    with tempfile.TemporaryDirectory() as place:
        table = mw.read_labels(make_demo(Path(place) / "data", images=300 if quick else 3400))
        found: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
        for seed in range(1 if quick else 3):
            for name, settings in ways.items():
                run, seconds = train(table, Path(place) / f"{name}{seed}", seed=seed, **common, **settings)
                test = run.predictions("test")
                scores = mw.evaluate(test, mw.tune_thresholds(run.predictions("val")))
                values = (run.best_epoch.val_map, scores["map"], scores["f1_macro"], scores["exact_match"])
                found[name].append((*values, seconds))
                print(json.dumps({"way": name, "seed": seed, **{k: round(v, 4) for k, v in zip(
                    ("val_map", "test_map", "f1_macro", "exact_match", "seconds"), found[name][-1], strict=True)}}),
                    flush=True)  # fmt: skip
    maps = {name: np.array(rows)[:, 0] for name, rows in found.items()}
    if not quick:
        se = np.sqrt(sum(maps[name].var(ddof=1) / 3 for name in ("loop", "ultralytics")))
        apart = abs(maps["loop"].mean() - maps["ultralytics"].mean()) / se
        print(
            f"loop {maps['loop'].mean():.4f}, ultralytics {maps['ultralytics'].mean():.4f}: {apart:.2f} pooled SE apart"
        )
        print(f"softmax {maps['softmax'].mean():.4f}")


def probe(labels: str, model: str, splits: str | None, quick: bool) -> None:
    import mlworkbench as mw
    from mlworkbench.training import (
        loop,  # noqa: F401
        probe,  # noqa: F401
    )

    table = mw.read_labels(labels, None, None, splits)
    with tempfile.TemporaryDirectory() as place:
        arrays = Path(platformdirs.user_cache_path("mlworkbench")) / "arrays"
        times = []
        for attempt in range(4):  # the first one decodes the images, which both need
            run, seconds = train(table, Path(place) / f"probe{attempt}", route="probe", model=model)
            times.append(seconds)
            for file in arrays.glob("*.npy"):  # or the features would be there
                file.unlink()
        results = {"probe": (run, statistics.median(times[1:]))}
        results["fine-tuning"] = train(table, Path(place) / "full", model=model, epochs=2 if quick else 15)
        for name, (run, seconds) in results.items():
            scores = mw.evaluate(run.predictions("test"), mw.Thresholds.default(run.class_names))
            maps = f"val mAP {run.best_epoch.val_map:.4f}  test mAP {scores['map']:.4f}"
            print(f"{name:<12} {seconds:7.1f} s  {maps}  {run.state['precision']['name']}", flush=True)
        print("probe, each time:", *(f"{seconds:.1f}" for seconds in times))
        print(f"the probe is {results['fine-tuning'][1] / results['probe'][1]:.1f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("part", nargs="*", help="probe LABELS MODEL [SPLITS]")
    args = parser.parse_args()
    if args.part[:1] == ["probe"]:
        probe(args.part[1], args.part[2], args.part[3] if len(args.part) > 3 else None, args.quick)
    else:
        seeds(args.quick)


if __name__ == "__main__":
    main()
