// Columns are sorted by a click on their heading: downwards, upwards, downwards ...
function keyOf(row, place) {
  const cell = row.cells[place];
  return cell.dataset.value === undefined ? cell.textContent.trim().toLowerCase() : Number(cell.dataset.value);
}

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one).localeCompare(String(other));
}

// Sort the heading's table by its column.
export function sort(heading, direction) {
  const table = heading.closest("table");
  const place = [...heading.parentElement.children].indexOf(heading);
  for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const rows = [...body.rows].sort((one, other) => sign * compare(keyOf(one, place), keyOf(other, place)));
  body.append(...rows);
}

function sortNext(heading) {
  const first = heading.classList.contains("numeric") ? "descending" : "ascending";
  sort(heading, heading.ariaSort === "descending" ? "ascending" : heading.ariaSort === "ascending" ? "descending" : first);
}

document.addEventListener("click", (click) => {
  const button = click.target.closest("[data-sort]");
  if (button) sortNext(button.closest("th"));
});
document.addEventListener("htmx:afterSwap", (swap) => {
  swap.detail.target.closest(".panel")?.setAttribute("aria-busy", "false");
});
