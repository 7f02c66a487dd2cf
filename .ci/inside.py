"""What `.ci/outside` takes out of the house: a run's bundle, photographs, and what the workbench says of them."""

import sys
from pathlib import Path

from networks import untrained_run
from PIL import Image

import mlworkbench as mw
from mlworkbench.cli import main
from mlworkbench.deploy.export import export

NAMES = [
    "<script>alert(1)</script>",
    "=1+1",
    'a|b, "c"',
    "$x^2$",
    "猫 🐈",
    "N/A",
    "null",
    "<img src=x onerror=alert(1)>",
    "9",
]

work = Path(sys.argv[1])
run = untrained_run(work, NAMES, images=60, size=64)
run.save_thresholds(mw.tune_thresholds(mw.calibrate(run.predictions("val", raw=True))))
for file in sorted(run.root.glob("*.png"))[::3]:
    Image.open(file).resize((400, 300)).save(file.with_suffix(".jpg"))
print(export(run, work / "bundle"))
sys.exit(main(["predict", str(run.folder), str(run.root), "--out", str(work / "workbench.csv")]))
