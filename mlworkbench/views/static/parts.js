// What the pages of several widgets share; it stands before each of their scripts (see parts.page).

function set(element, attributes, ...children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
const make = (tag, attributes = {}, ...children) => set(document.createElement(tag), attributes, ...children);

// JupyterLab takes keys for its own commands, unless the very element that has the focus says otherwise.
function keepKeys(box) {
  for (const element of [box, ...box.querySelectorAll("button, select, input, dialog")])
    element.setAttribute("data-lm-suppress-shortcuts", "");
}

// Whether a name has each of the words, whatever their case and accents.
function found(name, words) {
  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  return plain(words).split(/\s+/).every((word) => plain(name).includes(word));
}

// One of many names: a box shows the chosen one, and opens a list of those that have the words typed in it.
function choiceOf(title, names, take) {
  const id = `mlw-${Math.random().toString(36).slice(2)}`;
  const list = make("ul", { id, role: "listbox", "aria-label": title, hidden: "" });
  const box = make("input", { type: "text", role: "combobox", "aria-label": title, "aria-controls": id, dir: "auto",
    "aria-expanded": false, "aria-autocomplete": "list", autocomplete: "off", spellcheck: false });
  let chosen = 0, at = 0, shown = [];

  function choose(i) { // and tell nobody
    chosen = i;
    box.value = box.title = names[i];
    if (document.activeElement === box) box.select(); // so that what is typed next takes its place
    close();
  }

  function close() {
    list.hidden = true;
    box.setAttribute("aria-expanded", false);
    box.removeAttribute("aria-activedescendant");
  }

  function open(words) {
    shown = names.map((_, i) => i).filter((i) => found(names[i], words));
    list.replaceChildren(...shown.map((i) => make("li", { role: "option", id: `${id}-${i}`, dir: "auto" }, names[i])));
    if (!shown.length) list.append(make("li", { role: "option", "aria-disabled": true }, "no such name"));
    list.hidden = false;
    box.setAttribute("aria-expanded", true);
    mark(words ? 0 : shown.indexOf(chosen));
  }

  function mark(row) {
    if (!shown.length) return;
    at = Math.min(Math.max(row, 0), shown.length - 1);
    [...list.children].forEach((item, i) => item.setAttribute("aria-selected", i === at));
    const item = list.children[at];
    list.scrollTop = Math.min(Math.max(list.scrollTop, item.offsetTop + item.offsetHeight - list.clientHeight), item.offsetTop);
    box.setAttribute("aria-activedescendant", item.id);
  }

  function pick(i) {
    const other = i !== undefined && i !== chosen;
    choose(i ?? chosen);
    if (other) take(i);
  }

  box.addEventListener("input", () => open(box.value));
  box.addEventListener("mousedown", (event) => {
    if (!list.hidden) return; // someone points at what is typed
    event.preventDefault(); // or the browser puts its mark into the old name
    box.focus();
    box.select();
    open("");
  });
  box.addEventListener("focus", () => box.select());
  box.addEventListener("blur", () => choose(chosen)); // what was typed and not taken is nothing
  box.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
    if (step && list.hidden) pick(names[chosen + step] === undefined ? chosen : chosen + step);
    else if (step) mark(at + step);
    else if (list.hidden || !["Enter", "Escape"].includes(event.key)) return;
    else if (event.key === "Enter") pick(shown[at]);
    else choose(chosen);
    event.preventDefault();
    event.stopPropagation();
  });
  list.addEventListener("mousedown", (event) => { // which would take the focus away, and so close it
    event.preventDefault();
    const row = [...list.children].indexOf(event.target);
    if (shown[row] !== undefined) pick(shown[row]);
  });
  choose(chosen);
  return { element: make("span", { class: "mlw-choice" }, box, list), choose };
}

// A button that opens a list of keys and closes it again; `press` is to hear of keys first, for ? and Escape do so too.
function helpOf(keys) {
  const list = make("dl", {}, ...keys.flatMap(([key, text]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, text)]));
  const panel = make("dialog", { "aria-label": "Keys", tabindex: "-1" }, list);
  const button = make("button", { type: "button", "aria-label": "Keys", title: "Keys", "aria-expanded": false,
    "aria-keyshortcuts": "?" }, "?");
  const turn = () => {
    panel.open ? panel.close() : panel.show(); // which brings the focus back to where it was
    button.setAttribute("aria-expanded", panel.open);
  };
  button.addEventListener("click", turn);
  const press = (event) => {
    const typed = event.target.matches?.("[type=text], [type=search], textarea, [contenteditable=true]");
    if (!(event.key === "?" && !typed || event.key === "Escape" && panel.open)) return;
    turn();
    event.preventDefault();
    event.stopPropagation();
  };
  return { element: make("span", { class: "mlw-help" }, button, panel), press };
}

