// The time of lanes is narrowed by dragging over them, as that of charts is; a click narrows it to one step.
function instant(seconds) {
  return new Date(seconds * 1000).toISOString().slice(0, 16) + "Z";
}

let from = null;

function placeOf(line, pointer) {
  const { left, width } = line.getBoundingClientRect();
  return Math.min(Math.max((pointer.clientX - left) / width, 0), 0.9999);
}

document.addEventListener("pointerdown", (pointer) => {
  const line = pointer.target.closest?.(".track-line");
  from = line && !pointer.target.closest("a") && pointer.button === 0 ? { line, at: placeOf(line, pointer) } : null;
});

document.addEventListener("pointerup", (pointer) => {
  if (!from) return;
  const { start, step, steps } = from.line.closest(".lanes").dataset;
  const ends = [from.at, placeOf(from.line, pointer)].sort((one, other) => one - other);
  const [first, last] = ends.map((at) => Math.floor(at * Number(steps)));
  from = null;
  const url = new URL(location.href);
  url.searchParams.delete("range");
  url.searchParams.set("from", instant(Number(start) + first * Number(step)));
  url.searchParams.set("to", instant(Number(start) + (last + 1) * Number(step)));
  location.assign(url);
});

// A record opens below its row; with a modifier key its link is an ordinary one.
document.addEventListener("click", (click) => {
  const link = click.target.closest?.(".grid a[href^='/record?']");
  if (!link || click.ctrlKey || click.metaKey || click.shiftKey || click.button !== 0) return;
  click.preventDefault();
  const row = link.closest("tr");
  const below = row.nextElementSibling;
  if (below?.classList.contains("under")) {
    below.remove();
    return;
  }
  const under = document.createElement("tr");
  under.className = "under";
  const cell = under.insertCell();
  cell.colSpan = row.cells.length;
  row.after(under);
  htmx.ajax("GET", `/panel/record/record${new URL(link.href).search}`, { target: cell, swap: "innerHTML" });
});
