"""Ray engine: the parts of a job answered by workers on several machines, or on the cores of one."""

import copy
import json
import logging
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..cores import count_cores
from ..exceptions import RunFailed, WorkbenchError
from ..progress import progress_bar

if TYPE_CHECKING:  # the processes that write have no need of torch
    from .predict import Asked

try:
    import ray
    from ray.data import ActorPoolStrategy, DataContext, read_datasource
    from ray.data.block import BlockMetadata
    from ray.data.checkpoint import CheckpointConfig
    from ray.data.datasource import BlockBasedFileDatasink, Datasource, ReadTask
    from ray.exceptions import RayError
except ImportError:
    raise WorkbenchError('the engine "ray" needs Ray: pip install "mlworkbench[ray]"') from None

log = logging.getLogger("mlworkbench")
STORE = 2**28  # bytes that processes on one machine share: a network and a few tables; Ray's own is a third of memory
BLOCKS = 64  # at least so many, so that there is work for many workers
ID = "row"  # the place of an image among all: Ray's checkpoints tell by it what is done
FIRST = b"first"  # in a part's metadata: the place of its first image


def answered(asked: "Asked", folder: Path, address: str | None = None) -> list[Path]:
    """The parts of a job in the order of its images, each a Parquet file, see `parts`.

    Ray Data hands out the images in blocks of whole batches, so that each has the same bits as on one machine. Its
    checkpoints, in `folder` beside the parts, tell what a stopped job has done. The network goes to the workers by
    itself; the images and `folder` they must find under the paths that they have here.

    Parameters
    ----------
    address : of a cluster; by default one worker for each core of this machine

    Raises
    ------
    WorkbenchError : no cluster there
    RunFailed : Ray gave up; what is done is kept
    """
    from ..network.infer import BATCH
    from .parts import ASIDE, OWN, PART

    folder = folder.absolute() / OWN
    rows, done = folder / "rows", folder / "checkpoint"
    if not rows.exists():  # the parts of an earlier job have been taken away
        shutil.rmtree(folder, ignore_errors=True)
        rows.mkdir(parents=True)
    total = len(asked.paths)
    size = min(PART, BATCH * max(1, total // (BATCH * BLOCKS)))  # of the images alone: a job may go on elsewhere
    reached = min(size * len(list(done.glob("*.parquet"))), total)
    if reached:
        log.warning("going on: about %s of %s images are done", f"{reached:,}", f"{total:,}")
    said = folder / "ray.log"
    with _redirected(said) as stderr:
        with redirect_stderr(stderr):
            bar = progress_bar(total, "predicting", reached)
        with bar, _connected(address, said) as workers, DataContext.current(_settings(done)), _watched(done, size, bar):
            blocks = -(-total // size)
            # Reading and writing need no core: with workers on all of them neither would ever begin.
            images = read_datasource(_Images(asked.paths, size), num_cpus=0, concurrency=1, override_num_blocks=blocks)
            answers = images.map_batches(
                _Worker,
                fn_constructor_args=(_shipped(asked),),
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=1,
                compute=ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
            )
            at_once = -(-workers // 16)
            answers.write_datasink(_Parts(str(rows), ASIDE), ray_remote_args={"num_cpus": 0}, concurrency=at_once)
    return _in_order(rows, total)


def _settings(done: Path) -> DataContext:
    settings = DataContext.get_current().copy()
    settings.enable_progress_bars = False  # they tell of operators and blocks; ours tells of images
    settings.use_datasource_v2 = False  # its reader would begin 32 processes to read the checkpoints
    settings.target_max_block_size = None  # a block stays whole, from its images to its part
    # Kept until the parts have been taken away: without it the next job would write them all once more.
    settings.checkpoint_config = CheckpointConfig(ID, str(done), delete_checkpoint_on_success=False)
    settings.checkpoint_config.checkpoint_actor_memory_bytes = STORE  # not the 1 GiB that Ray would set aside
    return settings


class _Images(Datasource):
    """Images by their place and path, in blocks of equal size."""

    def __init__(self, paths: list[str], size: int):
        self._paths, self._size = paths, size

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        return [self._block(start) for start in range(0, len(self._paths), self._size)]

    def _block(self, start: int) -> ReadTask:
        paths = self._paths[start : start + self._size]
        table = pa.table({ID: np.arange(start, start + len(paths)), "image_path": pa.array(paths, pa.string())})
        return ReadTask(lambda: [table], BlockMetadata(len(table), table.nbytes, None, None))


class _Worker:
    """A network in a process of its own."""

    def __init__(self, asked: "Asked"):
        if not asked.root.is_dir():  # or all its images would be set aside as missing
            raise WorkbenchError(f"{asked.root} with the images is not on the machine {os.uname().nodename}")
        self._asked = asked

    def __call__(self, images: pa.Table) -> pa.Table:
        """A row for each image: its prediction, or the reason why there is none."""
        from .parts import columns_of

        paths, rows = images["image_path"].to_pylist(), images[ID].to_numpy()
        ((frame, aside),) = self._asked.answers(paths, len(paths), lambda _: None)
        bad = np.isin(paths, [path for path, _ in aside])
        columns = pa.schema(columns_of(self._asked))
        good = pa.Table.from_pandas(frame, columns, preserve_index=False).append_column(ID, pa.array(rows[~bad]))
        texts = pa.schema([("image_path", pa.string()), ("reason", pa.string())])
        others = pa.Table.from_pylist([dict(zip(texts.names, pair, strict=True)) for pair in aside], texts)
        others = others.append_column(ID, pa.array(rows[bad]))
        return pa.concat_tables([good, others], promote_options="default")


class _Parts(BlockBasedFileDatasink):
    """A part for each block."""

    def __init__(self, folder: str, aside: bytes):
        super().__init__(folder, file_format="parquet")
        self._aside = aside

    def write_block_to_file(self, block: Any, file: Any) -> None:
        table = block.to_arrow()
        good = pc.is_null(table["reason"])
        aside = table.filter(pc.invert(good))
        pairs = list(zip(aside["image_path"].to_pylist(), aside["reason"].to_pylist(), strict=True))
        about = {self._aside: json.dumps(pairs), FIRST: str(pc.min(table[ID]).as_py())}
        pq.write_table(table.filter(good).drop_columns(["reason", ID]).replace_schema_metadata(about), file)


def _shipped(asked: "Asked") -> "Asked":
    """What a worker needs: not the images of the others, and the weights once."""
    run = copy.copy(asked.run)
    run.__dict__.pop("model", None)
    root = Path(os.path.abspath(asked.root))  # noqa: PTH100 (links stay)
    return replace(asked, run=run, source=None, root=root, paths=[], predictor=asked.predictor.alone())


def _in_order(folder: Path, total: int) -> list[Path]:
    """The parts, numbered in the order of their images, which must all be there, once."""
    from .parts import ASIDE

    parts: dict[int, tuple[int, Path]] = {}
    for part in folder.glob("*.parquet"):
        about = pq.read_metadata(part)
        first = int(about.metadata[FIRST])
        if first in parts:  # by a worker that outlived its driver: it says the same
            part.unlink()
        else:
            parts[first] = about.num_rows + len(json.loads(about.metadata[ASIDE])), part
    firsts = sorted(parts)
    if [*firsts, total] != [*accumulate((parts[first][0] for first in firsts), initial=0)]:
        raise RunFailed(
            f"the parts in {folder} do not hold each of {total:,} images once; is it the same folder on all machines? "
            f"Remove {folder.parent} and begin anew"
        )
    return [parts[first][1].rename(folder / f"part-{place:07}.parquet") for place, first in enumerate(firsts)]


@contextmanager
def _connected(address: str | None, said: Path) -> Iterator[int]:
    """Ray, on a cluster or begun here for as long as this is open, and how many workers it has room for.

    Nothing is reported to its makers. `said` is the file that holds what it says.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    own = {"num_cpus": count_cores() + 1, "object_store_memory": STORE, "include_dashboard": False}
    here = own if address is None else {}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _begin(address, **here)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray has put its own there
        workers = int(ray.cluster_resources().get("CPU", 0)) - 1  # one sorts out what the checkpoints hold
        if workers < 1:
            raise WorkbenchError(f"the Ray cluster at {address} has fewer than two cores")
        yield workers
    except RayError as error:
        cause = re.search(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception): .*)", str(error), re.MULTILINE)
        why = cause[1] if cause else type(error).__name__
        raise RunFailed(f"Ray gave up: {why} ({said}); what is done is kept, and the same command goes on") from error
    finally:
        ray.shutdown()


def _begin(address: str | None, **here: Any) -> None:
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **here)
    except ConnectionError:
        raise WorkbenchError(f"no Ray cluster at {address}; expected HOST:PORT as `ray start` says it") from None
    except Exception as error:  # a bare one, where its own processes are not there after some seconds
        raise RunFailed(f"Ray did not start ({error}); is the machine busy? The same command tries it again") from error


@contextmanager
def _redirected(said: Path) -> Iterator[TextIO]:
    """What Ray says, also by native code, goes into a file; gives what was standard error before."""
    native = os.dup(2)
    with os.fdopen(native, "w", 1, "utf-8") as stderr, said.open("a", 1, "utf-8") as file:
        before = stderr if sys.stderr is sys.__stderr__ else sys.stderr
        os.dup2(file.fileno(), 2)
        try:
            with redirect_stdout(file), redirect_stderr(file):
                yield before
        finally:
            os.dup2(native, 2)


@contextmanager
def _watched(done: Path, size: int, bar: Any) -> Iterator[None]:
    """While this is open the bar follows the checkpoints, each of a block of images."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1):
            bar.update(min(size * len(list(done.glob("*.parquet"))), bar.total) - bar.n)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
