"""Lessons: exercises that check an answer and give a hint, and figures that follow sliders."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

from .scoring.predictions import probabilities


@dataclass(frozen=True)
class Verdict:
    """What a check says of an answer.

    Attributes
    ----------
    word : "Right", "Not yet" or "Not attempted"; "Hint" where that was asked for
    right : True, False, or None where nothing is judged
    text : why, or what is amiss
    """

    word: str
    right: bool | None
    text: str

    def __repr__(self) -> str:
        return f"{self.word}: {self.text}"

    def _repr_html_(self) -> str:
        colour = {True: "#009E73", False: "#D55E00", None: "#767676"}[self.right]
        style = f"border-left: 4px solid {colour}; padding: 4px 12px; margin: 4px 0; max-width: 60em"
        return f'<div role="status" style="{style}"><b>{self.word}:</b> {escape(self.text)}</div>'


class _Exercise(NamedTuple):
    judge: Callable[..., str | None]  # what is amiss with an answer, or None
    hint: str
    because: str  # what a right answer shows


_EXERCISES: dict[str, _Exercise] = {}


def check(number: str, answer: Any, *given: Any) -> Verdict:
    """Check an answer to an exercise.

    Parameters
    ----------
    number : of the exercise, such as "4.1"
    answer : `...` while nothing was attempted
    given : what the exercise is about, where its answer depends on that

    Returns
    -------
    Verdict, which a notebook shows

    Examples
    --------
    >>> check("4.1", ...)
    Not attempted: put your answer in place of the dots; lessons.hint("4.1") helps
    """
    its = _EXERCISES[number]
    if answer is ... or (isinstance(answer, tuple | list) and any(part is ... for part in answer)):
        return Verdict("Not attempted", None, f'put your answer in place of the dots; lessons.hint("{number}") helps')
    try:
        amiss = its.judge(answer, *given)
    except Exception as error:  # an answer may be anything, and whatever comes of it is the learner's to know
        no_number = isinstance(answer, str) and isinstance(error, ValueError)
        amiss = "expected a number" if no_number else f"judging it ended in {type(error).__name__}: {error}"
    word, text = ("Not yet", f'{amiss}; lessons.hint("{number}") helps') if amiss else ("Right", its.because)
    return Verdict(word, not amiss, text)


def hint(number: str) -> Verdict:
    """The hint of an exercise."""
    return Verdict("Hint", None, _EXERCISES[number].hint)


def play(draw: Callable[..., Any], alt: str, **sliders: tuple[float, float, float, float]) -> None:
    """Show a figure that follows sliders; where no kernel answers it stands as it was drawn first.

    Parameters
    ----------
    draw : from the sliders' values, by name, to a matplotlib `Figure`
    alt : what the figure shows, for who cannot see it
    sliders : name to lowest, highest, step and first value; of `_` in a name a blank is made
    """
    import ipywidgets as w

    from .views.live import show_widget
    from .views.style import png_uri

    kept: Mapping[str, w.FloatSlider] = {
        name: w.FloatSlider(
            value=first, min=low, max=high, step=step, readout_format="d" if step >= 1 else ".2f",
            description=name.replace("_", " "), style={"description_width": "initial"}, layout={"width": "26em"},
        )
        for name, (low, high, step, first) in sliders.items()
    }  # fmt: skip
    picture = w.HTML()

    def drawn(*_: object) -> Any:
        figure = draw(**{name: slider.value for name, slider in kept.items()})
        width = round(100 * figure.get_figwidth())
        picture.value = f'<img alt="{escape(alt)}" width="{width}" src="{png_uri(figure)}">'
        return figure

    for slider in kept.values():
        slider.observe(drawn, "value")
    show_widget(w.VBox([*kept.values(), picture]), drawn())


def _exercise(number: str, hint: str, because: str) -> Callable[[Callable[..., str | None]], None]:
    """Make a judge the one of an exercise."""

    def keep(judge: Callable[..., str | None]) -> None:
        _EXERCISES[number] = _Exercise(judge, hint, because)

    return keep


def _near(answer: Any, truth: float, within: float = 0.005) -> bool:
    return abs(float(answer) - truth) <= within


# Lesson 1

SIGNS = ("sun", "cloud", "anchor", "cup", "knight", "plane")


def paint_signs(images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images of up to three different signs on a plain ground, of which a small network learns all within 100 steps.

    Returns
    -------
    uint8 [N, 64, 64, 3] and their labels, int8 [N, 6] in the order of `SIGNS`
    """
    from PIL import Image, ImageDraw

    from .data import demo

    rng, font = np.random.default_rng(seed), demo.sign_font(24)
    y = np.zeros((images, len(SIGNS)), np.int8)
    painted = []
    for row in y:
        row[rng.permutation(len(SIGNS))[: rng.choice(4, p=[0.1, 0.4, 0.3, 0.2])]] = 1
        dark = rng.random() < 0.5
        ground = rng.normal(rng.uniform(20, 90, 3) if dark else rng.uniform(160, 230, 3), 12, (64, 64, 3))
        image = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
        for c, quarter in zip(np.flatnonzero(row), rng.permutation(4), strict=False):
            x, down = 16 + 32 * np.array(divmod(int(quarter), 2)) + rng.integers(-3, 4, 2)
            ink = tuple(rng.integers(*((190, 255) if dark else (0, 70)), 3).tolist())
            ImageDraw.Draw(image).text((x, down), demo.SIGNS[SIGNS[c]][0], ink, font, anchor="mm")
        painted.append(np.asarray(image))
    return np.stack(painted), y


@_exercise(
    "1.1",
    hint="softmax divides e to the power of each logit by the sum of all three; here all three are equal",
    because="equal logits get equal shares of one, however low they are: softmax hands out one, whatever is there",
)
def _(answer: Any) -> str | None:
    share = float(answer)
    if _near(share, 0):
        return "that is the sigmoid of -8, which looks at one logit; softmax shares one among all three"
    if _near(share, 100 / 3, 1):
        return f"say it as a fraction, {share / 100:.2f}"
    return None if _near(share, 1 / 3) else f"{answer} is not its softmax: the three shares add up to 1"


@_exercise(
    "1.2",
    hint="softmax sees only how far logits are apart, sigmoid sees each one's distance from 0. What happens to either "
    "when the same number is added to all of them?",
    because="softmax sees only differences between logits, so how many signs are there is not in it; it cannot be "
    "got back by any threshold",
)
def _(answer: Any) -> str | None:
    rows = [np.asarray(part, float) for part in answer]
    if len(rows) != 2 or any(row.shape != (3,) or not np.isfinite(row).all() for row in rows):
        return f"expected two lists of three finite logits, got shapes {[row.shape for row in rows]}"
    every, none = rows
    soft = softmax(rows, axis=1)
    if not (every >= 0).all():
        return f"the sigmoid of {every.min():g} is below .5, so the first row leaves a class out"
    if not (none < 0).all():
        return f"the sigmoid of {none.max():g} is not below .5, so the second row has a class present"
    apart = np.abs(soft[0] - soft[1]).max()
    return None if apart < 0.005 else f"softmax tells these two rows apart: its probabilities differ by {apart:.2f}"


@_exercise(
    "1.3",
    hint="the sigmoid is .5 at z = 0. A comparison gives an array of True and False of the same shape",
    because="one comparison for each class, none of which knows of the others: none, two and all six are answers",
)
def _(answer: Any) -> str | None:
    if not callable(answer):
        return f"expected a function of logits, got {type(answer).__name__}"
    logits = np.array([[3, 2, -1, -4, -2, -3], [-5, -1, -2, -3, -4, -2], [1, 4, 0, -0.3, 5, 0.2]], np.float32)
    found = answer(given := logits.copy())
    if not np.array_equal(given, logits):
        return "it changes the logits that it is given; make a new array"
    if not isinstance(found, np.ndarray) or found.shape != logits.shape:
        return f"of logits [3, 6] it made {type(found).__name__} {np.shape(found)}; expected an array [3, 6]"
    if found.dtype != bool:
        return f"it gave {found.dtype}, such as {found.flat[0]:.2f}; expected bool, True and False"
    if (wrong := logits[found != (logits >= 0)]).size:
        z, said = wrong[0], "absent" if wrong[0] >= 0 else "present"
        what = "which logit has .5?" if abs(z) < 1 else "sigmoid takes each logit alone"
        return f"a logit of {z:.1f}, whose sigmoid is {probabilities(z):.2f}, is called {said}; {what}"
    return None


# Lesson 2


@_exercise(
    "2.1",
    hint="a logit of 0 is a p of .5. The loss of one label is -ln(p) where the sign is there, -ln(1 - p) where not",
    because="ln 2, whatever the labels are, for every p begins at a half. If yours begins far from .69, look at the "
    "last layer's bias, at the targets, and for a second sigmoid",
)
def _(answer: Any) -> str | None:
    told = float(answer)
    if _near(told, np.log(6)):
        return "ln 6 is where cross entropy over a softmax of six classes begins; here each label is a yes or no"
    if _near(told, 0.5):
        return ".5 is the probability; the loss is its negative logarithm"
    if _near(told, 6 * np.log(2), 0.01):
        return "that is the sum over six classes; BCEWithLogitsLoss takes the mean over all labels"
    if _near(told, np.log10(2)) or _near(told, 1):
        return "that is the logarithm to another base; the loss takes the natural one"
    return None if _near(told, np.log(2)) else f"{answer} is not the loss at p = .5"


@_exercise(
    "2.2",
    hint="the loss is the sum of -ln(p) over the signs that are there, and the p add up to 1. The best share for two "
    "is a half each",
    because="on an image with two it can never come to rest, and an image without any teaches it nothing; neither is "
    "said in a message",
)
def _(answer: Any) -> str | None:
    told = [float(part) for part in answer]
    if len(told) != 3:
        return f"expected three numbers, got {len(told)}"
    for number, (its, truth) in enumerate(zip(told, (0, 0, 2 * np.log(2)), strict=True)):
        if number == 2 and _near(its, np.log(2)):
            return "ln 2 is the loss of one of the two signs at its best p of a half; the sum runs over both"
        if number == 2 and _near(its, 0):
            return "0 would need a p of 1 for both of the two signs, and all p together are 1"
        if number == 0 and _near(its, np.log(6)):
            return "without any sign there is no term in the sum, whatever the six p are"
        if not _near(its, truth, 0.02):
            return f"{its:g} is not the lowest loss with {('no sign', 'one sign', 'two signs')[number]}"
    return None


@_exercise(
    "2.3",
    hint="the first sigmoid gives at most 1. What does the second one make of 1?",
    because="its p lie between .50 and .73, so an absent sign costs at least ln 2 for ever; the curve falls a little, "
    "stays up, and no message says why",
)
def _(answer: Any) -> str | None:
    told = float(answer)
    if _near(told, 1):
        return "1 is what the first sigmoid can reach; the loss takes it for a logit and applies its own"
    if _near(told, 0.5):
        return ".5 is the lowest p that it can claim, by a first sigmoid of 0"
    return None if _near(told, probabilities(np.ones(1))[0]) else f"two sigmoids make no {answer} of a large logit"


# Lesson 3


@_exercise(
    "3.1",
    hint="every p is the same. Of 100 images one pulls up by 1 - p and 99 pull down by p: for which p is that equal? "
    "A bias is a logit, log(p / (1 - p))",
    because="the bias comes to rest at the log-odds of the class's share, and every loss that falls has learnt that "
    "first",
)
def _(answer: Any) -> str | None:
    if _near(answer, 0.01, 0.002):
        return "that is the p at which the pulls are in balance; the bias is its logit, log(p / (1 - p))"
    if _near(answer, float(np.log(99)), 0.05):
        return "with this bias p is .99: mind the sign"
    if _near(answer, -2, 0.02):
        return "that is the logarithm to the base 10; logits are by the natural one"
    return (
        None if _near(answer, float(np.log(0.01 / 0.99)), 0.05) else f"with the bias {answer} the pulls are not equal"
    )


@_exercise(
    "3.2",
    hint="weights and ASL make the network say tram more readily. Does that help it to tell one image from another?",
    because="all three rank the images alike, and differ in where on the scale of p they put the trams",
)
def _(answer: Any) -> str | None:
    if answer not in ("BCE", "weighted", "ASL", "none"):
        return f'{answer!r}; expected "BCE", "weighted", "ASL" or "none"'
    return None if answer == "none" else f"the AP of {answer} is within .03 of the others'"


@_exercise(
    "3.3",
    hint="a weight multiplies the odds, p / (1 - p). Divide the odds of .9 by 99, and make a probability of them again",
    because="a weight of 99 turns one in twelve into nine in ten; the ranking stays, but p means nothing any more",
)
def _(answer: Any) -> str | None:
    if _near(answer, 0.9 / 99, 0.0005):
        return "that divides the probability; a weight multiplies the odds, p / (1 - p)"
    if _near(answer, 9 / 99, 0.0005):
        return "these are the odds, 1 to 11; the share is odds / (1 + odds)"
    return None if _near(answer, 1 / 12) else f"{answer} is not the share"


# Lesson 4


@_exercise(
    "4.1",
    hint="add the counts of all classes first: 2 tp / (2 tp + fp + fn) of the sums",
    because="micro counts every label once, so the class with most labels decides: here nine in ten of them are dogs'",
)
def _(answer: Any) -> str | None:
    tp, fp, fn = np.array([[90, 10, 10], [1, 0, 9]]).T
    if _near(answer, float(np.mean(2 * tp / (2 * tp + fp + fn)))):
        return "that is the mean of the two classes' F1, the macro average; micro adds the counts first"
    amiss = f"{float(answer):.3f} is neither average of these counts; of the sums, take 2 tp / (2 tp + fp + fn)"
    return None if _near(answer, 182 / 211) else amiss


@_exercise(
    "4.2",
    hint="one class in six is now 0. Which average gives each class a sixth of the say?",
    because="macro gives each class the same say, however rare; micro and per-image scores hardly notice a class "
    "that one image in a hundred has",
)
def _(answer: Any) -> str | None:
    if answer not in ("micro", "macro", "samples"):
        return f'{answer!r}; expected "micro", "macro" or "samples"'
    return None if answer == "macro" else f"{answer} moves by less than one hundredth"


@_exercise(
    "4.3",
    hint="many images of one class that is always right, and a few classes with one image each that are never found",
    because="whoever shows you one average has chosen it; ask for the classes",
)
def _(answer: Any) -> str | None:
    from sklearn.metrics import f1_score

    y, decided = (np.asarray(part) for part in answer)
    if y.ndim != 2 or y.shape != decided.shape or not set(np.unique([y, decided])) <= {0, 1}:
        return f"expected two arrays of 0 and 1 of one shape [images, classes], got {y.shape} and {decided.shape}"
    if not y.any(0).all():
        return "a class without any image that has it is undefined; give every class at least one"
    micro, macro = (f1_score(y, decided, average=average, zero_division=0) for average in ("micro", "macro"))
    return None if micro > 0.9 and macro < 0.5 else f"micro is {micro:.3f} and macro {macro:.3f}"


# Lesson 5


@_exercise(
    "5.1",
    hint="at a probability p, waking costs 1 - p nights on average and sleeping on costs 9 p: where are both equal?",
    because="above 1 / (1 + 9) sleeping on costs more than waking; so .2 wakes him, far below one half",
)
def _(answer: Any) -> str | None:
    cut = float(answer)
    if not 0 <= cut <= 1:
        return f"{answer} is no probability; expected a number between 0 and 1"
    if _near(cut, 0.1):
        return None
    if _near(cut, 1 / 9):
        return "that counts a whole night for waking him; where there is a wolf it costs none, so 1 - p on average"
    if _near(cut, 0.5):
        return "at one half both mistakes cost the same; here a miss costs nine times as much"
    return f"{cut:g} is too {'high: sheep' if cut > 0.1 else 'low: nights'} are lost that need not be"


@_exercise(
    "5.2",
    hint="a network whose recall is .9 finds all of n with probability .9 ** n; that has to be at most 1 - .9",
    because="with fewer, a network that is not good enough would find them all by luck in more than one case of ten",
)
def _(answer: Any) -> str | None:
    needed = float(answer)
    if _near(needed, np.log(0.1) / np.log(0.9), 0.05):
        return f"wolves come whole, so {answer} has to be rounded up"
    if needed % 1 or needed < 1:
        return f"{needed:g} is no number of wolves; expected a whole one, from 1 on"
    if needed < 22:
        return f"a network whose recall is just .9 finds all of {answer} with probability {0.9**needed:.3f}, by luck"
    slips = {29: "; 29 is for a confidence of .95", 44: "; 44 is for a confidence of .99"}
    return None if needed == 22 else f"{answer} are enough, but fewer are, too{slips.get(int(needed), '')}"


@_exercise(
    "5.3",
    hint="what has chosen something cannot also judge it: which scores choose, and which are left to judge?",
    because="believe this one: it, too, is off by luck, but not to one side as the validation score that chose",
)
def _(answer: Any, val: np.ndarray, test: np.ndarray) -> str | None:
    try:
        best, score = answer
        best, score = int(best), float(score)
    except (TypeError, ValueError):
        return "expected two numbers, of a network and of its score, such as 3 and .7"
    if best not in range(len(val)):
        return f"best is {best}; expected the number of a network, 0 to {len(val) - 1}"
    if val[best] < val.max():
        chose = "test: then its score has chosen, and flatters itself" if test[best] == test.max() else "something else"
        return f"network {best} is not the best on validation; it was chosen on {chose}"
    if _near(score, test[best]):
        return None
    if _near(score, val[best]):
        return "the network is right, but this score is the one that chose it; report one that had no say"
    return f"the network is right; {score:.3f} is not its score on test"


# Lesson 6


@_exercise(
    "6.1",
    hint="training makes the network say what the labels say, and it was trained until it made hardly a mistake",
    because="it has learnt the wrong labels by heart, and contradicts hardly any",
)
def _(answer: Any) -> str | None:
    if answer not in ("most", "half", "almost none"):
        return f'{answer!r}; expected "most", "half" or "almost none"'
    return None if answer == "almost none" else "it saw each of these labels in every pass, and had to agree with it"


@_exercise(
    "6.2",
    hint="begin with zeros; for k in range(5): held = fold == k; learn from x[~held] and y[~held], ask about x[held], "
    "and keep the last look, [-1], in judged[held]",
    because="networks that have not seen a label contradict nearly every wrong one",
)
def _(answer: Any, y: np.ndarray, wrong: np.ndarray) -> str | None:
    judged = np.asarray(answer, float)
    if judged.shape != y.shape:
        return f"judged has the shape {judged.shape}; expected {y.shape}: of each network the last look, learn(…)[-1]"
    if judged.min() >= 0:
        return "no number is below 0: are these probabilities, or decisions? Expected are logits, as learn gives them"
    if empty := int((~np.isfinite(judged) | (judged == 0)).all(1).sum()):
        return f"{empty} images were judged by no network: every fold is held out once"
    against = np.where(y == 1, judged, -judged) < 0
    found, others = against[wrong].mean(), against[~wrong].mean()
    if others > 0.25:
        return f"{others:.0%} of the right labels are contradicted, too: does each row hold its own image's logits?"
    if found < 0.5:
        return f"only {found:.0%} of the wrong labels are contradicted: these networks have seen what they judge"
    return None


@_exercise(
    "6.3",
    hint="a network that has never seen one 6 with a loop: what will it say of the next 6?",
    because="none or nearly none: where all labels agree, the rule is what there is to learn",
)
def _(answer: Any) -> str | None:
    if not 0 <= float(answer) <= 50:
        return f"{answer} of 50; expected a number from 0 to 50"
    return None if float(answer) <= 5 else "far fewer: a suspect contradicts others, and these agree with all the 6s"
