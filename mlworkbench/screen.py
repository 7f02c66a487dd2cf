"""Screen: scores as the command `evaluate` prints them."""

from typing import Any

from .scoring.groups import FEW
from .scoring.intervals import called_though_absent, told
from .text import number, printable, shown

ABSENT = 3  # classes that are named of those called present though no label has them


def print_scores(scores: dict[str, Any], what: str, prevalence_file: str | None = None) -> None:
    """Print every score of `what`, a split or a labels file, and those at other prevalences, if a file gave them."""
    print(f"{'class':<24} {'AP':>7} {'prec.':>7} {'recall':>7} {'F1':>7} {'support':>8} {'threshold':>10}")
    for name, row in scores["classes"].items():
        cells = " ".join(f"{shown(row[key]):>7}" for key in ("ap", "precision", "recall", "f1"))
        print(f"{printable(name):<24} {cells} {row['support']:>8,} {row['threshold']:>10.4f}")
    print(f"{what} mAP {told(scores, 'map', '95 % interval ')}")
    print(
        f"F1 macro {told(scores, 'f1_macro')}, micro {told(scores, 'f1_micro')}, samples {told(scores, 'f1_samples')}"
    )
    print(f"precision macro {told(scores, 'precision_macro')}, recall macro {told(scores, 'recall_macro')}")
    print(f"whole set right {told(scores, 'exact_match')}")
    if scores["groups"] < scores["images"]:
        print(f"the {scores['images']:,} images come in {scores['groups']:,} groups, which the intervals count")
    if scores["too_few"]:
        print(
            f"{scores['too_few']:,} classes have too few positives for an interval of their own: fewer than {FEW} that "
            "are independent of each other"
        )
    if absent := called_though_absent(scores):
        more = f" and {len(absent) - ABSENT:,} more" if absent[ABSENT:] else ""
        print(f"no known label has them, yet they are called present: {printable(', '.join(absent[:ABSENT]))}{more}")
    if review := scores.get("review"):
        print(
            f"with a person for the {review['share']:.1%} of the images that lie in a zone, asked for "
            f"{shown(review['labels'], 2)} labels each: F1 macro {shown(review['f1_macro'])}"
        )
    if "costs" in scores:
        _print_costs(scores["costs"], what)
    if prevalence_file is not None:
        _print_prevalence(scores["at_prevalence"], prevalence_file)


def _print_costs(costs: dict[str, Any], what: str) -> None:
    print(
        f"a miss costs {costs['price']:g} false alarms: {what} costs {_spread(costs['total'], 0)} false alarms; "
        f"net benefit over calling nothing present, in found positives an image, {_spread(costs['net_benefit'])}"
    )


def _print_prevalence(scores: dict[str, Any], file: str) -> None:
    print(f"at the prevalences of {file}, recall as it is (a class that is not named there keeps its own):")
    print(f"{'class':<24} {'here':>7} {'there':>7} {'AP':>7} {'prec.':>7} {'(95 % interval)':>18} {'F1':>7}")
    for name, row in scores["classes"].items():
        ends = scores["intervals"]["classes"][name]["precision"]
        reach = f"({shown(ends['low'])} to {shown(ends['high'])})"
        cells = f"{shown(row['ap']):>7} {shown(row['precision']):>7} {reach:>18} {shown(row['f1']):>7}"
        print(f"{printable(name):<24} {number(row['here']):>7} {number(row['prevalence']):>7} {cells}")
    own = scores["intervals"]
    means = {"precision": "precision_macro", "F1": "f1_macro"}
    told = [f"{what} macro {_spread({'value': scores[name], **own[name]})}" for what, name in means.items()]
    undefined = f" ({scores['left_out']['map']} of {len(scores['classes'])} classes undefined)"
    print(f"mAP {shown(scores['map'])}{undefined if scores['left_out']['map'] else ''}, {', '.join(told)}")


def _spread(score: dict[str, float], digits: int = 4) -> str:
    """A score with its 95 % interval."""
    value, low, high = (shown(score[name], digits) for name in ("value", "low", "high"))
    return f"{value} (95 % interval {low} to {high})"
