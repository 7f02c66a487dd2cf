/* A long table: a click on a column's name sorts by it, words in the field leave the rows that hold them.
   Where a page runs no scripts it is a plain table. */
{
  const holder = document.currentScript.previousElementSibling;
  const body = holder.querySelector("tbody"), rows = [...body.rows];
  const heads = [...holder.querySelectorAll("thead tr:first-child th")];

  const search = Object.assign(document.createElement("input"), { type: "search", placeholder: "search" });
  search.setAttribute("aria-label", "Search in the table");
  search.setAttribute("data-lm-suppress-shortcuts", "true");
  const count = Object.assign(document.createElement("span"), { textContent: ` ${rows.length} rows` });
  holder.before(search, count);
  search.addEventListener("input", () => {
    const wanted = search.value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    count.textContent = ` ${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  });

  const number = (text) => (text === "" ? NaN : Number(text.replace(/^[<>]/, "").replaceAll(",", "")));
  heads.forEach((head, place) => {
    const sort = () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const told = new Map(rows.map((row) => [row, row.cells[place].textContent.trim()]));
      const texts = [...told.values()].some((text) => text !== "–" && Number.isNaN(number(text)));
      rows.sort((one, other) => {
        const [a, b] = [told.get(one), told.get(other)];
        if (a === "–" || b === "–") return (a === "–") - (b === "–"); // undefined stays at the end
        const order = texts ? a.localeCompare(b) : number(a) - number(b);
        return falling ? -order : order;
      });
      body.append(...rows);
    };
    head.tabIndex = 0;
    head.style.cursor = "pointer";
    head.title = "sort";
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      sort();
    });
    head.setAttribute("data-lm-suppress-shortcuts", "true");
  });
}
