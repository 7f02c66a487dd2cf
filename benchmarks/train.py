"""The training engine, as ratios in one run: `make bench`, or `python benchmarks/train.py [--quick] [PART …]`.

Nothing here is a test: machines differ and are noisy. Each line says what is compared with what.
"""

import argparse
import json
import os
import random
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 8


def photographs(folder: Path, number: int) -> Path:
    """JPEGs of 500x375, cut from scikit-learn's two sample photographs; a labels file, and a folder for each class."""
    from sklearn.datasets import load_sample_images

    dice, sources = np.random.default_rng(0), [Image.fromarray(a) for a in load_sample_images().images]
    rows, made = [], []
    for split in ("train", "val", "test"):
        for i in range(CLASSES):
            (folder / split / f"c{i}").mkdir(parents=True, exist_ok=True)
    for i in range(number + 2 * CLASSES):
        kind, split = i % CLASSES, "train" if i < number else "val" if i < number + CLASSES else "test"
        width = int(dice.integers(300, 560))
        left, top = dice.integers(0, 640 - width + 1), dice.integers(0, 427 - width * 3 // 4 + 1)
        name = f"{split}/c{kind}/{i:05d}.jpg"
        made.append((sources[i % 2], folder / name, (left, top, left + width, top + width * 3 // 4)))
        rows.append(f'{name},"{np.eye(CLASSES, dtype=int)[kind].tolist()}",{split}\n')

    def save(task: tuple) -> None:
        source, file, box = task
        source.resize((500, 375), Image.Resampling.BICUBIC, box=box).save(file, quality=85)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(save, made))
    (folder / "labels.csv").write_text("image_path,labels,split\n" + "".join(rows))
    return folder / "labels.csv"


OURS = """
import json, logging, sys
logging.disable(logging.WARNING)
import mlworkbench as mw
labels, run_dir, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
run = mw.fit(mw.read_labels(labels), run_dir, overwrite=True, **settings)
images = sum(split == "train" for split in run.splits().values())
print(json.dumps({"precision": run.state["precision"], "speeds": [images / s for s in run.history.seconds]}))
"""

THEIRS = """
import json, sys, time
from pathlib import Path
from ultralytics.models.yolo.classify import ClassificationTrainer
import torch
torch.set_num_threads(int(sys.argv[2]))
folder, seconds = Path(sys.argv[1]), []
options = {"model": "yolov8n-cls.yaml", "data": str(folder), "imgsz": 224, "batch": 32, "epochs": 3, "device": "cpu",
           "workers": 2, "plots": False, "val": False, "verbose": False, "project": str(folder / "runs")}
options |= json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
trainer = ClassificationTrainer(overrides=options)
trainer.add_callback("on_train_epoch_start", lambda _: seconds.append(-time.perf_counter()))
trainer.add_callback("on_train_epoch_end", lambda _: seconds.append(seconds.pop() + time.perf_counter()))
trainer.train()
images = len(list((folder / "train").rglob("*.jpg")))
print(json.dumps({"threads": torch.get_num_threads(), "speeds": [images / s for s in seconds]}))
"""

LIMIT = """
import json, sys, time
import torch
from torch.nn import functional as F
import mlworkbench as mw
device, batch, seconds = torch.device(sys.argv[1]), int(sys.argv[2]), {}
x, y = torch.rand(batch, 3, 224, 224, device=device), torch.randint(0, 2, (batch, 8), device=device).float()
for form in (torch.channels_last, torch.contiguous_format):
    for dtype in (torch.float32, torch.bfloat16):
        model = mw.build_model("yolov8n-cls.yaml", list("abcdefgh")).to(device).to(memory_format=form).train()
        optimizer, images, times = torch.optim.AdamW(model.parameters()), x.to(memory_format=form), []
        for _ in range(int(sys.argv[3])):
            start = time.perf_counter()
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                logits = model(images)
            F.binary_cross_entropy_with_logits(logits.float(), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        seconds[f"{dtype} {form}"] = sorted(times)[len(times) // 2]
print(json.dumps({name: batch / s for name, s in seconds.items()}))
"""


def python(code: str, *arguments: object, **environment: str) -> dict:
    """What a script prints as its last line; quiet otherwise."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    out = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    if out.returncode:
        raise SystemExit(out.stdout + out.stderr)
    return json.loads(out.stdout.splitlines()[-1])


def speed(folder: Path, quick: bool) -> None:
    """End to end against Ultralytics' own trainer, and against the pure compute limit; in turns, as machines drift."""
    labels = photographs(folder, 128 if quick else 768)
    settings = json.dumps({"epochs": 3, "image_size": 224, "batch_size": 32, "device": "cpu"})
    cores, ours, theirs, limits = len(os.sched_getaffinity(0)), [], [], []
    for _ in range(1 if quick else 3):
        limits.append(python(LIMIT, "cpu", 32, 4 if quick else 14))
        ours.append(python(OURS, labels, folder / "run", settings))
        theirs.append(python(THEIRS, folder, cores, YOLO_AUTOINSTALL="False"))
        limit, mine, other = max(limits[-1].values()), ours[-1]["speeds"][2], theirs[-1]["speeds"][2]
        chosen = ours[-1]["precision"]
        print(
            f"third epoch, {cores} cores: {mine:.0f} images/s in {chosen['name']}, "
            f"{mine / other:.2f} x Ultralytics' trainer ({other:.0f}, {theirs[-1]['threads']} threads), "
            f"{mine / limit:.2f} of the compute limit ({limit:.0f}); first epoch {ours[-1]['speeds'][0]:.0f}"
        )
        print(
            "  limits:",
            {name: round(value) for name, value in limits[-1].items()},
            "measured:",
            chosen["images_per_second"],
        )
    mine, other = (statistics.median(r["speeds"][2] for r in results) for results in (ours, theirs))
    limit = statistics.median(max(found.values()) for found in limits)
    print(f"medians: {mine / other:.2f} x Ultralytics' trainer, {mine / limit:.2f} of the compute limit")


def feeding(folder: Path, quick: bool) -> None:
    """Decoding and augmenting one image of 500x375 to 224 px on one core."""
    import torch

    from mlworkbench import read_labels
    from mlworkbench.network.batches import ImageDataset, augment, sample_uniforms

    table = read_labels(photographs(folder, 64))
    torch.set_num_threads(1)
    dataset = ImageDataset(table.paths, table.root, table.y, 224)
    images, u = dataset.__getitems__(range(32))[0], sample_uniforms(32, 0, 0)

    def best(work, times: int = 5 if quick else 20) -> float:
        seconds = []
        for _ in range(times):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        return 1000 * min(seconds) / 32

    decoding = best(lambda: [dataset.decode(row) for row in range(32)])
    augmenting = best(lambda: augment(images.float() / 255, u, flip=True))
    from ultralytics.data.augment import classify_augmentations

    transform, files = (
        classify_augmentations(224),
        [Image.open(table.root / path).convert("RGB") for path in table.paths[:32]],
    )
    theirs = best(lambda: [transform(file) for file in files])
    print(
        f"decoding {decoding:.2f} ms an image, augmenting {augmenting:.2f} ms "
        f"(Ultralytics' augmentation {theirs:.2f} ms)"
    )


def together(folder: Path, quick: bool) -> None:
    """Two trainings at once against one alone, by how long OpenMP's threads spin: its own way, ours, never."""
    from mlworkbench.cores import SPINS

    labels, cores = photographs(folder, 96 if quick else 256), len(os.sched_getaffinity(0))

    def speed_of(run: str, size: int, spins: int) -> float:
        settings = {"epochs": 3, "image_size": size, "batch_size": 32, "device": "cpu", "precision": "fp32"}
        environment = {"GOMP_SPINCOUNT": str(spins), "OMP_NUM_THREADS": str(cores)}
        found = python(OURS, labels, folder / f"{run}{spins}", json.dumps(settings), **environment)
        return statistics.median(found["speeds"][1:])

    for size in (96, 224):
        speed_of("warm", size, 0)  # fills the cache
        for spins in (300_000, SPINS, 0):
            with ThreadPoolExecutor(2) as pool:
                alone, two = speed_of("one", size, spins), list(pool.map(speed_of, "ab", [size] * 2, [spins] * 2))
            print(
                f"{size} px, {cores} cores, GOMP_SPINCOUNT={spins}: alone {alone:.0f} images/s, each of two "
                f"{statistics.mean(two):.0f}; two at once take {alone / statistics.mean(two):.2f} times as long each",
                flush=True,
            )


MEMORY = """
import logging, sys
logging.disable(logging.WARNING)
import mlworkbench as mw
sizes = []
def resident(row):
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    sizes.append(int(status["VmRSS"].split()[0]) / 1e6)
settings = {"epochs": int(sys.argv[3]), "image_size": 128, "batch_size": 32}
mw.fit(mw.read_labels(sys.argv[1]), sys.argv[2], on_epoch_end=resident, **settings)
print([round(s, 3) for s in sizes])
"""


def memory(folder: Path, quick: bool) -> None:
    """The resident set after each epoch."""
    labels = photographs(folder, 96 if quick else 384)
    sizes = python(MEMORY, labels, folder / "run", 4 if quick else 20)
    print(
        f"resident GB after each epoch: {sizes}; most from the second on: {max(sizes[1:]) / sizes[1]:.3f} of the second"
    )


def kills(folder: Path, quick: bool) -> None:
    """kill -9 at random moments, each followed by --resume: the end must be that of a run that was never stopped."""
    from mlworkbench.runs import folder as folder_of
    from mlworkbench.runs.run import Run

    labels, dice = photographs(folder, 96), random.Random(0)
    options = shlex.split("--epochs 6 --imgsz 64 --batch 16 --precision fp32 --device cpu --flip --set head_epochs 1")
    train = [sys.executable, "-m", "mlworkbench", "train", labels, *options, "--resume", "--run"]

    def result(run: Path) -> list:
        history = Run(run).history.drop(columns="seconds").to_csv()
        return [history, *((run / name).read_bytes() for name in (folder_of.BEST, folder_of.LAST))]

    start = time.perf_counter()
    subprocess.run([*train, folder / "whole"], check=True, capture_output=True)
    whole, seconds = result(folder / "whole"), time.perf_counter() - start
    killed = runs = same = 0
    while killed < (3 if quick else 50):
        run = folder / f"run{runs}"
        while not (run / "predictions/test.parquet").exists():
            process = subprocess.Popen([*train, run], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(dice.uniform(0.3 * seconds, 1.1 * seconds))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                killed += 1
            process.wait()
        subprocess.run([*train, run], check=True, capture_output=True)
        runs, same = runs + 1, same + (result(run) == whole)
    print(f"{killed} kills in {runs} runs: {same} of {runs} ended bit-identical to the one that was never stopped")


def precision(folder: Path, quick: bool) -> None:
    """Validation mAP on the built-in data in bf16 and in fp32."""
    from mlworkbench.data.demo import make_demo

    labels, found = make_demo(folder / "scenes", 300 if quick else 3400), {}
    for name in ("fp32", "bf16"):
        for seed in range(2 if quick else 5):
            settings = {"epochs": 2 if quick else 15, "image_size": 96, "precision": name, "seed": seed}
            code = OURS.replace("print(json", "print(json.dumps(float(run.history.val_map.max())))\n0 and print(json")
            found.setdefault(name, []).append(python(code, labels, folder / "run", json.dumps(settings)))
        print(name, [round(value, 4) for value in found[name]], flush=True)
    means, variances = ([f(found[n]) for n in found] for f in (statistics.mean, statistics.variance))
    error = ((variances[0] + variances[1]) / len(found["fp32"])) ** 0.5
    print(
        f"means {means[0]:.4f} and {means[1]:.4f}: {abs(means[0] - means[1]) / error:.2f} pooled standard errors apart"
    )


def processes(folder: Path, quick: bool) -> None:
    """One process and two at the same global batch, BatchNorm frozen, and taking the statistics of its part."""
    from mlworkbench import Run
    from mlworkbench.data.demo import make_demo

    labels, script = make_demo(folder / "scenes", 200), Path(__file__).parent.parent / "tests/training/two_processes.py"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for kind in ("frozen", "free"):
        rows = []
        for number in (1, 2):
            run = folder / f"{kind}{number}"
            command = [*(launch if number == 2 else launch[:1]), script, labels, labels.parent, run, kind, 1]
            subprocess.run(
                list(map(str, command)), check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
            )
            rows.append(Run(run).history[["train_loss", "val_loss", "val_map"]])
        apart = (rows[1] / rows[0] - 1).abs().max().round(6).to_dict()
        print(f"BatchNorm {kind}: two processes differ from one by at most {apart} of it")


CAPTURED = """
import json, sys, time
import torch
from torch.nn import functional as F
import mlworkbench as mw
batch, device = int(sys.argv[1]), torch.device("cuda")
model = mw.build_model("yolov8n-cls.yaml", list("abcdefgh")).to(device).to(memory_format=torch.channels_last).train()
optimizer = torch.optim.AdamW(model.parameters(), fused=True, capturable=True)
x = torch.rand(batch, 3, 224, 224, device=device).to(memory_format=torch.channels_last)
y = torch.randint(0, 2, (batch, 8), device=device).float()
def step():
    with torch.autocast("cuda", torch.bfloat16):
        logits = model(x)
    F.binary_cross_entropy_with_logits(logits.float(), y).backward()
    optimizer.step()
    optimizer.zero_grad()
aside = torch.cuda.Stream()
aside.wait_stream(torch.cuda.current_stream())
with torch.cuda.stream(aside):
    for _ in range(3):
        step()
torch.cuda.current_stream().wait_stream(aside)
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    step()
times = []
for _ in range(3):
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(40):
        graph.replay()
    torch.cuda.synchronize()
    times.append(time.perf_counter() - start)
print(json.dumps(40 * batch / min(times)))
"""


def gpu(folder: Path, quick: bool) -> None:
    """A GPU at 224 px: epochs in bf16 from the cache, decoding in each, Ultralytics' trainer; then predictions."""
    import predict
    import torch

    if not torch.cuda.is_available():
        return print("no GPU here")
    cores, labels = len(os.sched_getaffinity(0)), photographs(folder, 512 if quick else 8192)
    print(f"{torch.cuda.get_device_name()}, {cores} cores, torch {torch.__version__}", flush=True)
    for batch in (32, 256):
        limit = python(CAPTURED, batch)
        their_options = json.dumps({"device": 0, "workers": cores, "batch": batch, "epochs": 3})
        theirs = max(python(THEIRS, folder, cores, their_options, YOLO_AUTOINSTALL="False")["speeds"][1:])
        print(f"batch {batch}: limit, captured {limit:,.0f} images/s; Ultralytics' trainer {theirs:,.0f}", flush=True)
        for name, cache in (("from the cache", 10.0), ("decoding in each epoch", 0.0)):
            settings = {"epochs": 4, "image_size": 224, "batch_size": batch, "precision": "bf16", "device": "cuda"}
            found = python(OURS, labels, folder / "run", json.dumps(settings | {"cache_gb": cache, "workers": cores}))
            mine = statistics.median(found["speeds"][1:])
            print(
                f"  {name}: {mine:,.0f} images/s, {mine / theirs:.1f} x Ultralytics' trainer, {mine / limit:.2f} of "
                f"the limit; epochs {[round(speed) for speed in found['speeds']]}",
                flush=True,
            )
    predict.speed(quick)


PARTS = {f.__name__: f for f in (feeding, speed, together, memory, processes, kills, precision, gpu)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="small sizes: a look, no figure to quote")
    chosen = parser.parse_args()
    for part in chosen.parts or PARTS:
        print(f"--- {part}: {(PARTS[part].__doc__ or '').strip()}", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            PARTS[part](Path(scratch), chosen.quick)
