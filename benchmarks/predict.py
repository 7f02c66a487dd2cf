"""Predicting: `make bench`, or `python benchmarks/predict.py [--quick] [speed|memory|kills]`.

`speed` holds `predict_to` against Ultralytics' own `YOLO.predict` on the same files and the same network, in turns, in
processes of their own, on a GPU where there is one; without one also against what the cores allow: cores / (core
seconds to decode an image + to infer one).
`memory` is a long list of small images: the resident memory after a tenth of it and at the end.
`kills` ends a job at random moments and starts it again until it is done: the file is that of an undisturbed one.
"""

import argparse
import filecmp
import json
import logging
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

logging.disable(logging.WARNING)


def photographs(folder: Path, images: int, size: tuple[int, int]) -> list[str]:
    """JPEGs of this size, crops of the two photographs that scikit-learn ships."""
    from sklearn.datasets import load_sample_images

    rng, sources = np.random.default_rng(0), [Image.fromarray(pixels) for pixels in load_sample_images().images]
    folder.mkdir()
    for i in range(images):
        left, top = (int(rng.integers(0, room)) for room in (200, 200))
        crop = sources[i % 2].crop((left, top, left + 400, top + 225)).resize(size, Image.Resampling.BICUBIC)
        crop.save(folder / f"{i:06}.jpg", quality=90)
    return [str(path) for path in sorted(folder.iterdir())]


def trained(folder: Path, size: int):
    """A run of one epoch; what it says does not matter here."""
    import mlworkbench as mw
    from mlworkbench.data.demo import make_demo

    table = mw.read_labels(make_demo(folder / "scenes", images=60))
    run = mw.fit(table, folder / "run", epochs=1, image_size=size, precision="fp32")
    torch.save({"model": run.model.net, "train_args": {"imgsz": size, "task": "classify"}}, folder / "plain.pt")
    return run


def timed(code: str, *arguments: object) -> float:
    """Seconds that a process tells on its last line."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True, timeout=3600
    )
    return float(done.stdout.splitlines()[-1])


OURS = """
import sys, time, mlworkbench as mw
run, folder, precision = sys.argv[1:]
run = mw.Run(run)
mw.predict(run, sorted(__import__("pathlib").Path(folder).iterdir())[:4], precision=precision)
start = time.perf_counter()
mw.predict_to(f"{folder}.csv", run, folder, precision=precision)
print(time.perf_counter() - start)
"""
THEIRS = """
import sys, time
from pathlib import Path
from ultralytics import YOLO
model, files, batch = YOLO(sys.argv[1]), sorted(map(str, Path(sys.argv[2]).iterdir())), int(sys.argv[3])
how = {"imgsz": 224, "batch": batch, "stream": True, "verbose": False, "device": sys.argv[4]}
for _ in model.predict(files[:4], **how): pass
start = time.perf_counter()
found = [result.probs.data for result in model.predict(files, **how)]
assert len(found) == len(files)
print(time.perf_counter() - start)
"""


def core_seconds(run, files: list[str]) -> tuple[float, float]:
    """To decode one image, and to infer one, on one core."""
    from mlworkbench.data.images import load_image
    from mlworkbench.network.batches import squared
    from mlworkbench.network.infer import BATCH, logits_of, prepared

    torch.set_num_threads(1)
    size, cpu = run.state["settings"]["image_size"], torch.device("cpu")
    files = files[: 8 * BATCH]

    def fastest(work) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return min(times)

    decode = fastest(lambda: [squared(load_image(Path(f).name, Path(f).parent, size), size) for f in files])
    network, images = prepared(run.model, cpu), torch.zeros(BATCH, 3, size, size, dtype=torch.uint8)
    with torch.inference_mode():
        infer = fastest(lambda: [logits_of(network, images, cpu) for _ in range(4)])
    return decode / len(files), infer / 4 / BATCH


def speed(quick: bool) -> None:
    cores, device = os.cpu_count() or 1, "cuda" if torch.cuda.is_available() else "cpu"
    where = torch.cuda.get_device_name() if device == "cuda" else f"{cores} cores"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run = trained(folder, 224)
        for name, images, size in (("500x375", 2000, (500, 375)), ("12 megapixels", 60, (4000, 3000))):
            images = images // 20 if quick else images
            files = photographs(folder / name.replace(" ", "-"), images, size)
            there = Path(files[0]).parent
            rates: dict[str, list[float]] = {}
            for _ in range(1 if quick else 3):
                for what, code, arguments in (
                    ("ours fp32", OURS, (run.folder, there, "fp32")),
                    ("ours bf16", OURS, (run.folder, there, "bf16")),
                    ("Ultralytics, batch 1", THEIRS, (folder / "plain.pt", there, 1, device)),
                    ("Ultralytics, batch 32", THEIRS, (folder / "plain.pt", there, 32, device)),
                ):
                    rates.setdefault(what, []).append(images / timed(code, *arguments))
            ours, one, batches = (statistics.median(rates[what]) for what in rates if what != "ours bf16")
            print(f"{images} JPEGs of {name}, {where}:")
            for what, found in rates.items():
                print(f"  {what:<22} {statistics.median(found):8.1f} images/s ({min(found):.1f} to {max(found):.1f})")
            print(f"  ours is {ours / one:.1f} times theirs file by file, {ours / batches:.1f} times in their batches")
            if device == "cpu":
                decode, infer = core_seconds(run, files)
                limit = cores / (decode + infer)
                print(
                    f"  and {ours / limit:.2f} of the {limit:.0f} that {cores} cores allow ({1e3 * decode:.2f} ms to "
                    f"decode + {1e3 * infer:.2f} ms to infer)",
                    flush=True,
                )


def memory(quick: bool) -> None:
    import psutil

    from mlworkbench import predict_to

    images = 5_000 if quick else 100_000
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run = trained(folder, 32)
        files = photographs(folder / "few", 10, (64, 48))
        (folder / "many").mkdir()
        for i in range(images):
            (folder / "many" / f"{i:06}.jpg").hardlink_to(files[i % len(files)])
        parts, seen, over = folder / ".p.parquet.parts", {}, threading.Event()

        def watch() -> None:
            process = psutil.Process()
            while not over.wait(0.1):
                seen[len(list(parts.glob("0*.parquet"))) * 1024] = process.memory_info().rss

        threading.Thread(target=watch, daemon=True).start()
        start = time.perf_counter()
        predict_to(folder / "p.parquet", run, folder / "many")
        over.set()
        early = next(rss for done, rss in sorted(seen.items()) if done >= images // 10)
        late = max(rss for done, rss in seen.items() if done >= images - 2 * 1024)
        print(
            f"{images:,} images: {early / 1e6:.0f} MB after a tenth, {late / 1e6:.0f} MB at the end "
            f"({100 * (late / early - 1):+.1f} %), {images / (time.perf_counter() - start):.0f} images/s"
        )


def kills(quick: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run = trained(folder, 32)
        files = photographs(folder / "few", 10, (64, 48))
        (folder / "many").mkdir()
        for i in range(2_000 if quick else 8_000):
            (folder / "many" / f"{i:06}.jpg").hardlink_to(files[i % len(files)])
        shutil.copy(__file__, folder / "many" / "000100.jpg")
        command = [sys.executable, "-m", "mlworkbench", "predict", str(run.folder), str(folder / "many"), "--out"]
        for suffix in ("csv", "parquet"):
            whole, out = folder / f"whole.{suffix}", folder / f"out.{suffix}"
            start = time.perf_counter()
            subprocess.run([*command, str(whole)], check=True, capture_output=True)
            longest, rng, killed = time.perf_counter() - start, random.Random(0), 0
            for _ in range(3 if quick else 20):
                with subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as job:
                    try:
                        job.wait(rng.uniform(0, longest))
                    except subprocess.TimeoutExpired:
                        job.send_signal(signal.SIGKILL)
                        killed += 1
            subprocess.run([*command, str(out)], check=True, capture_output=True)
            same = filecmp.cmp(whole, out, shallow=False)
            sides = [f"{file}.quarantine.csv" for file in (whole, out)]
            left = sorted(path.name for path in folder.glob(".*"))
            print(
                json.dumps({"killed": killed, "file": suffix, "equal": same, "left": left,
                            "set_aside_equal": filecmp.cmp(*sides, shallow=False)}), flush=True
            )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("speed", "memory", "kills"))
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    for part in (speed, memory, kills):
        if args.part in (None, part.__name__):
            part(args.quick)
