// A click on a column's head sorts by it: numbers as numbers, then the other way round.
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const head = button.parentElement, table = head.closest("table"), body = table.tBodies[0];
  const column = head.cellIndex, up = head.getAttribute("aria-sort") !== "ascending";
  const value = row => { const cell = row.cells[column], key = cell.dataset.key ?? cell.textContent;
    return key === "" || isNaN(key) ? key : Number(key); };
  const rows = [...body.rows].sort((a, b) => { const x = value(a), y = value(b);
    const order = typeof x === "number" && typeof y === "number" ? x - y
      : typeof x === "number" ? -1 : typeof y === "number" ? 1 : String(x).localeCompare(String(y));
    return up ? order : -order; });
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...rows);
});
