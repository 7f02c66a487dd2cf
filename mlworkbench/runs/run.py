"""Run: what a user calls on a finished training. It joins the parts and holds no mathematics."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..data.corrections import Correction, correct
from ..data.images import ImageFault
from ..data.labels import SPLITS, LabelTable, read_labels
from ..data.prepare import Prepared, image_traits
from ..decisions.thresholds import HAND, Thresholds, evaluate
from ..exceptions import WorkbenchError
from ..files import read_json, write_csv, write_json, write_whole
from ..paths import near
from ..progress import progress_bar
from ..scoring.calibration import bends, calibrate
from ..scoring.predictions import Predictions
from ..scoring.prevalence import KEY as PREVALENCE
from ..settings import as_arguments, refuse_other
from ..text import mark_path, short, unmark_path
from . import folder as folder_of
from .folder import best_place

if TYPE_CHECKING:  # torch and Ultralytics take seconds to import: they wait for who asks the network
    from ..network.infer import Predictor
    from ..network.model import YOLOClassifier

# What the values of run.json are.
KINDS = {"class_names": list, "settings": dict, "architecture": dict, "precision": dict}
KINDS |= dict.fromkeys(("status", "image_root", "labels_file", "labels_sha256", "images_hash"), str)


class Run:
    """One training and all that came of it, read from its folder.

    >>> run = Run("runs/first")                          # doctest: +SKIP
    >>> run.predictions("val").probabilities.shape       # doctest: +SKIP
    (450, 10)
    """

    def __init__(self, folder: str | Path, root: str | Path | None = None):
        self.folder, self._root = Path(folder), None if root is None else Path(root)
        self._unkept: dict[str, pd.DataFrame] = {}  # predictions that a folder which cannot be written does not hold

    @cached_property
    def state(self) -> dict[str, Any]:
        """The content of `run.json`."""
        file = self.folder / folder_of.STATE
        if not file.exists():
            if next(self.folder.glob(f"*/{folder_of.STATE}"), None):
                raise WorkbenchError(f"{self.folder} holds runs and is none: mlworkbench runs {self.folder} lists them")
            if above := next(filter(folder_of.holds_run, self.folder.parents), None):
                raise WorkbenchError(f"{self.folder} is part of a run: name the run itself, {above}")
            if self.folder.is_file():
                raise WorkbenchError(f"{self.folder} is a file; expected a run folder")
            if not self.folder.exists() and (hint := near(self.folder)):
                raise WorkbenchError(f"{file} does not exist{hint}")
        state = read_json(file)
        if not isinstance(state, dict) or state.get("format_version") != folder_of.FORMAT_VERSION:
            raise WorkbenchError(f"{file} is of no version that this package reads")
        return _checked(file, state)

    @property
    def class_names(self) -> list[str]:
        return list(self.state["class_names"])

    @property
    def status(self) -> str:
        return str(self.state["status"])

    @property
    def history(self) -> pd.DataFrame:
        """One row an epoch: `epoch, lr, train_loss, val_loss, val_map`, `ap_CLASS` for every class, `seconds`."""
        return self._read_csv(folder_of.HISTORY, ("epoch", "val_loss", "val_map"))

    @property
    def quarantine(self) -> pd.DataFrame:
        """The images that were set aside: `line, image_path, reason`."""
        found = self._read_csv(folder_of.QUARANTINE, ("image_path", "reason"), keep_default_na=False, dtype=str)
        return found.assign(image_path=found.image_path.map(unmark_path))

    @property
    def findings(self) -> pd.DataFrame:
        """What notebook 01 found in the labels that this run learned: `kind, finding`."""
        file = self.folder / folder_of.INSPECT / "summary.json"
        if read_json(file).get("labels_sha256") != self.state["labels_sha256"]:
            raise WorkbenchError(f"{file.parent} is of other labels than the run's; notebook 01 inspects these")
        return self._read_csv(
            f"{folder_of.INSPECT}/findings.csv", ("kind", "finding"), keep_default_na=False, dtype=str
        )

    @property
    def best_epoch(self) -> pd.Series:
        """The row of `history` whose weights are the run's."""
        history = self.history
        return history.iloc[best_place(history.to_dict("records"))]

    @property
    def root(self) -> Path:
        """Where the run's image paths start: where they did when it was trained, or the `root` given."""
        root = Path(self.state["image_root"]) if self._root is None else self._root
        if not root.is_dir():
            how = "give their folder: --root DIR, in Python Run(folder, root=DIR)"
            raise ImageFault(f"{self.folder}: its images were in {root}, which is not here; {how}")
        return root

    @cached_property
    def model(self) -> "YOLOClassifier":
        """The network with the best weights, in eval mode."""
        from ..network.model import build_model, load_weights

        model = build_model(self.state["architecture"], self.class_names)
        model.exclusive = self.state["settings"]["loss"] == "softmax"
        return load_weights(model, self.folder / folder_of.BEST).eval()

    def predictions(self, split: str, raw: bool = False) -> Predictions:
        """What the best weights say of a split, computed once and kept in the run folder.

        Also of "train_out_of_fold", which the route "probe" and `suspects.out_of_fold` leave: the training images as
        models see them that were not trained on their labels.

        Calibrated where the saved thresholds hold a calibration, unless `raw`; the folder keeps the logits as they are.
        """
        file = self.folder / folder_of.predictions_file(split)
        if split not in self._unkept and not file.exists():
            if split == folder_of.OUT_OF_FOLD:
                raise WorkbenchError(
                    f"{self.folder} has no out-of-fold predictions: mlworkbench errors RUN --split train --folds 5"
                )
            if split not in SPLITS:
                raise WorkbenchError(f"split {split!r}; expected one of {', '.join(SPLITS)}")
            table = _rows(self.table(), self._paths_of(split))
            with folder_of.keeping(self.folder) as kept:  # not while its weights are still changing
                found = self.predict(table.paths, table.root, raw=True)
                self.write_predictions(replace(found, y=table.y), split, kept)
        try:
            frame = self._unkept[split] if split in self._unkept else pd.read_parquet(file)
            found = Predictions.from_frame(frame, split)
        except (OSError, ValueError, KeyError, IndexError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise WorkbenchError(f"{file} is damaged: {reason}; remove it, and it is computed again") from None
        if found.class_names != self.class_names:
            raise WorkbenchError(f"{file} is of other classes than the run; remove it, and it is computed again")
        return found if raw else self.thresholds().calibrated(found)

    def validation(self, calibrated: bool | None = None) -> Predictions:
        """The predictions of val that thresholds are tuned on.

        Parameters
        ----------
        calibrated : whether they are calibrated on their own labels (see `calibrate`); None: where the training's loss
            bends probabilities (see `bends`)
        """
        found = self.predictions("val", raw=True)
        wanted = bends(self.state["settings"]) if calibrated is None else calibrated
        return calibrate(found) if wanted else found

    def predict(self, paths: Iterable[str], root: Path, raw: bool = False, **how: Any) -> Predictions:
        """What the best weights say of any images, likewise; one that cannot be read raises ImageFault.

        For `precision` and `steady` see `network.infer.Predictor`.
        """
        names, logits = list(paths), []
        with progress_bar(len(names), "predicting") as bar:
            for rows, part, faults in self.predictor(**how).stream(names, root):
                for row, fault in faults.items():
                    raise ImageFault(f"image {names[row]!r}: {fault}; has it changed since it was checked?")
                logits.append(part)
                bar.update(len(rows))
        found = np.concatenate(logits) if logits else np.empty((0, len(self.class_names)), np.float32)
        predictions = Predictions(np.array(names, object), self.class_names, found)
        return predictions if raw else self.thresholds().calibrated(predictions)

    def predictor(self, **how: Any) -> "Predictor":
        """From image files to raw logits of the best weights, at the run's image size."""
        from ..network.infer import Predictor

        return Predictor(self.model, self.state["settings"]["image_size"], **how)

    def look(self, image_path: str, class_name: str) -> tuple[np.ndarray, float]:
        """Where in one of its images the network sees a class.

        Returns
        -------
        A map float32 [h, w], see `maps`, and how far it is from the logit, see `distance`
        """
        from ..network.activation_maps import distance
        from ..network.batches import ImageDataset

        size, c = self.state["settings"]["image_size"], self.class_names.index(class_name)
        image = ImageDataset(np.array([image_path], object), self.root, None, size)[0][0]
        found = self.maps(image)
        return found[c], float(distance(self.model, image[None] / 255, found[None])[0, c])

    def maps(self, image: Any) -> np.ndarray:
        """Where the network sees each class in an image, a tensor uint8 [3, S, S] (see `batches.squared`).

        Four times as fine as the network's own cells, where the image size is a multiple of these.

        Returns
        -------
        float32 [C, h, w], see `activation_maps.maps`
        """
        from ..network.activation_maps import maps

        return maps(self.model, image[None] / 255, fine=1 if image.shape[-1] % 32 else 4)[0]

    def thresholds(self) -> Thresholds:
        """The saved thresholds, else 0.5 for every class."""
        file = self.folder / folder_of.THRESHOLDS
        if not file.exists():
            return Thresholds.default(self.class_names)
        data = read_json(file)
        split = data.get("split") if isinstance(data, dict) else None
        return Thresholds.from_dict(data, frozenset(self._paths_of(split) if split else ()))

    def save_thresholds(self, thresholds: Any) -> Path:
        """Write `thresholds.json` (of whatever `Thresholds.of` takes); every later decision of this run uses it.

        Thresholds that a person had set are kept beside it, unless these are a person's too.
        """
        chosen, file = Thresholds.of(thresholds, self.class_names), self.folder / folder_of.THRESHOLDS
        with folder_of.writing(self.folder):
            if chosen.objective != HAND:
                folder_of.keep_hand_made(self.folder)
            write_json(file, replace(chosen, run=self.folder.resolve().name).to_dict())
        return file

    def save_tuned(self, thresholds: Thresholds, replace_hand_made: bool = False) -> bool:
        """Save thresholds that a rule has chosen; those that a person had set stay, unless they may be replaced.

        Returns
        -------
        Whether these are saved
        """
        free = replace_hand_made or not folder_of.hand_made(self.folder)
        if free:
            self.save_thresholds(thresholds)
        return free

    def evaluate(
        self,
        split: str = "test",
        corrections: Iterable[Correction] | None = None,
        prevalence: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """Scores of a split at the saved thresholds, written to `metrics/SPLIT.json`.

        With corrections the labels are those of the labels file with these instead of the run's own, and nothing is
        written: the file belongs to the labels that the run was trained with. Nor does it hold what scores would be at
        another `prevalence` (see `scoring.at_prevalence`).
        """
        found = self.predictions(split)
        if corrections is not None:
            found = replace(found, y=_rows(self.table(corrections), found.paths).y)
        scores = evaluate(found, self.thresholds(), prevalence)
        if corrections is None:
            with folder_of.keeping(self.folder) as kept:
                own = {name: its for name, its in scores.items() if name != PREVALENCE}
                if kept:
                    write_json(self.folder / folder_of.metrics_file(split), own)
        return scores

    @property
    def corrections(self) -> list[Correction]:
        """Those that changed a label when the run was begun; `run.json` keeps them, whatever their file says by now."""
        rows = self.state.get("corrections", [])
        try:
            return [Correction(path, name, old, new, "wrong") for path, name, old, new in rows]
        except (TypeError, ValueError):
            file = self.folder / folder_of.STATE
            raise WorkbenchError(f"{file}: corrections are no rows of path, class, old, new; edited by hand?") from None

    def table(self, corrections: Iterable[Correction] | None = None) -> LabelTable:
        """The labels as they were trained on, or with other corrections; a labels file that has changed is an error."""
        state = self.state
        table = read_labels(self._labels_file(), self.root, self.class_names, tag_delimiter=state["tag_delimiter"])
        if table.sha256 != state["labels_sha256"]:
            raise WorkbenchError(f"{table.source} has changed since this run was trained; train again to use it")
        return correct(table, self.corrections if corrections is None else corrections)

    def _labels_file(self) -> Path:
        """The labels file: where it was, or by its name with the images or in here; its digest tells whether it is."""
        there = Path(self.state["labels_file"])
        places = (there, self.root / there.name, self.folder / there.name)
        return next((file for file in places if file.is_file()), there)

    @property
    def given(self) -> dict[str, Any]:
        """What `read_labels` was told beyond the labels file when the run was begun, but for splits: see `splits`."""
        own = {"root": self.root, "classes": self.class_names, "tag_delimiter": self.state["tag_delimiter"]}
        return {name: own[name] for name in self.state.get("given", ()) if name in own}

    @property
    def command(self) -> str:
        """The command that begins the same training anew.

        Words in capitals stand for files that are not known by their names: their content is in the run folder. What
        only Python can say, a mapping of settings, is left out.
        """
        state = self.state
        given, delimiter = state.get("given", ()), state.get("tag_delimiter")
        words = ["mlworkbench", "train", state["labels_file"], "--run", "RUN"]
        words += ["--root", state["image_root"]] if "root" in given else []
        words += ["--tag-delimiter", delimiter] if "tag_delimiter" in given and delimiter else []
        words += [word for name in ("classes", "splits") if name in given for word in (f"--{name}", name.upper())]
        words += ["--corrections", "CORRECTIONS"] if state.get("corrections") else []
        return shlex.join([*words, *as_arguments(state["settings"])])

    def as_begun(self, table: LabelTable) -> LabelTable:
        """The table as the run's was read, with its corrections, where it came without; other labels are refused."""
        state, other = self.state, f"since {self.folder} was begun; train into another folder"
        if table.sha256 != state["labels_sha256"]:
            raise WorkbenchError(f"{table.source} or its classes have changed {other}")
        forgotten = set(state.get("given", ())) - table.given.keys()
        if forgotten:
            corrections = [Correction(*row, "wrong") for row in table.changed]
            table = correct(read_labels(table.source, **{**self.given, **table.given}), corrections)
        if "splits" in forgotten:  # an image that was set aside has none, and will be set aside again
            splits = self.splits()
            table = replace(table, split=np.array([splits.get(path, SPLITS[0]) for path in table.paths], object))
        if table.tag_delimiter != state["tag_delimiter"]:
            refuse_other("tag_delimiter", table.tag_delimiter, state["tag_delimiter"])
        if list(table.class_names) != self.class_names:
            raise WorkbenchError(f"{table.source} or its classes have changed {other}")
        if not {"corrected", "correction"} & {kind for kind, _ in table.notes}:
            return correct(table, self.corrections)
        if {tuple(row) for row in state.get("corrections", [])} != set(table.changed):
            raise WorkbenchError(
                f"the corrections are not those that {self.folder} was begun with; leave them out to go on with its "
                "own, or train into another folder"
            )
        return table

    def split_table(self) -> LabelTable:
        """The images that the run took, with the labels and the splits that it gave them."""
        splits = self.splits()
        return replace(_rows(self.table(), splits), split=np.array(list(splits.values()), dtype=object))

    def traits(self, split: str) -> pd.DataFrame:
        """What can be told of the images of a split without a model, for `slices.weak_slices`."""
        return image_traits(_rows(self.table(), self._paths_of(split)))

    def splits(self) -> dict[str, str]:
        """The split of each image, as `splits.csv` has them."""
        splits = self._splits_csv()
        return dict(zip(splits.image_path, splits.split, strict=True))

    def groups(self) -> dict[str, int] | None:
        """The number of each image's group, equal where images belong together; None in runs that know of none."""
        if not (self.folder / folder_of.SPLITS).exists():
            return None
        splits = self._splits_csv()
        return dict(zip(splits.image_path, splits.group.astype(int), strict=True)) if "group" in splits else None

    def _splits_csv(self) -> pd.DataFrame:
        splits = self._read_csv(folder_of.SPLITS, ("image_path", "split"), keep_default_na=False, dtype=str)
        return splits.assign(image_path=splits.image_path.map(unmark_path))

    def _read_csv(self, name: str, columns: Sequence[str], **options: Any) -> pd.DataFrame:
        """A table of the run folder, which must have these columns."""
        file = self.folder / name
        try:
            found = pd.read_csv(file, **options)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise WorkbenchError(f"{file}: {reason}; is it the folder of a finished run?") from None
        if missing := [column for column in columns if column not in found]:
            raise WorkbenchError(f"{file} has no column {missing[0]!r}; was it edited by hand?")
        return found

    def _paths_of(self, split: str) -> list[str]:
        return [path for path, its in self.splits().items() if its == split]

    def write_predictions(self, predictions: Predictions, split: str, kept: bool = True) -> None:
        """Keep what the best weights say of a split, with each image's group; the caller holds the folder.

        Where nothing can be written there (`folder.keeping` says so), they are kept as long as this object.
        """
        if groups := self.groups():
            predictions = replace(predictions, groups=np.array([groups[path] for path in predictions.paths], np.int64))
        frame = predictions.to_frame()
        if kept:
            write_whole(self.folder / folder_of.predictions_file(split), frame.to_parquet(None, index=False))
        else:
            self._unkept[split] = frame

    def write_state(self, **changes: Any) -> None:
        """Change `run.json`; the caller holds the folder."""
        known = self.state if folder_of.holds_run(self.folder) else {}
        file = self.folder / folder_of.STATE
        self.state = _checked(file, {**known, **changes})
        write_json(file, self.state)


class _Told(dict):
    """A mapping of `run.json` in which what is not there is told in one line."""

    def __init__(self, file: Path, content: dict[str, Any], within: str = ""):
        super().__init__(content)
        self._file, self._within = file, within

    def __missing__(self, name: str) -> Any:
        raise WorkbenchError(f"{self._file} has no '{self._within}{name}'; was it edited by hand?")


def _checked(file: Path, content: dict[str, Any]) -> _Told:
    """The content of a `run.json`, each value of its kind."""
    for name in content.keys() & KINDS.keys():
        if not isinstance(content[name], KINDS[name]):
            raise WorkbenchError(f"{file}: {name} is {short(content[name])}; was it edited by hand?")
    names = content.get("class_names", [])
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise WorkbenchError(f"{file}: class_names is no list of different names; was it edited by hand?")
    return _Told(file, content | {"settings": _Told(file, content.get("settings", {}), "settings.")})


def _rows(table: LabelTable, paths: Iterable[str]) -> LabelTable:
    """The rows of these images, in this order."""
    rows = pd.Series(np.arange(len(table)), index=table.paths)
    return table.take(rows.loc[list(paths)].to_numpy())


def save_inspection(prepared: Prepared, run_dir: str | Path) -> Path:
    """Write what notebook 01 found to `inspect/`: `summary.json`, `findings.csv` and `quarantine.csv`."""
    folder = Path(run_dir) / folder_of.INSPECT
    table, classes = prepared.table, prepared.classes
    summary = {
        "labels_sha256": table.sha256,
        "rows": len(table) + len(prepared.quarantine),
        "class_names": table.class_names,
        "splits": prepared.split_sizes,
        "positives": {name: classes[name].tolist() for name in SPLITS},
        "warnings": [{"kind": kind, "message": message} for kind, message in prepared.warnings],
    }
    write_json(folder / "summary.json", summary)
    write_whole(folder / "findings.csv", write_csv(prepared.warnings, ("kind", "finding")))
    write_quarantine(prepared.quarantine, folder / folder_of.QUARANTINE)
    return folder


def write_quarantine(quarantine: pd.DataFrame, file: Path) -> None:
    """Write `quarantine.csv`: `line,image_path,reason`."""
    rows = quarantine.assign(image_path=quarantine.image_path.map(mark_path)).itertuples(index=False)
    write_whole(file, write_csv(rows, ("line", "image_path", "reason")))
