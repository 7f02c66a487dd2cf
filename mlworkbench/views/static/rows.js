// The page of parts.Rows: all names in sight, each with a bar behind it.
function render({ model, el }) {
  const names = model.get("names");
  const list = make("select", { "aria-label": model.get("title"), size: Math.min(Math.max(names.length, 2), 16) });
  list.append(...names.map((name) => make("option", { dir: "auto", title: name }, name)));
  for (const [i, share] of model.get("shares").entries()) list.options[i].style.setProperty("--share", `${100 * share}%`);
  const show = () => { list.selectedIndex = names.length ? model.get("index") : -1; };
  list.addEventListener("change", () => {
    model.set("index", list.selectedIndex);
    model.save_changes();
  });
  model.on("change:index", show);
  show();
  const box = make("div", { class: "mlw-rows" }, list);
  keepKeys(box);
  el.append(box);
  return () => model.off("change:index", show);
}

export default { render };
