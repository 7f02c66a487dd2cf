// The page of parts.Choice.
function render({ model, el }) {
  const title = model.get("title");
  const choice = choiceOf(title, model.get("names"), (i) => {
    model.set("index", i);
    model.save_changes();
  });
  const show = () => choice.choose(model.get("index"));
  const box = make("div", { class: "mlw-parts" }, make("span", { "aria-hidden": "true" }, title), choice.element);
  model.on("change:index", show);
  show();
  keepKeys(box);
  el.append(box);
  return () => model.off("change:index", show);
}

export default { render };
