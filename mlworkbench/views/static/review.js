// The page of review.LabelReview. It keeps nothing: what is done goes to the kernel with the number of the view it was
// done in, and until the answer's image stands in the page nothing else is taken.

const KEYS = { w: "wrong", r: "right", u: "unsure", b: "back", n: "next", z: "undo", m: "map",
  arrowleft: "back", arrowright: "next" };
const BUTTONS = [["wrong", "Wrong", "W"], ["right", "Right", "R"], ["unsure", "Unsure", "U"], ["back", "Back", "B"],
  ["next", "Next", "N"], ["undo", "Undo", "Z"], ["map", "Map", "M"]];
const HELP = [
  ["W", "the label is wrong"], ["R", "it is right"], ["U", "you are unsure"], ["N →", "next"], ["B ←", "back"],
  ["Z", "undo: take back answer by answer"], ["M", "map: where the network sees the class"],
  ["letters", "in the class box: classes with these words; Enter takes one"],
  ["?", "open or close this list, as Esc closes it"],
];
const PATIENCE = 5000; // ms after which a silent kernel is told of

function render({ model, el }) {
  let busy = false, silence = 0;
  const heading = make("h3"), path = make("p", { class: "mlw-path" }), picture = make("div", { class: "mlw-picture" });
  const facts = make("dl"), classes = make("table"), tiles = make("ol", { class: "mlw-tiles" });
  const status = make("p", { role: "status", "aria-live": "polite" }), progress = make("p", { class: "mlw-progress" });
  const buttons = BUTTONS.map(([what, text, key]) => {
    const button = make("button", { type: "button", "data-do": what, "aria-keyshortcuts": key },
      text, make("kbd", { "aria-hidden": "true" }, key));
    button.addEventListener("click", () => act(what));
    return button;
  });
  const show = make("select", { "aria-label": "Show" });
  show.append(...model.get("choices").show.map((text, i) => make("option", { value: i }, text)));
  show.addEventListener("change", () => choose(model.get("view").chosen[0]));
  const which = choiceOf("Class", model.get("choices").class, choose), help = helpOf(HELP);
  const box = make("section", { class: "mlw-review", tabindex: "0", "aria-label": "Label review" },
    make("div", { class: "mlw-head" }, which.element, show, progress, help.element),
    make("div", { class: "mlw-main" }, picture,
      make("div", {}, heading, path, facts, make("div", { class: "mlw-buttons" }, ...buttons), status), classes),
    tiles);
  keepKeys(box);
  box.addEventListener("keydown", help.press, true);
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input")) return;
    const what = KEYS[event.key.toLowerCase()];
    if (!what) return;
    event.preventDefault();
    event.stopPropagation();
    if (!event.repeat) act(what);
  });

  function choose(c) {
    send({ do: "choose", class: c, show: Number(show.value) });
    box.focus();
  }

  function act(what) {
    const view = model.get("view");
    if (what === "next" || what === "back") send({ do: "go", place: view.place + (what === "next" ? 1 : -1) });
    else send({ do: what });
  }

  function send(message) {
    if (busy) return;
    wait(true);
    silence = setTimeout(tellSilence, PATIENCE);
    try {
      model.send({ ...message, at: model.get("view").at });
    } catch { // the kernel is known to be gone
      tellSilence();
    }
  }

  function tellSilence() {
    status.textContent = "The kernel does not answer. What was answered so far is kept; run this cell again to go on.";
  }

  function wait(on) {
    busy = on;
    box.setAttribute("aria-busy", on);
    if (!on) clearTimeout(silence);
  }

  async function draw() {
    const view = model.get("view"), image = make("img", { alt: view.path ?? "" });
    if (view.picture) {
      image.src = view.picture;
      await image.decode().catch(() => {});
      if (view !== model.get("view")) return; // a newer one is on its way
    }
    picture.replaceChildren(view.picture ? image : make("p", {}, view.fault ?? "No label in this view."));
    heading.replaceChildren(...(view.name ? [make("b", {}, view.name), ` is ${view.word === "label" ? "labelled" : view.word} ${view.label}`] : []));
    path.textContent = view.path ?? "";
    facts.replaceChildren(...(view.facts ?? []).flatMap(([word, text]) => [make("dt", {}, word), make("dd", {}, text)]));
    classes.replaceChildren(...rows(view.classes ?? [], view.word));
    which.choose(view.chosen[0]);
    show.value = view.chosen[1];
    const pressed = { map: view.map, [view.answer]: true };
    buttons.forEach((button) => set(button, { "aria-pressed": Boolean(pressed[button.dataset.do]),
      "aria-disabled": button.dataset.do === "undo" && !view.undoes }));
    [...tiles.children].forEach((tile, i) => {
      const here = model.get("page").first + i === view.place;
      tile.dataset.answer = view.answers[i];
      tile.lastChild.textContent = view.answers[i];
      here ? tile.setAttribute("aria-current", "true") : tile.removeAttribute("aria-current");
    });
    progress.textContent = view.progress;
    status.textContent = view.message;
    box.dataset.at = view.at;
    wait(false);
  }

  function rows(classes, word) {
    if (!classes.length) return [];
    const head = make("tr", {}, ...["In this image", word, "p", "threshold"].map((text) => make("th", {}, text)));
    return [head, ...classes.map(([name, label, p, threshold, asked]) => make("tr", asked ? { "aria-current": "true" } : {},
      ...[name, label, p, threshold].map((text) => make("td", {}, text))))];
  }

  function drawPage() {
    const page = model.get("page");
    tiles.replaceChildren(...page.tiles.map((tile, i) => {
      const image = tile.picture ? make("img", { src: tile.picture, alt: "" }) : make("div", { class: "mlw-none" }, "–");
      const item = make("li", { title: tile.name }, image, make("b", {}, tile.name),
        make("span", {}, tile.said), make("em"));
      item.addEventListener("click", () => send({ do: "go", place: page.first + i }));
      return item;
    }));
  }

  model.on("change:page", drawPage);
  model.on("change:view", draw);
  drawPage();
  draw();
  el.append(box);
  return () => clearTimeout(silence);
}

export default { render };
