"""Engines for a finished run, images/s beside what they cost: `python benchmarks/engines.py [--run RUN] [--quick]`.

Without --run a network is trained on the built-in data first. Each engine answers on the validation images in a process
of its own, in turns as machines drift; the best turn counts. Images are decoded before the clock starts. mAP lost and
decisions changed are against torch in fp32, as `predict` computes by default.
"""

import argparse
import json
import logging
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

logging.disable(logging.WARNING)
# Name: where the graph lies (none for torch itself), and the precision asked for.
ENGINES = {
    "torch fp32": ("", "fp32"),
    "torch bf16": ("", "bf16"),
    "torch.export fp32": ("pt2/model.pt2", "fp32"),
    "onnxruntime fp32": ("onnx/model.onnx", "fp32"),
    "onnxruntime int8": ("int8/model.onnx", "int8"),
    "OpenVINO fp32": ("openvino/model.xml", "f32"),
    "OpenVINO bf16": ("openvino/model.xml", "bf16"),
}

ANSWER = """
import contextlib, json, sys, time
from pathlib import Path
import numpy as np, torch
folder, file, precision, run_dir, seconds = sys.argv[1:]
pixels = np.load(folder + "/pixels.npy")
if file.endswith(".xml"):
    import openvino
    compiled = openvino.Core().compile_model(folder + "/" + file, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    def answer(images):
        return compiled(images)["probabilities"]
elif file:
    from mlworkbench.deploy.graph import open_graph
    engine = open_graph(Path(folder, file))
    def answer(images):
        return engine(images)["probabilities"]
else:
    from scipy.special import expit
    from mlworkbench import Run
    model = Run(run_dir).model
    model.net.fuse(verbose=False)
    model.to(memory_format=torch.channels_last)
    scale, shift = np.load(folder + "/step.npy")
    fast = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
    @torch.inference_mode()
    def answer(images):
        with fast:
            given = torch.from_numpy(images).to(memory_format=torch.channels_last).float() / 255
            return expit((scale * model(given).float().numpy() + shift).astype(np.float32))
speeds = {}
for batch in (32, 1):
    parts = [pixels[i : i + batch] for i in range(0, len(pixels) - batch + 1, batch)]
    answer(parts[0])
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < float(seconds):
        done += len(answer(parts[done // batch % len(parts)]))
    speeds[batch] = done / (time.perf_counter() - start)
found = np.concatenate([answer(pixels[i : i + 32]) for i in range(0, len(pixels), 32)])
print(json.dumps({"speeds": speeds, "p": found.tolist()}))
"""


def python(*arguments: object) -> dict:
    """What ANSWER prints as its last line."""
    out = subprocess.run([sys.executable, "-c", ANSWER, *map(str, arguments)], capture_output=True, text=True)
    if out.returncode:
        raise SystemExit(out.stdout + out.stderr)
    return json.loads(out.stdout.splitlines()[-1])


def trained(folder: Path, quick: bool):
    """A run on the built-in data, its thresholds tuned on calibrated probabilities."""
    import mlworkbench as mw
    from mlworkbench.data.demo import make_demo

    table = mw.read_labels(make_demo(folder / "data", 300 if quick else 3400))
    run = mw.fit(table, folder / "run", epochs=1 if quick else 15, image_size=96)
    run.save_thresholds(mw.tune_thresholds(mw.calibrate(run.predictions("val", raw=True))))
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="a finished run whose images are here (default: one is trained)")
    parser.add_argument("--quick", action="store_true", help="small sizes: a look, no figure to quote")
    args = parser.parse_args()
    from mlworkbench import Run
    from mlworkbench.deploy.graph import FILES, Graph, last_step, write_graph
    from mlworkbench.deploy.int8 import cost, quantise
    from mlworkbench.network.batches import ImageDataset

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run = trained(folder, args.quick) if args.run is None else Run(args.run)
        val, limits = run.predictions("val"), run.thresholds().aligned(run.class_names)
        dataset = ImageDataset(val.paths, run.root, None, run.state["settings"]["image_size"])
        pixels = np.stack([dataset.decode(row) for row in range(len(val))])
        np.save(folder / "pixels.npy", pixels)
        np.save(folder / "step.npy", np.stack(last_step(val.calibration, limits)))
        graph = Graph(run.model, *last_step(val.calibration, limits))
        for format in FILES:
            (folder / format).mkdir()
            write_graph(graph, folder / format, format, dataset.size)
        shutil.copytree(folder / "onnx", folder / "int8")
        quantise(folder / "int8/model.onnx", pixels)

        turns: dict[str, list[dict]] = {name: [] for name in ENGINES}
        for _ in range(1 if args.quick else 3):
            for name, (file, precision) in ENGINES.items():
                turns[name].append(python(folder, file, precision, run.folder, 0.5 if args.quick else 5))
        print(f"{len(val):,} validation images of {dataset.size} px, {run.state['architecture']['yaml_file']}")
        print(f"{'':<18} {'batch 32':>9} {'batch 1':>9}   mAP lost (95 % interval)     decisions changed  largest dp")
        p = {name: np.array(found[0]["p"], np.float32) for name, found in turns.items()}
        for name, found in turns.items():
            lost = cost(p["torch fp32"], p[name], val, limits)
            many, one = (max(turn["speeds"][batch] for turn in found) for batch in ("32", "1"))
            changed = sum(lost["decisions_changed"].values())
            print(
                f"{name:<18} {many:>9.0f} {one:>9.0f}   {lost['map_lost']:7.4f} ({lost['low']:7.4f} to "
                f"{lost['high']:7.4f})   {changed:>7} of {lost['decisions']:<7,}  {lost['largest_difference']:10.1e}"
            )


if __name__ == "__main__":
    main()
