// The page of deploy.app.TryOut. An image goes to the kernel as the bytes of its file, in pieces, and what the kernel
// says of it comes back as one view; pictures of where a class is seen are asked for as they are wanted.

const PATIENCE = 20000; // ms after which a silent kernel is told of
const REST = 80; // ms that the pointer rests on a class before it is looked for
const ROWS = 12; // classes in sight where nothing is searched for, but for all that are present
const FOUND = 50; // classes that a search shows at most

function render({ model, el }) {
  const fixed = model.get("fixed");
  let silence = 0, resting = 0, entered = 0;
  // The class under the pointer, the one that a key has gone to, and the one that was pressed: the first is shown.
  let [pointed, keyed, pressed] = [null, null, null];
  let pictures = new Map(), asked = new Set(), at = 0;

  const button = (text, key, act) => {
    const made = make("button", { type: "button", "aria-keyshortcuts": key }, text,
      make("kbd", { "aria-hidden": "true" }, key));
    made.addEventListener("click", act);
    return made;
  };
  const file = make("input", { type: "file", accept: fixed.accept, hidden: "", tabindex: "-1" });
  const choose = button("Choose an image", "O", () => file.click());
  const another = button("Another test image", "N", () => send({ do: "another" }));
  const path = make("input", { type: "text", "aria-label": "Path of an image", placeholder: "or type its path here",
    spellcheck: "false" });
  const picture = make("img", { alt: "" }), map = make("img", { alt: "", hidden: "" });
  const hint = make("p", { class: "mlw-hint" });
  const zone = make("div", { class: "mlw-zone" }, picture, map, hint);
  const heading = make("h3"), name = make("p", { class: "mlw-name" }), said = make("p", { class: "mlw-said" });
  const fault = make("p", { class: "mlw-fault", role: "alert" });
  const status = make("p", { class: "mlw-status", role: "status", "aria-live": "polite" });
  const list = make("ul", { "aria-label": "Classes" });
  const search = make("input", { type: "search", "aria-label": "Search classes", placeholder: "Search classes …" });
  const rest = make("div", { class: "mlw-rest" }, search, make("span"));
  const box = make("section", { class: "mlw-app tex2jax_ignore mathjax_ignore", tabindex: "0",
    "aria-label": `Try out ${fixed.run}` },
    make("div", { class: "mlw-head" }, choose, ...(fixed.tests ? [another] : []), ...(fixed.paths ? [path] : []), file,
      make("span", {}, "or drop or paste one")),
    make("div", { class: "mlw-main" }, make("div", {}, zone, name, said),
      make("div", {}, fault, heading, status, list, rest)));
  keepKeys(box);

  // What a person does

  file.addEventListener("change", () => {
    take(file.files);
    file.value = ""; // so that the same one may be chosen again
    box.focus();
  });
  path.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && path.value.trim()) send({ do: "open", path: path.value.trim() });
  });
  search.addEventListener("input", drawRows);
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
    const act = { o: () => file.click(), n: () => fixed.tests && send({ do: "another" }), escape: leave,
      arrowdown: () => step(1), arrowup: () => step(-1) }[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  });
  for (const what of ["dragenter", "dragover", "dragleave", "drop"]) {
    box.addEventListener(what, (event) => {
      event.preventDefault();
      event.stopPropagation();
      entered += { dragenter: 1, dragleave: -1 }[what] ?? 0;
      if (what === "drop") {
        entered = 0;
        take(event.dataTransfer.files);
      }
      box.classList.toggle("mlw-over", entered > 0);
    });
  }
  document.addEventListener("paste", pasted);
  box.addEventListener("focusin", ({ target }) => {
    keyed = target.matches("li button:focus-visible") ? Number(target.dataset.class) : null;
    show();
  });
  box.addEventListener("focusout", () => { keyed = null; show(); });

  function pasted(event) { // the browser sends it to the body, wherever in here the focus is
    const focus = document.activeElement, files = event.clipboardData?.files ?? [];
    if (!(box.contains(focus) || focus === document.body)) return;
    if (!files.length) {
      if (focus.tagName !== "INPUT") tell("There is no image in the clipboard.");
      return;
    }
    event.preventDefault();
    take(files);
  }

  function step(by) {
    const rows = [...list.querySelectorAll("button")], here = rows.indexOf(document.activeElement);
    rows[here < 0 ? 0 : Math.min(Math.max(here + by, 0), rows.length - 1)]?.focus({ focusVisible: true });
  }

  function leave() {
    pressed = pointed = null;
    box.focus();
    show();
  }

  async function take(files) {
    if (!files.length) return tell("Only the file of an image can be dropped; save it first.");
    const [first] = files;
    if (first.size > fixed.most) {
      return tell(`${first.name}: larger than ${fixed.most / 1e6} MB, the most that this page takes`);
    }
    let bytes;
    try {
      bytes = await first.arrayBuffer();
    } catch {
      return tell(`${first.name} cannot be read; is it a folder?`);
    }
    for (let start = 0; start === 0 || start < bytes.byteLength; start += fixed.piece) {
      const end = start + fixed.piece;
      send({ do: "piece", name: first.name, first: start === 0, last: end >= bytes.byteLength },
        bytes.slice(start, end));
    }
  }

  function send(message, ...buffers) {
    fault.textContent = "";
    status.textContent = message.do === "look" ? status.textContent : "looking …";
    clearTimeout(silence);
    silence = setTimeout(tellSilence, PATIENCE);
    try {
      model.send(message, undefined, buffers);
    } catch { // the kernel is known to be gone
      tellSilence();
    }
  }

  function tell(text) {
    clearTimeout(silence);
    status.textContent = "";
    fault.textContent = text;
  }

  function tellSilence() {
    tell("The kernel does not answer. If it is gone, run this cell again, or load the page again.");
  }

  // What is shown

  async function draw() {
    const view = model.get("view");
    if (view.fault) tell(view.fault);
    else clearTimeout(silence);
    box.dataset.at = view.at ?? 0;
    if (!view.picture) {
      hint.textContent = "Drop an image here, paste one, or choose one.";
      rest.hidden = true;
      return;
    }
    if (view.fault) return;
    const image = make("img", { src: view.picture });
    await image.decode().catch(() => {});
    if (view !== model.get("view")) return; // a newer one is on its way
    [pictures, asked, at] = [new Map(), new Set(), view.at];
    [pointed, pressed] = [null, null];
    hint.textContent = "";
    picture.src = view.picture;
    picture.alt = `the image ${view.name}`;
    name.textContent = view.name;
    const present = view.order.filter((c) => view.present[c]).map((c) => fixed.names[c]);
    heading.replaceChildren(...(present.length
      ? present.flatMap((text, i) => [...(i ? [", "] : []), make("b", {}, text)]) : ["no class is present"]));
    const [some, all] = [present.length, fixed.names.length].map((n) => n.toLocaleString("en"));
    status.textContent = `${some} of ${all} classes at or above the threshold, which is the line on each bar`;
    drawRows();
    show();
    box.dataset.shown = view.at;
  }

  function drawRows() {
    const view = model.get("view"), wanted = search.value.trim().toLowerCase();
    const named = view.order.filter((c) => fixed.names[c].toLowerCase().includes(wanted));
    const present = view.present.filter(Boolean).length, focus = document.activeElement?.dataset?.class;
    const shown = named.slice(0, wanted ? FOUND : Math.max(ROWS, present));
    list.replaceChildren(...shown.map((c, i) => row(view, c, i)));
    if (focus !== undefined) list.querySelector(`[data-class="${focus}"]`)?.focus();
    const left = named.length - shown.length;
    rest.hidden = fixed.names.length <= ROWS;
    rest.lastChild.textContent = wanted && !named.length ? "no class of this name"
      : left ? `${left.toLocaleString("en")} more${wanted ? " of this name" : ", less likely"}` : "";
  }

  function row(view, c, i) {
    const [p, limit] = view.numbers[c], there = view.present[c], verdict = there ? "present" : "absent";
    const bar = make("span", { class: "mlw-bar" }, make("i"), make("b"));
    bar.firstChild.style.width = `${100 * view.p[c]}%`;
    bar.lastChild.style.left = `${100 * view.thresholds[c]}%`;
    const made = make("button", { type: "button", "data-class": c, "aria-pressed": pressed === c, tabindex: i ? -1 : 0,
      "data-lm-suppress-shortcuts": "", title: `${fixed.names[c]}: p ${p}, threshold ${limit}`,
      "aria-label": `${fixed.names[c]}: p ${p}, threshold ${limit}, ${verdict}; show where` },
      make("span", { class: "mlw-class" }, fixed.names[c]), bar, make("span", { class: "mlw-p" }, p),
      make("span", { class: "mlw-verdict" }, there ? "✓" : ""));
    made.addEventListener("click", () => { pressed = pressed === c ? null : c; show(); });
    made.addEventListener("pointerenter", () => point(c));
    made.addEventListener("pointerleave", () => point(null));
    return make("li", there ? { class: "mlw-present" } : {}, made);
  }

  function point(c) {
    clearTimeout(resting);
    resting = setTimeout(() => { pointed = c; show(); }, REST);
  }

  // The image, or where the class that a person points at is seen in it.
  function show() {
    const c = pointed ?? keyed ?? pressed, seen = pictures.get(c);
    if (c !== null && !asked.has(c)) {
      asked.add(c);
      send({ do: "look", at, class: c });
    }
    map.hidden = !seen?.picture;
    if (seen?.picture) map.src = seen.picture;
    map.alt = seen ? `where ${fixed.names[c]} is seen` : "";
    said.textContent = seen ? `${fixed.names[c]}. ${seen.said}`
      : at ? "Point at a class, or go there by the arrow keys, to see where in the image it is seen." : "";
    for (const its of list.querySelectorAll("button")) {
      its.setAttribute("aria-pressed", Number(its.dataset.class) === pressed);
      its.classList.toggle("mlw-shown", Number(its.dataset.class) === c);
    }
  }

  function keep() {
    const seen = model.get("seen");
    clearTimeout(silence);
    if (seen.at !== at) return;
    pictures.set(seen.class, seen);
    show();
  }

  model.on("change:view", draw);
  model.on("change:seen", keep);
  draw();
  el.append(box);
  return () => {
    document.removeEventListener("paste", pasted);
    [silence, resting].forEach(clearTimeout);
  };
}

export default { render };
