"""Predictions into a file, part by part: memory does not grow with the images, and a stopped job goes on."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .. import __version__
from ..exceptions import WorkbenchError
from ..files import put, refuse_foreign, write_csv, write_whole
from ..progress import progress_bar
from ..runs import folder as folder_of
from ..runs.run import Run
from ..text import mark_path
from .predict import Aside, Asked, asked_for

log = logging.getLogger("mlworkbench")
PART = 1024  # images: what a killed job loses at most
OWN = "engine"  # folder of another engine below that of the parts
ASIDE = b"aside"  # in a part's metadata: the images that were set aside


@dataclass(frozen=True)
class Written:
    """What a job has written.

    Attributes
    ----------
    file : the predictions
    images : how many are in it
    aside : the (path, reason) pairs of the others
    quarantine : the file that holds these, or None where there are none
    """

    file: Path
    images: int
    aside: Aside
    quarantine: Path | None


def predict_to(
    file: str | Path,
    run: Run | str | Path,
    source: Any,
    root: str | Path | None = None,
    precision: str = "fp32",
    steady: bool = False,
    engine: Callable[[Asked, Path], list[Path]] | None = None,
) -> Written:
    """Probabilities and decisions for any number of images, written to a file.

    It is done in parts of 1,024 images, each kept below `.FILE.parts/` until all are there; the same call after a stop
    goes on with these. Images that cannot be read stand in `FILE.quarantine.csv` (`image_path,reason`).

    Parameters
    ----------
    file : a name that ends in .csv or .parquet. In a CSV a path that begins with `=`, `+`, `-` or `@` has `./` before
        it
    run, source, root, precision, steady : see `predict.predict`
    engine : who answers the parts, by default this process; `ray_engine.answered`. `file` may then be the name of a
        folder, which will hold the parts as Parquet files in the order of the images

    Raises
    ------
    WorkbenchError : another ending, no image that can be read, or another process writes this file
    """
    out = Path(file)
    whole = out.suffix in (".csv", ".parquet")
    fits = not out.is_dir() if whole else engine is not None and not out.suffix and not _holds_others(out)
    if not fits:
        more = "" if engine is None else ", or of a folder that holds nothing else"
        raise WorkbenchError(f"--out {out}: expected the name of a file, ending in .csv or .parquet{more}")
    _refuse_foreign(out)
    asked = asked_for(run, source, root, precision, steady)
    folder, quarantine = out.with_name(f".{out.name}.parts"), out.with_name(f"{out.name}.quarantine.csv")
    refuse_foreign(quarantine, rb"image_path,reason")
    with folder_of.writing(folder, "--out"):
        _keep_only(_digest(asked, precision, steady), folder)
        parts = (engine or _answered)(asked, folder)
        images, aside = _join(parts, folder / "whole", out.suffix == ".csv") if whole else _counted(parts)
        if images:
            if aside:
                rows = [(mark_path(path), reason) for path, reason in aside]
                write_whole(quarantine, write_csv(rows, ("image_path", "reason")))
            else:
                quarantine.unlink(missing_ok=True)  # of an earlier job
            if out.is_dir():
                shutil.rmtree(out)
            put(folder / "whole" if whole else parts[0].parent, out)
    shutil.rmtree(folder)
    if not images:
        asked.refuse(aside)
    return Written(out, images, aside, quarantine if aside else None)


def _refuse_foreign(out: Path) -> None:
    """Raise WorkbenchError where the file that would be replaced holds anything but predictions."""
    if out.suffix != ".parquet":
        return refuse_foreign(out, rb'image_path,"?p_')
    try:
        ours = not out.is_file() or pq.read_schema(out).names[1].startswith("p_")
    except (pa.ArrowException, OSError, IndexError):
        ours = False
    refuse_foreign(out, b"PAR1" if ours else b"(?!)")


def _holds_others(folder: Path) -> bool:
    """Whether anything is there but the parts of an earlier job."""
    return folder.exists() and not (folder.is_dir() and all(part.match("part-*.parquet") for part in folder.iterdir()))


def _digest(asked: Asked, precision: str, steady: bool) -> bytes:
    """Of all that the answers depend on but the content of the images."""
    run, digest = asked.run, hashlib.blake2b((asked.run.folder / folder_of.BEST).read_bytes(), digest_size=16)
    settings = (run.class_names, run.state["architecture"], run.state["settings"]["image_size"], precision, steady)
    places = (os.path.abspath(asked.root), asked.paths)  # noqa: PTH100 (links stay)
    digest.update(json.dumps([__version__, settings, asked.thresholds.to_dict(), places]).encode())
    return digest.hexdigest().encode()


def _keep_only(digest: bytes, folder: Path) -> None:
    """Remove parts that answer something else."""
    asked = folder / "asked"
    if asked.exists() and asked.read_bytes() != digest:
        log.warning("%s: the run, the images or the settings are others than when it was begun; begun anew", folder)
        asked.unlink()
    if not asked.exists():
        for part in folder.glob("*.parquet"):
            part.unlink()
        shutil.rmtree(folder / OWN, ignore_errors=True)
        write_whole(asked, digest)


def _answered(asked: Asked, folder: Path) -> list[Path]:
    """The parts, all of them answered."""
    paths = asked.paths
    parts = [folder / f"{place:07}.parquet" for place in range(-(-len(paths) // PART))]
    there = list(takewhile(Path.exists, parts))
    done = min(len(there) * PART, len(paths))
    if there:
        log.warning("going on: %s of %s images are done", f"{done:,}", f"{len(paths):,}")
    columns = columns_of(asked)
    with progress_bar(len(paths), "predicting", done) as bar:
        answers = asked.answers(paths[done:], PART, bar.update)
        for part, (frame, aside) in zip(parts[len(there) :], answers, strict=True):
            schema, content = pa.schema(columns, {ASIDE: json.dumps(aside)}), pa.BufferOutputStream()
            pq.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False), content)
            write_whole(part, content.getvalue())
    return parts


def columns_of(asked: Asked) -> list[tuple[str, pa.DataType]]:
    """The columns of a part, as Arrow has them."""
    kinds = {"p": pa.float32(), "present": pa.int8()}
    if asked.thresholds.review is not None:
        kinds["review"] = pa.bool_()
    names = asked.run.class_names
    return [("image_path", pa.string()), *((f"{kind}_{name}", its) for kind, its in kinds.items() for name in names)]


def _join(parts: Sequence[Path], file: Path, as_csv: bool) -> tuple[int, Aside]:
    """Write what all parts hold; how many images these are, and those that were set aside."""
    images, aside, writer = 0, [], None
    with file.open("wb") as whole:
        for part in parts:
            table = pq.read_table(part)
            aside += [(path, reason) for path, reason in json.loads(table.schema.metadata[ASIDE])]
            if as_csv:
                frame = table.to_pandas()
                frame = frame.assign(image_path=frame.image_path.map(mark_path))
                frame.to_csv(whole, index=False, header=part == parts[0])
            else:
                bare = table.replace_schema_metadata()
                writer = writer or pq.ParquetWriter(whole, bare.schema)
                writer.write_table(bare)
            images += len(table)
        if writer:
            writer.close()
        whole.flush()
        os.fsync(whole.fileno())
    return images, aside


def _counted(parts: Sequence[Path]) -> tuple[int, Aside]:
    """How many images are in the parts, and those that were set aside."""
    abouts = [pq.read_metadata(part) for part in parts]
    aside = [(path, reason) for about in abouts for path, reason in json.loads(about.metadata[ASIDE])]
    return sum(about.num_rows for about in abouts), aside
