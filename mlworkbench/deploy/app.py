"""Page for trying a finished run out: give it an image, and see each class against its threshold and where it is."""

from pathlib import Path, PurePath
from typing import Any

import anywidget
import numpy as np
import PIL.Image
import torch
import traitlets
from matplotlib.figure import Figure

from ..data.images import SUFFIXES, ImageFault, decode, locate
from ..exceptions import WorkbenchError
from ..network.batches import squared
from ..runs.run import Run
from ..scoring.predictions import Predictions
from ..text import number, printable, shortened
from ..views.galleries import answer_figure, data_uri, outlined
from ..views.parts import page
from ..views.plots import nothing

PICTURE = 640  # pixels of the longer side
MOST = 64  # MB of an image file
PIECE = 2**21  # bytes that the page sends at once: Jupyter's servers close a connection over 10 MB in one message


def try_out(run: Run | str | Path, root: str | Path | None = None) -> "TryOut":
    """Page for trying a finished run out, as a widget.

    Parameters
    ----------
    run : a finished run, or its folder
    root : where the paths that are typed in the page start, and must stay (default: the folder of the run's images)

    Raises
    ------
    WorkbenchError : the run has no weights that can be read

    >>> try_out("runs/first")                            # doctest: +SKIP
    """
    return TryOut(run if isinstance(run, Run) else Run(run), None if root is None else Path(root))


class TryOut(anywidget.AnyWidget):
    """An image dropped, pasted, chosen or named, a bar for each class against its threshold, and a map of any class.

    Images from the page are decoded by the same decoder as files, within its limits, and stay in memory: nothing is
    written. The first image shown is one of the test split, where these are at hand.
    """

    _esm = page("app", "js")
    _css = page("app", "css")
    fixed = traitlets.Dict().tag(sync=True)
    view = traitlets.Dict().tag(sync=True)
    seen = traitlets.Dict().tag(sync=True)

    def __init__(self, run: Run, root: Path | None = None):
        self.run, self.names, self._root = run, run.class_names, root
        self._predictor = run.predictor()  # weights that cannot be read are told here, not in the page
        self._bytes, self._place, self._maps = bytearray(), -1, np.empty(0)
        self._picture, self._square = np.empty(0), torch.empty(0)
        try:
            self._root = root or run.root
            tests = [path for path, split in run.splits().items() if split == "test"]
        except WorkbenchError:  # they have not come along with the run
            tests = []
        self._tests = [tests[i] for i in np.random.default_rng(0).permutation(len(tests))]
        super().__init__(
            fixed={
                "names": [shortened(name, 80) for name in self.names],
                "run": run.folder.resolve().name,
                "accept": ",".join(("image/*", *SUFFIXES)),
                "most": MOST * 10**6,
                "piece": PIECE,
                "paths": self._root is not None,
                "tests": len(self._tests),
            }
        )
        self.on_msg(lambda _, message, buffers: self._take(message, buffers))
        if self._tests:
            self.another()

    def __repr__(self) -> str:
        return "Page for trying the run out: runs in a live Jupyter; the picture below stands in its place."

    # What a person does

    def another(self) -> None:
        """Show the next image of the test split, in a random order."""
        self._place = (self._place + 1) % len(self._tests)
        self.choose(self._tests[self._place])

    def choose(self, path: str) -> None:
        """Show the image of this path below the root, or the test image of this name."""
        path = next((its for its in self._tests if path in (its, PurePath(its).name)), path)
        try:
            if self._root is None:
                raise ImageFault("the run's images are not here; drop a file")
            self._show(path, locate(path, self._root))
        except ImageFault as fault:
            self._tell(path, str(fault))

    def take(self, data: bytes, name: str) -> None:
        """Show the image of these bytes of a file, which is called by this name."""
        self._show(name, data)

    def look(self, c: int) -> None:
        """Show where the network sees a class, by its place in the run's classes, in the image that is shown."""
        if not self._maps.size:
            self._maps = self.run.maps(self._square)
        found = self._maps[c]
        there = found.max() > 0
        self.seen = {
            "at": self.view["at"],
            "class": c,
            "picture": data_uri(outlined(self._picture, found)) if there else "",
            "said": "Orange where it is seen, outlined where at least half as strongly as anywhere."
            if there
            else "Nothing in this image speaks for it.",
        }

    def figure(self) -> Figure:
        """The image that is shown, the class most sure to be there, and the bars, for where no kernel runs."""
        view = self.view
        if "order" not in view:
            return nothing()
        order = view["order"]
        self.look(order[0])
        p, limits, names = ([values[c] for c in order] for values in (view["p"], view["thresholds"], self.names))
        return answer_figure(self._picture, outlined(self._picture, self._maps[order[0]]), p, limits, names)

    def _take(self, message: dict[str, Any], buffers: list[memoryview]) -> None:
        """What the page sends: what to `do`; an image comes in pieces, the first of which says so."""
        try:
            if message["do"] == "look":
                if message["at"] == self.view.get("at"):
                    self.look(message["class"])
            elif message["do"] == "piece":
                self._gather(message, buffers[0])
            elif message["do"] == "open":
                self.choose(message["path"])
            else:
                self.another()
        except Exception as error:
            self._tell(message.get("name", ""), f"not done: {error}")
            if not isinstance(error, (WorkbenchError, OSError)):
                raise  # to the log, while the page can go on

    def _gather(self, message: dict[str, Any], piece: memoryview) -> None:
        if message["first"]:
            self._bytes = bytearray()
        if len(self._bytes) + len(piece) > MOST * 10**6:
            self._bytes = bytearray()
            self._tell(message["name"], f"larger than {MOST} MB, the most that this page takes")
            return
        self._bytes += piece
        if message["last"]:
            data, self._bytes = bytes(self._bytes), bytearray()
            self.take(data, message["name"])

    # What is shown

    def _show(self, name: str, source: Path | bytes) -> None:
        """Show an image and what the run says of it, or in one line why it cannot be read."""
        size = self.run.state["settings"]["image_size"]
        try:
            square = torch.from_numpy(squared(decode(source, size), size))  # as `predict` does it
            pixels = decode(source, PICTURE)
        except ImageFault as fault:
            self._tell(name, str(fault))
            return
        height, width = pixels.shape[:2]
        shrink = PICTURE / max(height, width)
        shown = max(1, round(width * shrink)), max(1, round(height * shrink))
        self._picture = np.asarray(PIL.Image.fromarray(pixels).resize(shown, reducing_gap=2.0))
        self._square, self._maps = square, np.empty(0)
        logits = self._predictor.logits(square[None])
        limits = self.run.thresholds()
        answer = limits.calibrated(Predictions(np.array([name], object), self.names, logits))
        p, present, values = answer.probabilities[0], limits.decide(answer)[0], limits.aligned(self.names)
        order = np.lexsort((-p, ~present))
        self._change(
            name=name,
            picture=data_uri(self._picture),
            p=p.tolist(),
            thresholds=values.tolist(),
            numbers=[(number(a), number(b)) for a, b in zip(p, values, strict=True)],
            present=present.tolist(),
            order=order.tolist(),
        )

    def _tell(self, name: str, fault: str) -> None:
        self._change(fault=f"{printable(shortened(name, 80))}: {fault}" if name else fault)

    def _change(self, **what: Any) -> None:
        """Show this, or, beside what stands there, a fault."""
        kept = self.view if "fault" in what else {}
        self.view = {**kept, "fault": "", **what, "at": self.view.get("at", 0) + 1}
