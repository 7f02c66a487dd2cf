// The page of parts.Keys: the keys of the widget that it is part of.
function render({ model, el }) {
  const help = helpOf(model.get("rows")), box = make("div", { class: "mlw-parts" }, help.element);
  // A click into a picture moves no focus, so there it is the mouse that says which widget a key is for.
  const press = (event) => {
    const whole = el.closest(".mlw-map");
    if (whole?.contains(event.target) || whole?.matches(":hover")) help.press(event);
  };
  document.addEventListener("keydown", press, true);
  keepKeys(box);
  el.append(box);
  return () => document.removeEventListener("keydown", press, true);
}

export default { render };
