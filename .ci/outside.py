"""Checks of `.ci/outside`, run where neither mlworkbench nor torch is: what it has left in a folder, held together."""

import csv
import importlib.util
import os
import shutil
import sys
from pathlib import Path

WORK = Path(sys.argv[1])
BUNDLE = WORK / "bundle"
# Read when they are imported: nothing is sent or fetched.
os.environ |= {"HF_HOME": str(WORK / "hub"), "HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}


def table(name):
    """Names of the classes, and each image's probabilities and present classes by its file's name."""
    header, *rows = csv.reader((WORK / name).open(encoding="utf-8", newline=""))
    names = [column[2:] for column in header if column.startswith("p_")]
    split = 1 + len(names)
    return names, {Path(row[0]).name: ([float(p) for p in row[1:split]], row[split:]) for row in rows}


def files_agree(names, alone):
    same, ours = table("workbench.csv")
    assert names == same and alone.keys() == ours.keys() and len(ours) == 80
    apart = max(abs(a - b) for file in ours for a, b in zip(alone[file][0], ours[file][0], strict=True))
    assert apart <= 1e-4 and all(alone[file][1] == ours[file][1] for file in ours), apart
    print(f"predict.py: {len(ours)} images, p differs by up to {apart:.0e}, no decision changed")


def page_agrees(names, alone):
    from gradio_client import Client, handle_file

    sys.path.insert(0, str(BUNDLE))
    import app

    _, url, _ = app.demo.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    client = Client(url, verbose=False)
    for file in list(alone)[:5]:
        there, rows = client.predict(handle_file(WORK / "images" / file), api_name="/predict")
        p, present = alone[file]
        said = {name: (value, mark) for name, value, _, mark in rows["data"]}
        assert said.keys() == set(names)
        for name, value, mark in zip(names, p, present, strict=True):
            assert abs(said[name][0] - value) < 1e-4 and (said[name][1] == "yes") == (mark == "1"), name
            assert (name in there) or mark == "0"
    app.demo.close()
    print(f"app.py: answers at {url}")


def tagger_agrees(names, alone):
    """As from the hub: imgutils reads what a hub's client has in its cache."""
    from imgutils.generic import MultiLabelTIMMModel

    cached, commit = WORK / "hub/hub/models--ours--tagger", "0" * 40
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text(commit)
    shutil.copytree(BUNDLE / "tagger", cached / "snapshots" / commit)
    model, apart, changed = MultiLabelTIMMModel("ours/tagger"), {".png": 0.0, ".jpg": 0.0}, 0
    for file, (p, present) in alone.items():
        tags, said = model.predict(str(WORK / "images" / file), fmt=("general", "prediction"))
        kind = Path(file).suffix
        apart[kind] = max(apart[kind], *(abs(a - b) for a, b in zip(said.tolist(), p, strict=True)))
        other = len(tags.keys() ^ {name for name, mark in zip(names, present, strict=True) if mark == "1"})
        assert not other or kind == ".jpg", (file, tags)
        changed += other
    assert apart[".png"] < 1e-4, apart
    print(
        f"imgutils: the same tags, p differs by up to {apart['.png']:.0e}; where it shrinks the image itself by "
        f"{apart['.jpg']:.3f}, and {changed} decisions change"
    )


if __name__ == "__main__":
    assert not any(importlib.util.find_spec(name) for name in ("torch", "mlworkbench", "ultralytics"))
    names, alone = table("alone.csv")
    for check in (files_agree, page_agrees, tagger_agrees):
        check(names, alone)
