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
      // Numbers first go down, names up; a second click turns the order round.
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
        if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // what has no value goes last
        return sign * compare(x, y);
      });
      body.append(...rows);
    });
  });
}

// Each picture is replaced by a live chart of the same description when it is first seen. On paper the picture stands.
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
