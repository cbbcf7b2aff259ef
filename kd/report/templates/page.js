"use strict";

// Headings of sortable tables become buttons. Without this script the table is the same, in the order of the chain.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th").forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const numeric = heading.classList.contains("number");
      // Numbers start with the highest, names with A; a second click reverses the order.
      const first = numeric ? "descending" : "ascending";
      const other = numeric ? "ascending" : "descending";
      const order = heading.getAttribute("aria-sort") === first ? other : first;
      table.querySelectorAll("thead th").forEach((each) => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const key = (row) => row.cells[column].dataset.sort;
      const compare = (a, b) => (numeric ? a - b : a.localeCompare(b));
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // cells without a value go last
        return sign * compare(x, y);
      });
      body.append(...rows);
    });
  });
}

// Each picture becomes an interactive chart of the same description when it scrolls into view. Paper shows the picture.
const enliven = async (figure) => {
  const chart = JSON.parse(figure.querySelector("script").textContent);
  const live = document.createElement("div");
  live.className = "live";
  figure.prepend(live);
  try {
    await window.kdChart(live, { ...chart, width: "container", autosize: { type: "fit-x", contains: "padding" } });
    figure.classList.add("enlivened");
  } catch (error) {
    live.remove(); // the picture stays
    console.error(error);
  }
};
if (window.kdChart) {
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      enliven(target);
    }
  }, { rootMargin: "400px" });
  document.querySelectorAll("figure.chart").forEach((figure) => seen.observe(figure));
}

// Test segments: search, filter, and sort by the difference of two systems. Texts are set as text, never as markup.
{
  const STEP = 20; // segments shown at a time
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const labelled = (text, control) => make("label", {}, make("span", { textContent: text }), control);
  const choice = (names, selected) =>
    make("select", {}, ...names.map((name, place) => make("option", { value: place, textContent: name, selected: place === selected })));
  const ORDERS = {
    "first system furthest behind": (a, b) => a.gap - b.gap,
    "first system furthest ahead": (a, b) => b.gap - a.gap,
    "lowest score of the first system": (a, b) => a.score - b.score,
    "order of the test set": (a, b) => a.number - b.number,
  };
  for (const place of document.querySelectorAll(".browser")) {
    const { metric, systems, compared, rows } = JSON.parse(place.querySelector("script").textContent);
    const search = make("input", { type: "search", placeholder: "words in source, reference or output" });
    const [first, second] = compared.map((system) => choice(systems, system));
    const order = choice(Object.keys(ORDERS), 0);
    const differing = make("input", { type: "checkbox" });
    const status = make("p", { className: "quiet" });
    status.setAttribute("role", "status");
    const list = make("div");
    const more = make("button", { type: "button", textContent: "Show more" });
    let shown = STEP;
    const line = (name, text, className = "") =>
      make("div", { className }, make("dt", { textContent: name }), make("dd", { dir: "auto", textContent: text, className: text.trim() ? "" : "empty" }));
    const scored = (name, score) => (score === null ? name : `${name} · ${metric} ${score.toFixed(1)}`);
    const draw = () => {
      const [one, two] = [Number(first.value), Number(second.value)];
      const wanted = search.value.toLocaleLowerCase();
      const found = rows
        .map(([number, source, reference, outputs, scores]) => ({
          number, source, reference, outputs, scores, score: scores[one] ?? 0, gap: (scores[one] ?? 0) - (scores[two] ?? 0),
        }))
        .filter(({ source, reference, outputs }) =>
          [source, reference, outputs[one], outputs[two]].some((text) => text.toLocaleLowerCase().includes(wanted)))
        .filter(({ outputs }) => !differing.checked || outputs[one] !== outputs[two])
        .sort(Object.values(ORDERS)[Number(order.value)]);
      status.textContent = `${found.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} segments`;
      list.replaceChildren(...found.slice(0, shown).map(({ number, source, reference, outputs, scores }) =>
        make("dl", { className: "segment" },
          line(`source, segment ${number.toLocaleString("en")}`, source, "given"), line("human translation", reference, "given"),
          line(scored(systems[one], scores[one]), outputs[one], "student"), line(scored(systems[two], scores[two]), outputs[two]))));
      more.hidden = found.length <= shown;
    };
    const restart = () => { shown = STEP; draw(); };
    for (const control of [search, first, second, order, differing]) control.addEventListener("input", restart);
    more.addEventListener("click", () => { shown += STEP; draw(); });
    const controls = make("div", { className: "controls" }, labelled("Search", search), labelled("First system", first),
      labelled("Second system", second), labelled("Sort by", order), labelled("Only where the two differ", differing));
    place.querySelector("p").remove();
    place.prepend(controls, status, list, more);
    draw();
  }
}
