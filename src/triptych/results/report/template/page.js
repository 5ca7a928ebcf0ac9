// A click on a column's name sorts its table by that column, a second one the other way round.
// The NUMBER of page.py: alone, or as in 48,211 ± 312 and 4 of 5.
const NUMBER = /^-?[\d,]*\.?\d+(e[+-]?\d+)?( ± .*| of \d+)?$/i;
function sortable(text) {
  return { text, number: NUMBER.test(text) ? parseFloat(text.replace(/,/g, "")) : null };
}
function compare(a, b) {
  if (a.number !== null && b.number !== null) return a.number - b.number;
  if (a.number !== null) return -1;
  if (b.number !== null) return 1;
  return a.text.localeCompare(b.text);
}
for (const heading of document.querySelectorAll("th")) {
  heading.querySelector("button").addEventListener("click", () => {
    const body = heading.closest("table").tBodies[0];
    const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => ({ row, key: sortable(row.cells[heading.cellIndex].textContent) }));
    // What is missing stays at the end.
    const missing = (key) => key.text === "-" || key.text === "";
    rows.sort((a, b) => missing(a.key) - missing(b.key) || sign * compare(a.key, b.key));
    body.append(...rows.map(({ row }) => row));
  });
}
