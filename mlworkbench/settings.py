"""Settings of a training, each declared once: its type, default, help, bounds and flag."""

import json
import operator
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any, NoReturn, get_args

from .exceptions import WorkbenchError
from .text import did_you_mean, shortened

ROUTES = ("loop", "ultralytics", "probe")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
LOSSES = ("bce", "asl", "softmax")
KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "a mapping of names to plain values",
}
BOUNDS = {
    "low": ("of at least", operator.ge), "above": ("above", operator.gt),
    "high": ("at most", operator.le), "below": ("below", operator.lt),
}  # fmt: skip


def setting(
    default: Any,
    help: str,
    flag: str | None = None,
    metavar: str | None = None,
    choices: tuple[str, ...] = (),
    free: bool = False,
    **bounds: float,
) -> Any:
    """A field of `Settings` with all that is known of it.

    Parameters
    ----------
    flag : on the command line; without one it is `--set NAME VALUE`
    free : decides only where and how fast a training runs, so that a resumed one may change it
    bounds : `low`, `above`, `high` or `below`, as `BOUNDS` words them
    """
    known = {"help": help, "flag": flag, "metavar": metavar, "choices": choices, "free": free, "bounds": bounds}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=known)
    return field(default=default, metadata=known)


@dataclass(frozen=True)
class Settings:
    """Settings of a training, each checked by its type and bounds; NumPy's scalars become Python's own."""

    model: str = setting(
        "yolov8n-cls.yaml",
        "architecture with random weights, a checkpoint, or a run to begin with its weights",
        "--model",
        "NAME.yaml|NAME.pt|RUN",
    )
    route: str = setting(
        "loop", "our loop, Ultralytics' trainer, or a head on a frozen backbone", "--route", choices=ROUTES
    )
    epochs: int = setting(15, "passes over the training images", "--epochs", low=1)
    batch_size: int = setting(32, "images an optimiser step, over all processes", "--batch", low=2)
    image_size: int = setting(224, "side in pixels", "--imgsz", low=32)
    learning_rate: float = setting(
        1e-3, "its peak, after a tenth of the steps; then half a cosine down to 0", "--lr", above=0, below=1
    )
    flip: bool = setting(False, "mirror images at random (not for text)", "--flip")
    seed: int = setting(0, "decides weights, order, augmentation, and the split where none is given", "--seed", low=0)
    precision: str = setting("auto", "the fastest, as measured, or a given one", "--precision", choices=PRECISIONS)
    device: str = setting("auto", "cpu, cuda, mps, or the number of a GPU", "--device", "D", free=True)
    workers: int | None = setting(
        None, "decoding processes where the cache is too small; none is one a core", "--workers", "N", free=True, low=0
    )
    loss: str = setting(
        "bce", "binary cross entropy, asymmetric, or (route ultralytics) softmax as it is", "--loss", choices=LOSSES
    )
    compile: bool = setting(False, "torch.compile: a minute, then perhaps faster", "--compile")
    max_quarantine: float = setting(0.2, "share of bad images allowed", "--max-quarantine", "F", low=0, high=1)
    head_epochs: int = setting(0, "first epochs in which only the last layer learns", low=0)
    backbone_rate: float | None = setting(
        None, "share of the learning rate for all other layers; none is 1, from trained weights 0.7", above=0, high=1
    )
    freeze: int = setting(0, "first layers that keep their weights: faster, see docs/numbers.md", low=0)
    accumulate: int = setting(1, "pieces in which a batch is computed, where memory is short", low=1)
    patience: int = setting(0, "epochs without a better validation mAP after which to stop; 0 is never", low=0)
    positive_weight: float = setting(
        1.0, "the most that a positive of a rare class may weigh, with `--loss bce`; 1 is no weighting", low=1
    )
    ema: float = setting(0.99, "upper bound of the decay of the averaged weights; 0 is none", low=0, below=1)
    weight_decay: float = setting(0.05, "AdamW's, not on norms and biases", low=0)
    crop: bool = setting(False, "random crops: more variety, at the risk of losing what a label names")
    folds: int = setting(5, "parts of the cross-validation of `--route probe`", low=2)
    cache_gb: float = setting(10.0, "most disk space for decoded images, 10^9 bytes; 0 is none", free=True, low=0)
    ultralytics: dict = setting({}, "more arguments of Ultralytics' trainer, by its names")  # noqa: RUF009

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", _device(self.device))
        for each in fields(self):
            object.__setattr__(self, each.name, _checked(each, getattr(self, each.name)))
        if self.positive_weight > 1 and self.loss != "bce":
            raise WorkbenchError(f"positive_weight is {self.positive_weight!r}; expected 1, above it only bce")
        if self.batch_size < 2 * self.accumulate:
            raise WorkbenchError(f"batch_size {self.batch_size} in {self.accumulate} pieces; expected 2 images in each")
        if self.route != "ultralytics" and (self.ultralytics or self.loss == "softmax"):
            what = "the arguments of Ultralytics' trainer" if self.ultralytics else "loss 'softmax'"
            raise WorkbenchError(f"{what} with the route {self.route!r}; expected the route 'ultralytics'")

    @classmethod
    def of(cls, **values: Any) -> "Settings":
        """Settings from keywords; an unknown one is an error that names those that exist."""
        for name in values:
            _field(name)
        return cls(**values)

    @classmethod
    def resumed(cls, saved: Mapping[str, Any], given: Mapping[str, Any]) -> "Settings":
        """The settings of a run that goes on: its own, which those given now must not contradict.

        More epochs are no contradiction, but for the route "probe", which has none.
        """
        own, now = cls.of(**saved), cls.of(**{**saved, **given})
        if now.epochs < own.epochs:
            raise WorkbenchError(
                f"epochs is {now.epochs}, but the run to resume has {own.epochs}; give more to train on"
            )
        longer = ("epochs",) if own.route != "probe" else ()
        for name in given:
            if name not in longer and name not in FREE and getattr(now, name) != getattr(own, name):
                refuse_other(name, getattr(now, name), getattr(own, name))
        return now


FREE = tuple(known.name for known in fields(Settings) if known.metadata["free"])


def decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides what is trained; what is left out is as it is by default."""
    return {key: value for key, value in {**asdict(Settings()), **settings}.items() if key not in FREE}


def refuse_other(name: str, value: Any, own: Any) -> NoReturn:
    """The error of something given again that is not the run's own."""
    raise WorkbenchError(
        f"{name} is {value!r}, but the run to resume has {own!r}; leave it out, or train into another folder"
    )


def _device(value: Any) -> Any:
    """A device by torch's name for it, where it came as the number of a GPU, as Ultralytics' users have it."""
    numbers = value if isinstance(value, (list, tuple)) else str(value).split(",")
    if not numbers or not all(str(number).strip().isdecimal() for number in numbers):
        return value
    if len(numbers) != 1:
        raise WorkbenchError(
            f"device is {value!r}, but a process trains on one; for {len(numbers)} leave it out and start as many: "
            f"torchrun --standalone --nproc_per_node {len(numbers)} -m -- mlworkbench train …"
        )
    return f"cuda:{int(numbers[0])}"


def typed(name: str, text: str) -> Any:
    """The value of a setting as people write it; anything that does not fit is an error."""
    known = _field(name)
    kind = _kinds(known)[0]
    if kind is dict:
        raise WorkbenchError(f"{name} is {text!r}; a mapping is given in Python only: mw.fit(…, {name}={{'lrf': 0.1}})")
    try:
        value = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        value = text  # of which the check says what it should have been
    return _checked(known, value)


def as_arguments(saved: Mapping[str, Any]) -> list[str]:
    """Settings that are not the defaults as `train` takes them; a mapping, which only Python gives, is left out."""
    found: list[str] = []
    for known in fields(Settings):
        value, flag = saved.get(known.name), known.metadata["flag"]
        if known.type is dict or value is None or value == known.default:
            continue
        text = str(value).lower() if known.type is bool else str(value)
        found += ["--set", known.name, text] if flag is None else [flag] if known.type is bool else [flag, text]
    return found


def default_text(known: Field) -> str:
    """The default of a field as people read it."""
    return str(known.default).lower() if type(known.default) is not float else f"{known.default:g}"


def _field(name: str) -> Field:
    known = {each.name: each for each in fields(Settings)}
    if name not in known:
        raise WorkbenchError(f"unknown setting {name!r}; expected one of {', '.join(known)}{did_you_mean(name, known)}")
    return known[name]


def _kinds(known: Field) -> tuple[type, ...]:
    """The types that its values may have, the telling one first."""
    return get_args(known.type) or (known.type,)


def _checked(known: Field, value: Any) -> Any:
    """The value in Python's own types, as `run.json` gives it back; whatever does not fit its field is an error."""
    kinds, choices, bounds = _kinds(known), known.metadata["choices"], known.metadata["bounds"]
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_own)
        text.encode()  # a file holds no half of a surrogate pair
        plain = json.loads(text)
        if float in kinds and type(plain) is int:
            plain = float(plain)
        fits = type(plain) in kinds and (not choices or plain in choices)
        fits = fits and (type(plain) is not dict or all(isinstance(key, str) for key in value))
        if fits and (plain is None or all(BOUNDS[name][1](plain, bound) for name, bound in bounds.items())):
            return plain
    except (TypeError, ValueError, OverflowError, RecursionError):
        pass
    words = " and ".join(f"{BOUNDS[name][0]} {bound:g}" for name, bound in bounds.items())
    expected = f"one of {', '.join(choices)}" if choices else f"{KINDS[kinds[0]]} {words}".rstrip()
    raise WorkbenchError(f"{known.name} is {shortened(' '.join(repr(value).split()), 80)}; expected {expected}")


def _own(value: Any) -> Any:
    """Of what JSON does not know: NumPy's scalars as Python's, any mapping as a dict."""
    if isinstance(value, Mapping):
        return dict(value)
    if getattr(value, "shape", None) == ():
        return value.item()
    raise TypeError
