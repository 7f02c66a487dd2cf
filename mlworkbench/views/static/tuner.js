// The page of tuner.ThresholdTuner. It holds the chosen class's probabilities and draws by itself all that follows from
// a threshold; the kernel is told when a move rests, and always before it is asked for anything else.

const REST = 300; // ms without a move after which the kernel hears of it and images are looked for
const PATIENCE = 5000; // ms after which a silent kernel is told of
const STEP = 0.01; // of the slider; the number field takes any number
const ROWS = 14; // classes in sight at once
const BINS = 50; // of the histograms; tuner.css knows their width
const [LEFT, TOP, SIDE, TALL] = [46, 12, 226, 188]; // of the precision-recall curve
const [MIDDLE, BAR] = [84, 66]; // of the histograms: present above the middle, absent below it
const TICKS = [0, 0.25, 0.5, 0.75, 1];
const KEYS = [
  ["Tab", "to the next control"],
  ["letters", "in the search box: classes with these words; Enter takes the first, Esc shows all again"],
  ["↑ ↓", "in the list: another class"],
  ["← →", "on the slider: 0.01 down or up; Page keys 0.1, Home 0, End 1"],
  ["Enter", "in the box beside it: take the number; on a button: press it"],
  ["?", "open or close this list, as Esc closes it"],
];

// What a threshold means

// The first place in ascending values that is not below a threshold.
function rank(values, threshold) {
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < threshold) low = middle + 1;
    else high = middle;
  }
  return low;
}

const ratio = (hits, of) => (of ? hits / of : NaN);

// As Curves.at, at a threshold in float32.
function at({ known, present }, threshold) {
  const tp = present.length - rank(present, threshold), fp = known.length - rank(known, threshold) - tp;
  const fn = present.length - tp, tn = known.length - tp - fp - fn;
  return { tp, fp, fn, tn, precision: ratio(tp, tp + fp), recall: ratio(tp, tp + fn),
    f1: tp + fn ? ratio(2 * tp, 2 * tp + fp + fn) : NaN };
}

// As metrics.wilson: the 95 % interval of a share.
function wilson(hits, of) {
  const z2 = 3.841458820694124, share = ratio(hits, of);
  const middle = of * share + z2 / 2, spread = Math.sqrt(z2 * (of * share * (1 - share) + z2 / 4));
  return [Math.max((middle - spread) / (of + z2), 0), Math.min((middle + spread) / (of + z2), 1)];
}

// Recall and precision at every probability that occurs, from the highest down.
function corners({ known, present }) {
  const found = [];
  let left = present.length;
  for (let i = known.length - 1; i >= 0; i--) {
    while (left && present[left - 1] >= known[i]) left--;
    const tp = present.length - left;
    if (known[i - 1] !== known[i]) found.push([tp / present.length, tp / (known.length - i)]);
  }
  return found;
}

function histogram(values) {
  const counts = new Array(BINS).fill(0);
  values.forEach((p) => { counts[Math.min(BINS - 1, Math.floor(p * BINS))]++; });
  return counts;
}

// How it is written

const shown = (score, digits) => (Number.isNaN(score) ? "–" : score.toFixed(digits));
const range = ([low, high]) => (Number.isNaN(low) ? "–" : `${low.toFixed(2)} to ${high.toFixed(2)}`);
const count = (n) => n.toLocaleString("en");
const power = (p) => p.toExponential(0).replace(/-(\d)$/, "-0$1");

// As text.number: in three decimals, or in as many as tell it from 0 and 1.
function number(p) {
  const text = p.toFixed(3);
  if ((text !== "0.000" && text !== "1.000") || p === 0 || p === 1) return text;
  const digits = Math.ceil(-Math.log10(Math.min(p, 1 - p)));
  if (digits <= 6) return p.toFixed(digits);
  return p < 0.5 ? power(p) : `1−${power(1 - p)}`;
}

const draw = (tag, attributes = {}, ...children) =>
  set(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, ...children);

const x = (recall) => LEFT + SIDE * recall;
const y = (precision) => TOP + TALL * (1 - precision);
const percent = (share) => `${100 * share}%`;
const label = (text, attributes) => draw("text", { class: "mlw-soft", ...attributes }, text);

function axes() {
  return [
    ...TICKS.map((v) => draw("path", { class: "mlw-grid", d: `M${LEFT} ${y(v)}h${SIDE}M${x(v)} ${TOP}v${TALL}` })),
    ...TICKS.flatMap((v) => [label(v, { x: LEFT - 6, y: y(v) + 4, "text-anchor": "end" }),
      label(v, { x: x(v), y: TOP + TALL + 16, "text-anchor": "middle" })]),
    label("recall", { x: x(0.5), y: TOP + TALL + 32, "text-anchor": "middle" }),
    label("precision", { transform: `translate(12 ${y(0.5)}) rotate(-90)`, "text-anchor": "middle" }),
  ];
}

function precisionRecall(curve) {
  if (!curve.present.length) return [label("no positive, no curve", { x: x(0.5), y: y(0.5), "text-anchor": "middle" })];
  const all = corners(curve), half = at(curve, 0.5);
  const column = all.map(([recall]) => Math.floor(2 * SIDE * recall)); // two for each half pixel are as good as all
  const kept = all.filter((_, i) => column[i] !== column[i - 1] || column[i] !== column[i + 1]);
  const steps = kept.map(([recall, precision]) => `H${x(recall).toFixed(1)}V${y(precision).toFixed(1)}`);
  const diamond = (across, up) => draw("path", {
    class: "mlw-half", d: `M${across} ${up - 5.5}l5.5 5.5l-5.5 5.5l-5.5 -5.5z`,
  });
  return [
    draw("path", { class: "mlw-curve", d: `M${x(0)} ${y(all[0][1])}${steps.join("")}` }),
    diamond(LEFT + 10, y(0) - 13), label("at 0.5", { x: LEFT + 20, y: y(0) - 9 }),
    ...(Number.isNaN(half.precision) ? [] : [diamond(x(half.recall), y(half.precision))]),
  ];
}

// Heights are square roots: one bin of a rare class's absent images would flatten all others.
function histograms({ known, present }) {
  const ofPresent = histogram(present), ofAbsent = histogram(known).map((n, i) => n - ofPresent[i]);
  const side = (counts, name, way) => {
    const most = Math.max(...counts), middle = MIDDLE + (way * BAR) / 2, total = counts.reduce((a, b) => a + b, 0);
    return [
      ...counts.flatMap((n, i) => {
        const height = BAR * Math.sqrt(n / most);
        return n ? [draw("rect", { class: `mlw-${name}`, x: percent(i / BINS), height,
          y: way < 0 ? MIDDLE - 1 - height : MIDDLE + 1 })] : [];
      }),
      draw("text", { class: "mlw-bold", x: -10, y: middle, "text-anchor": "end" }, name),
      label(count(total), { x: -10, y: middle + 15, "text-anchor": "end" }),
      label(`at most ${count(most)}`, { x: "100%", dx: 8, y: MIDDLE + way * (BAR - 4) + 4 }),
    ];
  };
  return [
    draw("line", { class: "mlw-axis", x1: 0, x2: "100%", y1: MIDDLE, y2: MIDDLE }),
    ...side(ofPresent, "present", -1), ...side(ofAbsent, "absent", 1),
    ...TICKS.flatMap((v) => [label(v, { x: percent(v), y: MIDDLE + BAR + 22, "text-anchor": "middle" }),
      draw("line", { class: "mlw-axis", x1: percent(v), x2: percent(v), y1: MIDDLE + BAR + 4, y2: MIDDLE + BAR + 9 })]),
    label("√ scale", { x: "100%", dx: 8, y: MIDDLE + 4 }),
  ];
}

// Probabilities that came as bytes; they may lie anywhere in what the kernel sent, but numbers only at every fourth.
const floats = (bytes) => new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));

function render({ model, el }) {
  const fixed = model.get("fixed"), me = Math.random().toString(36).slice(2);
  // What stands here. The kernel's state takes its place whenever the kernel has heard of all that was done here.
  let now = {}, curve = {}, looked = "";
  let written = "", typed = false, moved = false, awaited = "", sent = 0, resting = 0, silence = 0;

  // Controls

  const classes = make("select", { "aria-label": "Class", size: Math.max(2, Math.min(ROWS, fixed.names.length)) });
  const options = fixed.names.map((name, c) => make("option", { value: c, title: name }));
  const search = make("input", { type: "search", "aria-label": "Search classes", placeholder: "Search classes …" });
  const slider = make("input", { type: "range", min: 0, max: 1, step: STEP, "aria-label": "Threshold" });
  const field = make("input", { type: "number", min: 0, max: 1, step: 0.001, "aria-label": "Threshold value" });
  const [one, all] = [0, 1].map((value) => make("input", { type: "radio", name: `scope-${me}`, value }));
  one.checked = true;
  const rules = fixed.rules.map(([objective, text, said, first, step, meaning, most]) => {
    const target = make("input", { type: "number", min: 0, max: most, step, value: first, title: meaning });
    const press = button(text, () => {
      const asked = said ? (target.value === "" ? null : Number(target.value)) : null;
      send("apply", objective, asked, all.checked);
      status.textContent = "working …";
    });
    return make("div", {}, press, ...(said ? [make("label", {}, make("span", {}, said), target)] : []));
  });
  const undo = button("Undo", () => send("undo")), help = helpOf(KEYS);
  const last = make("div", { class: "mlw-last" }, undo);
  if (fixed.saves) last.append(set(button("Save", () => send("save")), { class: "mlw-save" }));
  last.append(help.element);
  const status = make("p", { role: "status", "aria-live": "polite" });

  function button(text, act) {
    const pressed = make("button", { type: "button" }, text);
    pressed.addEventListener("click", act);
    return pressed;
  }

  // Pictures and numbers: what a class has, and over it what moves

  const heading = make("h3"), about = make("small");
  const still = { curve: draw("g"), histograms: draw("g") };
  const interval = draw("path", { class: "mlw-interval" }), point = draw("circle", { class: "mlw-point", r: 6 });
  const [called, cut] = [draw("rect", { class: "mlw-called" }), draw("line", { class: "mlw-line" })];
  const limit = draw("tspan", { class: "mlw-bold" });
  const caption = draw("text", { y: 11 }, limit, draw("tspan", { class: "mlw-words" }, " and above: called present"));
  set(called, { y: 0, height: MIDDLE + BAR + 4 });
  set(cut, { y1: 0, y2: MIDDLE + BAR + 4 });
  const hatch = draw("pattern",
    { id: `mlw-hatch-${me}`, width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    draw("path", { d: "M0 0V5", "stroke-width": 5, opacity: 0.35 }), draw("path", { d: "M0 0V5", "stroke-width": 3 }));
  still.histograms.style.setProperty("--hatch", `url(#mlw-hatch-${me})`);
  const pictures = {
    curve: draw("svg", { role: "img", class: "mlw-recall" }, ...axes(), still.curve, interval, point),
    histograms: draw("svg", { role: "img", class: "mlw-bars" }, hatch, still.histograms, called, cut, caption),
  };
  const scores = ["precision", "recall", "F1", "macro F1"].map((name) => [name, make("span"), make("small")]);
  const counts = Object.fromEntries(["tp", "fn", "fp", "tn"].map((name) => [name, make("span")]));
  const head = (scope, text) => make("th", { scope }, text);
  const cell = (name, text) => make("td", {}, counts[name], " ", make("small", {}, text));
  const numbers = make("div", { class: "mlw-numbers" }, heading, about,
    make("table", { class: "mlw-scores" }, make("tr", {}, ...scores.map(([name]) => head("col", name))),
      make("tr", {}, ...scores.map(([, value, note]) => make("td", {}, value, note)))),
    make("table", { class: "mlw-counts" },
      make("tr", {}, make("td"), head("col", "called present"), head("col", "called absent")),
      make("tr", {}, head("row", "label present"), cell("tp", "found"), cell("fn", "missed")),
      make("tr", {}, head("row", "label absent"), cell("fp", "false alarms"), cell("tn", "rightly"))));
  const strip = make("div", { class: "mlw-strip" });
  const nearest = make("div", { class: "mlw-nearest" }, make("p", {}, make("b", {}, "Nearest to the threshold"), " ",
    make("small", {}, "in the order of p; ✗ and dashed: not what the label says")), strip);

  const box = make("section", { class: "mlw-tuner tex2jax_ignore mathjax_ignore", "aria-label": "Threshold tuner" },
    make("div", { class: "mlw-panes" },
      make("div", { class: "mlw-classes" }, make("h3", {}, "Classes, what needs attention first"), search,
        make("code", { "aria-hidden": "true" }, columns("", "F1", "threshold", "present", "class")), classes,
        make("small", {}, `? not learnt \u00a0 ! target not met \u00a0 · fewer than ${fixed.few} present`)),
      make("div", { class: "mlw-one" }, make("div", { class: "mlw-above" }, pictures.curve, numbers),
        make("div", { class: "mlw-below" }, pictures.histograms),
        make("div", { class: "mlw-below mlw-slide" },
          make("span", { "aria-hidden": "true" }, "Threshold"), slider, field),
        ...(fixed.shows ? [nearest] : [])),
      make("div", { class: "mlw-rules" }, make("h3", {}, "Set by a rule"),
        make("div", { class: "mlw-scope" },
          make("label", {}, one, "this class"), make("label", {}, all, "all classes")),
        ...rules, last, status)));
  keepKeys(box);

  // What a person does

  classes.addEventListener("change", () => choose(Number(classes.value)));
  search.addEventListener("input", list);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && classes.options.length) choose(Number(classes.options[0].value));
    else if (event.key === "Escape") search.value = "";
    else if (event.key === "ArrowDown") classes.focus();
    else return;
    list();
    event.preventDefault();
  });
  box.addEventListener("keydown", help.press, true);
  slider.addEventListener("input", () => move(Number(slider.value)));
  field.addEventListener("input", () => { typed = true; });
  field.addEventListener("change", entered);
  field.addEventListener("keydown", (event) => { // in JupyterLab Enter alone makes no change
    if (event.key === "Enter") entered();
  });
  box.addEventListener("focusout", (event) => { // whoever goes elsewhere may run a cell there
    if (!box.contains(event.relatedTarget)) tellMove();
  });

  function choose(c) {
    tellMove();
    now.chosen = c;
    show();
    send("choose");
  }

  function entered() {
    if (!typed) return;
    typed = false;
    written = "";
    if (field.value === "") show();
    else move(Math.min(Math.max(Number(field.value), 0), 1));
  }

  function move(threshold) {
    now.values[now.chosen] = Math.fround(threshold); // as probabilities are, so that ties stay ties
    now.unmet[now.chosen] = false; // nobody asked
    moved = true;
    show();
    later();
  }

  function later() {
    clearTimeout(resting);
    resting = setTimeout(() => {
      tellMove();
      looked = place();
      if (fixed.shows) post({ do: "look", class: now.chosen });
    }, REST);
  }

  function tellMove() {
    if (!moved) return;
    moved = false;
    send("move", now.values[now.chosen]);
  }

  function send(what, ...values) {
    tellMove();
    awaited = `${me} ${++sent}`;
    clearTimeout(silence);
    silence = setTimeout(tellSilence, PATIENCE);
    post({ do: what, class: now.chosen, with: values, token: awaited });
  }

  function post(message) {
    try {
      model.send(message);
    } catch { // the kernel is known to be gone
      tellSilence();
    }
  }

  function tellSilence() {
    status.textContent = "The kernel does not answer, and nothing is kept until it does. "
      + "If it is gone, run this cell again.";
  }

  // What is shown

  const place = () => `${now.chosen} ${now.values[now.chosen]}`;

  function take() {
    const state = model.get("state");
    if (state.heard === awaited) {
      awaited = "";
      clearTimeout(silence);
    }
    if (awaited || moved) return; // the answer to what was done since will hold this too
    now = structuredClone(state);
    status.textContent = now.message;
    options.forEach((option, c) => { option.textContent = row(c); });
    list();
    show();
    if (place() !== looked) later();
  }

  function list() {
    classes.replaceChildren(...now.order.filter((c) => found(fixed.names[c], search.value)).map((c) => options[c]));
    classes.value = now.chosen;
  }

  function columns(mark, f1, threshold, positives, name) {
    const wide = [mark.padEnd(1), f1.padStart(5), threshold.padStart(9), positives.padStart(7)].join(" ");
    return `${wide}  `.replaceAll(" ", "\u00a0") + name;
  }

  function row(c) {
    const mark = fixed.learnt[c] === false ? "?" : now.unmet[c] ? "!" : fixed.positives[c] < fixed.few ? "·" : "";
    return columns(mark, shown(now.f1[c] ?? NaN, 3), number(now.values[c]), count(fixed.positives[c]), fixed.names[c]);
  }

  function show() {
    const c = now.chosen, threshold = now.values[c];
    slider.value = threshold; // rounded to a step, and nobody is told
    const text = String(Number(threshold.toPrecision(5)));
    if (text !== written) field.value = written = text; // else someone may be typing there
    if (curve.class !== c && model.get("curve").class === c) showClass(c);
    if (curve.class !== c) return; // it is on its way
    const n = at(curve, threshold);
    undo.setAttribute("aria-disabled", !(now.undoes || moved || awaited)); // it keeps the focus when nothing is left
    now.f1[c] = Number.isNaN(n.f1) ? null : n.f1;
    options[c].textContent = row(c);
    const f1 = now.f1.filter((score) => score !== null), macro = f1.reduce((sum, score) => sum + score, 0) / f1.length;
    const precision = wilson(n.tp, n.tp + n.fp), recall = wilson(n.tp, n.tp + n.fn);
    const before = shown(fixed.macro ?? NaN, 4);
    const told = [[shown(n.precision, 3), range(precision)], [shown(n.recall, 3), range(recall)],
      [shown(n.f1, 3), "this class"], [shown(macro, 4), shown(macro, 4) === before ? "as opened" : `was ${before}`]];
    scores.forEach(([, ...cells], i) => cells.forEach((cell, j) => { cell.textContent = told[i][j]; }));
    for (const [name, element] of Object.entries(counts)) element.textContent = count(n[name]);
    showPoint(n, precision, recall);
    const right = threshold < 0.5; // where there is room for the words
    set(called, { x: percent(threshold), width: percent(1 - threshold) });
    set(cut, { x1: percent(threshold), x2: percent(threshold) });
    set(caption, { x: percent(threshold), dx: right ? 6 : -6, "text-anchor": right ? "start" : "end" });
    limit.textContent = number(threshold);
  }

  function showPoint(n, [lowP, highP], [lowR, highR]) {
    const there = n.tp + n.fp > 0 && n.tp + n.fn > 0;
    interval.style.display = point.style.display = there ? "" : "none";
    if (!there) return;
    const [left, right, high, low] = [x(lowR), x(highR), y(highP), y(lowP)];
    const [across, up] = [x(n.recall), y(n.precision)];
    set(point, { cx: across, cy: up });
    set(interval, { d: `M${left} ${up}H${right}M${across} ${low}V${high}M${left} ${up - 4}v8M${right} ${up - 4}v8`
      + `M${across - 4} ${low}h8M${across - 4} ${high}h8` });
  }

  function showClass(c) {
    const { known, present } = model.get("curve"), name = fixed.names[c];
    curve = { class: c, known: floats(known), present: floats(present) };
    heading.textContent = name;
    about.textContent = `present in ${count(curve.present.length)} of ${count(curve.known.length)} images; `
      + "ranges are 95 % intervals";
    still.curve.replaceChildren(...precisionRecall(curve));
    still.histograms.replaceChildren(...histograms(curve));
    set(pictures.curve, { "aria-label": `precision-recall curve of ${name}` });
    set(pictures.histograms, { "aria-label": `histograms of the probability of ${name} where present and absent` });
    showImages();
  }

  function showImages() {
    const images = model.get("images");
    if (images.class !== curve.class) return strip.replaceChildren();
    strip.replaceChildren(...images.below.map((told) => figure(told, false)), make("i"),
      ...images.above.map((told) => figure(told, true)));
  }

  // A wrong decision is dashed and marked, not only coloured.
  function figure([path, p, truth, picture], present) {
    const word = { 1: "present", 0: "absent", [-1]: "unknown" }[truth];
    const wrong = truth >= 0 && (truth === 1) !== present;
    const said = `${path}: p ${number(p)}, label ${word}, called ${present ? "present" : "absent"}`;
    const image = picture ? make("img", { alt: said, title: said, src: picture })
      : make("div", { role: "img", "aria-label": said, title: said }, "cannot be read");
    return make("figure", wrong ? { class: "mlw-wrong" } : {}, image,
      make("figcaption", {}, number(p), make("br"), `${wrong ? "✗ " : truth >= 0 ? "✓ " : ""}${word}`));
  }

  model.on("change:state", take);
  model.on("change:curve", show); // also while the state is not taken
  model.on("change:images", showImages);
  take();
  el.append(box);
  return () => {
    tellMove();
    [resting, silence].forEach(clearTimeout);
  };
}

export default { render };
