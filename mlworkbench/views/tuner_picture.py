"""What the threshold tuner shows, as strings of SVG and HTML: what stands while a slider moves, and what moves.

A background is drawn once a class. Over it lies a small layer of the same size, the only thing that a move replaces.
"""

from html import escape

import numpy as np

from ..scoring.metrics import wilson
from ..scoring.thresholds import Curves
from ..text import number, shortened, shown
from .galleries import data_uri
from .style import BLUE, GREY, ORANGE

WIDTH, HEIGHT = 720, 420
LEFT, TOP, SIDE, TALL = 46, 12, 266, 188  # of the precision-recall curve
START, SPAN, MIDDLE, BAR = 82, 548, 318, 66  # of the histograms: present above the middle, absent below it
BINS = 50
SLIDER = START + SPAN + 4  # widens a slider so that its track lies under the histograms

# What ipywidgets cannot set, done once the controls are there: JupyterLab takes arrow keys for itself, and the focus
# with them, unless the control that has it says otherwise; and a slider's handle has no accessible name.
_ONCE = """setTimeout(() => {
  const tuner = this.closest('.mlw-tuner'), controls = tuner.querySelectorAll('select, button, input, [role=slider]');
  controls.forEach(control => control.setAttribute('data-lm-suppress-shortcuts', ''));
  tuner.querySelector('[role=slider]').ariaLabel = 'Threshold' }, 300)"""
STYLE = f"""<style onload="{_ONCE}">
.mlw-tuner {{ --ink: var(--jp-ui-font-color1, #222); --soft: var(--jp-ui-font-color2, #666); color: var(--ink);
  --line: var(--jp-border-color2, #ddd); padding: 6px 2px 10px; container-type: inline-size; }}
.mlw-tuner .widget-box {{ overflow: visible; }}
.mlw-tuner > .mlw-panes {{ display: grid; grid-template: "classes point" auto "rules point" 1fr / 304px {WIDTH}px;
  gap: 14px 28px; }}
@container (max-width: {WIDTH + 330}px) {{
  .mlw-tuner > .mlw-panes {{ grid-template: "classes" "point" "rules" / {WIDTH}px; }} }}
.mlw-tuner .mlw-classes {{ grid-area: classes; }} .mlw-tuner .mlw-rules {{ grid-area: rules; }}
.mlw-tuner .mlw-point {{ grid-area: point; }}
.mlw-tuner .widget-html, .mlw-tuner .widget-html-content {{ line-height: 1.35; margin: 0; height: auto; }}
.mlw-tuner p, .mlw-tuner h4, .mlw-tuner figure {{ margin: 0; }}
.mlw-tuner h4 {{ font-size: 13px; line-height: 22px; }}
.mlw-tuner :is(p, h4) {{ overflow-wrap: anywhere; }}
.mlw-tuner small {{ color: var(--soft); font-size: 12px; }}
.mlw-tuner .mlw-quiet > .widget-label {{ position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); }}
.mlw-tuner code, .mlw-tuner select {{ font: 12px/20px var(--jp-code-font-family, monospace) !important; }}
.mlw-tuner code {{ padding: 0 7px; color: var(--soft); background: none; }}
.mlw-tuner .widget-select > select {{ width: 100%; height: 100%; padding: 2px; overflow: hidden auto; }}
.mlw-tuner option {{ padding: 0 2px; min-height: 20px; }}
.mlw-tuner .widget-radio {{ flex-direction: row; width: auto; height: 28px; overflow: hidden; }}
.mlw-tuner .widget-radio-box {{ flex-direction: row; margin: 0 !important; gap: 12px; height: 28px; width: auto; }}
.mlw-tuner .widget-radio-box label {{ margin: 0; width: auto; height: 28px; line-height: 28px; }}
.mlw-tuner .mlw-rules .widget-hbox {{ align-items: center; }}
.mlw-tuner .mlw-last {{ margin-top: 8px; }}
.mlw-tuner .mlw-stack {{ display: grid; width: {WIDTH}px; height: {HEIGHT}px; overflow: visible; }}
.mlw-tuner .mlw-stack > * {{ grid-area: 1 / 1; overflow: visible; }}
.mlw-tuner svg {{ display: block; overflow: visible; font: 12px var(--jp-ui-font-family, sans-serif); }}
.mlw-tuner svg text {{ fill: var(--ink); }} .mlw-tuner svg .soft {{ fill: var(--soft); }}
.mlw-tuner .mlw-layer {{ position: relative; width: {WIDTH}px; height: {HEIGHT}px; }}
.mlw-tuner .mlw-layer > * {{ position: absolute; top: 0; left: 0; }}
.mlw-tuner .mlw-layer > div {{ left: 356px; width: 364px; }}
.mlw-tuner .mlw-layer h4 {{ font-size: 18px; line-height: 26px; max-height: 26px; overflow: hidden; }}
.mlw-tuner .mlw-layer table {{ position: absolute; border-collapse: collapse; width: 100%; margin: 0;
  font-size: 13px; font-variant-numeric: tabular-nums; table-layout: fixed; }}
.mlw-tuner .mlw-layer :is(th, td, tr) {{ border: 0; padding: 1px 0; text-align: left; font-weight: normal;
  background: none; }}
.mlw-tuner .mlw-layer th {{ color: var(--soft); font-size: 12px; }}
.mlw-tuner .mlw-scores td {{ font-size: 22px; line-height: 28px; }}
.mlw-tuner .mlw-scores small {{ display: block; line-height: 16px; }}
.mlw-tuner .mlw-counts td {{ font-size: 15px; line-height: 24px; }}
.mlw-tuner .mlw-strip {{ display: flex; gap: 5.5px; margin-top: 4px; }}
.mlw-tuner figure {{ width: 84px; }}
.mlw-tuner :is(figure img, figure div) {{ width: 80px; height: 80px; margin: 0; box-sizing: content-box;
  border: 2px solid {BLUE}; display: block; }}
.mlw-tuner figure.mlw-wrong :is(img, div) {{ border: 2px dashed {ORANGE}; }}
.mlw-tuner figcaption {{ font-size: 12px; line-height: 16px; font-variant-numeric: tabular-nums; }}
.mlw-tuner .mlw-cut {{ border-left: 2px dashed var(--ink); }}
</style>"""


def background(curves: Curves, c: int, name: str) -> str:
    """Precision-recall curve, histograms, axes and the name of class `c`: all that a move leaves as it is."""
    positives, known = int(curves.positives[c]), int(curves.known[c])
    called = escape(shortened(name, 60))
    label = f"precision-recall curve of {called}, and histograms of its probability where it is present and absent"
    return f"""<div class='mlw-layer tex2jax_ignore mathjax_ignore'>
<svg width='{WIDTH}' height='{HEIGHT}' role='img' aria-label='{label}'><defs>
<pattern id='mlw-hatch' width='5' height='5' patternUnits='userSpaceOnUse' patternTransform='rotate(45)'>
<path d='M0 0V5' stroke='{ORANGE}' stroke-width='5' opacity='.35'/><path d='M0 0V5' stroke='{ORANGE}' stroke-width='3'/>
</pattern></defs>{_curve(curves, c)}{_histograms(curves, c)}</svg>
<div><h4>{called}</h4>
<small>present in {positives:,} of {known:,} images; ranges are 95 % intervals</small></div></div>"""


def _curve(curves: Curves, c: int) -> str:
    grid = "".join(
        f"<text class='soft' x='{LEFT - 6}' y='{_y(v) + 4:.0f}' text-anchor='end'>{v:g}</text>"
        f"<text class='soft' x='{_x(v):.0f}' y='{TOP + TALL + 16}' text-anchor='middle'>{v:g}</text>"
        f"<path d='M{LEFT} {_y(v):.1f}h{SIDE}M{_x(v):.1f} {TOP}v{TALL}' stroke='{GREY}' opacity='.25' fill='none'/>"
        for v in (0, 0.25, 0.5, 0.75, 1)
    )
    middle = TOP + TALL / 2
    axes = (
        f"<text class='soft' x='{LEFT + SIDE / 2}' y='{TOP + TALL + 32}' text-anchor='middle'>recall</text>"
        f"<text class='soft' transform='translate(12 {middle}) rotate(-90)' text-anchor='middle'>precision</text>"
    )
    if not curves.positives[c]:
        return f"{grid}{axes}<text x='{LEFT + SIDE / 2}' y='{middle}' text-anchor='middle'>no positive, no curve</text>"
    cuts = curves.cuts(c)[::-1]
    n = curves.at(c, cuts)
    recall, precision = n["recall"][n["tp"] + n["fp"] > 0], n["precision"][n["tp"] + n["fp"] > 0]
    column = (2 * SIDE * recall).astype(int)  # two points for each half pixel are as good as all
    ends = np.diff(column, prepend=-1, append=-1) != 0
    keep = ends[1:] | ends[:-1]
    steps = "".join(f"H{_x(r):.1f}V{_y(p):.1f}" for r, p in zip(recall[keep], precision[keep], strict=True))
    half = curves.at(c, 0.5)
    mark = ""
    if not np.isnan(half["precision"]):
        x, y = _x(half["recall"]), _y(half["precision"])
        mark = (
            f"<path d='M{x:.1f} {y - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z' stroke='{ORANGE}' stroke-width='1.5' "
            f"fill='var(--jp-layout-color0, #fff)'/>"
        )
    key = (
        f"<path d='M{LEFT + 10} {TOP + TALL - 18}l5 5l-5 5l-5 -5z' stroke='{ORANGE}' stroke-width='1.5' fill='none'/>"
        f"<text class='soft' x='{LEFT + 20}' y='{TOP + TALL - 9}'>at 0.5</text>"
    )
    start = f"M{_x(0):.1f} {_y(precision[0]):.1f}"
    return f"{grid}{axes}{key}<path d='{start}{steps}' stroke='{BLUE}' stroke-width='2' fill='none'/>{mark}"


def _histograms(curves: Curves, c: int) -> str:
    edges, end = np.linspace(0, 1, BINS + 1), START + SPAN
    present = np.histogram(curves.found(c), edges)[0]
    absent = np.histogram(curves.scores[c], edges)[0] - present
    parts = [f"<path class='mlw-axis' d='M{START} {MIDDLE}h{SPAN}' stroke='{GREY}'/>"]
    for counts, way, colour, fill, name in (
        (present, -1, BLUE, BLUE, "present"),
        (absent, 1, ORANGE, "url(#mlw-hatch)", "absent"),
    ):
        # Heights are square roots: one bin of a rare class's absent images would flatten all others.
        heights = BAR * np.sqrt(counts / max(1, counts.max()))
        bars = "".join(
            f"M{START + edges[i] * SPAN + 0.5:.1f} {MIDDLE + way}v{way * h:.1f}h{SPAN / BINS - 1:.1f}v{-way * h:.1f}z"
            for i, h in enumerate(heights.tolist())
            if h
        )
        middle = MIDDLE + way * BAR / 2
        parts.append(
            f"<path d='{bars}' fill='{fill}' stroke='{colour}' stroke-width='.5'/>"
            f"<text x='{START - 10}' y='{middle}' text-anchor='end' font-weight='600'>{name}</text>"
            f"<text class='soft' x='{START - 10}' y='{middle + 15}' text-anchor='end'>{counts.sum():,}</text>"
            f"<text class='soft' x='{end + 8}' y='{MIDDLE + way * (BAR - 4) + 4}'>at most {counts.max():,}</text>"
        )
    ticks = "".join(
        f"<text class='soft' x='{START + v * SPAN}' y='{MIDDLE + BAR + 22}' text-anchor='middle'>{v:g}</text>"
        f"<path d='M{START + v * SPAN} {MIDDLE + BAR + 4}v5' stroke='{GREY}'/>"
        for v in (0, 0.25, 0.5, 0.75, 1)
    )
    note = f"<text class='soft' x='{end + 8}' y='{MIDDLE + 4}'>√ scale</text>"
    return "".join(parts) + ticks + note


def _x(recall: float | np.ndarray) -> float:
    return float(LEFT + SIDE * recall)


def _y(precision: float | np.ndarray) -> float:
    return float(TOP + TALL * (1 - precision))


def moving(n: dict[str, np.ndarray], threshold: float, macro: float, before: float) -> str:
    """Operating point, threshold and numbers at one threshold: all that a move changes.

    Parameters
    ----------
    n : counts and scores, see `Curves.at`
    macro, before : mean F1 over the classes now and when the tuner was opened
    """
    tp, fp, fn, tn = (int(n[key]) for key in ("tp", "fp", "fn", "tn"))
    (low_p, high_p), (low_r, high_r) = wilson(tp, tp + fp), wilson(tp, tp + fn)
    point = ""
    if tp + fp and tp + fn:
        x, y = _x(n["recall"]), _y(n["precision"])
        point = (
            f"<path d='M{_x(low_r):.1f} {y:.1f}H{_x(high_r):.1f}M{x:.1f} {_y(low_p):.1f}V{_y(high_p):.1f}"
            f"M{_x(low_r):.1f} {y - 4:.1f}v8M{_x(high_r):.1f} {y - 4:.1f}v8"
            f"M{x - 4:.1f} {_y(low_p):.1f}h8M{x - 4:.1f} {_y(high_p):.1f}h8' stroke='currentColor' fill='none'/>"
            f"<circle class='mlw-point' cx='{x:.1f}' cy='{y:.1f}' r='6' fill='{ORANGE}' stroke='#fff'/>"
        )
    at, end = START + threshold * SPAN, START + SPAN
    side, anchor = (6, "start") if threshold < 0.75 else (-6, "end")
    top, bottom = MIDDLE - BAR - 18, MIDDLE + BAR + 4
    line = (
        f"<rect x='{at:.1f}' y='{top}' width='{end - at:.1f}' height='{bottom - top}' fill='currentColor' "
        f"opacity='.06'/><path d='M{at:.1f} {top}V{bottom}' stroke='currentColor' stroke-width='2' "
        f"stroke-dasharray='5 3'/><text x='{at + side:.1f}' y='{top + 11}' text-anchor='{anchor}'>"
        f"<tspan font-weight='600'>{number(threshold)}</tspan> and above: called present</text>"
    )
    change = "as opened" if shown(macro) == shown(before) else f"was {shown(before)}"
    return f"""<div class='mlw-layer tex2jax_ignore mathjax_ignore'>
<svg width='{WIDTH}' height='{HEIGHT}' aria-hidden='true'>{point}{line}</svg><div>
<table class='mlw-scores' style='top:58px'><tr><th scope='col'>precision</th><th scope='col'>recall</th>
<th scope='col'>F1</th><th scope='col'>macro F1</th></tr>
<tr><td>{shown(float(n["precision"]), 3)}<small>{_range(low_p, high_p)}</small></td>
<td>{shown(float(n["recall"]), 3)}<small>{_range(low_r, high_r)}</small></td>
<td>{shown(float(n["f1"]), 3)}<small>this class</small></td>
<td>{shown(macro, 4)}<small>{change}</small></td></tr></table>
<table class='mlw-counts' style='top:146px'><tr><td></td><th scope='col'>called present</th>
<th scope='col'>called absent</th></tr>
<tr><th scope='row'>label present</th><td>{tp:,} <small>found</small></td><td>{fn:,} <small>missed</small></td></tr>
<tr><th scope='row'>label absent</th><td>{fp:,} <small>false alarms</small></td>
<td>{tn:,} <small>rightly</small></td></tr>
</table></div></div>"""


def _range(low: float, high: float) -> str:
    return "–" if np.isnan(low) else f"{low:.2f} to {high:.2f}"


def figure(pixels: np.ndarray | None, path: str, p: float, label: int, present: bool) -> str:
    """One thumbnail with what is said of it; a wrong decision is dashed and marked, not only coloured.

    Parameters
    ----------
    pixels : uint8 [H, W, 3], or None for an image that cannot be read
    label : 1, 0, or -1 (unknown)
    """
    truth = {1: "present", 0: "absent", -1: "unknown"}[label]
    wrong = label >= 0 and (label == 1) != present
    alt = f"{path}: p {number(p)}, label {truth}, called {'present' if present else 'absent'}"
    mark = "✗ " if wrong else ("✓ " if label >= 0 else "")
    return (
        f"<figure class='{'mlw-wrong' if wrong else ''}'>{image(pixels, alt)}"
        f"<figcaption>{number(p)}<br>{mark}{truth}</figcaption></figure>"
    )


def image(pixels: np.ndarray | None, alt: str) -> str:
    """An image as HTML that holds it; `pixels` uint8 [H, W, 3], or None for one that cannot be read."""
    alt = escape(alt)
    if pixels is None:
        return f"<div role='img' aria-label='{alt}' title='{alt}'>cannot be read</div>"
    return f"<img alt='{alt}' title='{alt}' src='{data_uri(pixels)}'>"


def strip(below: str, above: str) -> str:
    """Thumbnails in the order of p, with the threshold between those below it and those from it on."""
    note = "in the order of p; ✗ and dashed: not what the label says"
    return (
        "<div class='tex2jax_ignore mathjax_ignore' style='margin-top:10px'>"
        f"<p><b>Nearest to the threshold</b> <small>{note}</small></p>"
        f"<div class='mlw-strip'>{below}<div class='mlw-cut'></div>{above}</div></div>"
    )
