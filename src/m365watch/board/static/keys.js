// The keyboard: pages, time, filters, theme, help. Nothing happens while somebody types, or a dialog is open.
import { toast } from "./toasts.js";

const help = document.getElementById("help");
const GOES_MS = 1500;

// After g a key names a page, also where it means something else.
function goesNow() {
  document.body.dataset.goes = "yes";
  setTimeout(() => { delete document.body.dataset.goes; }, GOES_MS);
}

function again() {
  for (const body of document.querySelectorAll(".panel-body")) htmx.trigger(body, "again");
}

// A time of one's own keeps its middle: half of it, or twice as much.
function ownRange(step) {
  const [from, to] = ["from", "to"].map((name) => Date.parse(`${document.querySelector(`.between [name=${name}]`)?.value}Z`));
  const half = (to - from) / (step < 0 ? 4 : 1);
  if (!(half >= 60_000)) return;
  const url = new URL(location.href);
  const middle = (from + to) / 2;
  const end = Math.min(middle + half, Math.max(to, Date.now()));
  url.searchParams.delete("range");
  for (const [name, at] of [["from", end - 2 * half], ["to", end]]) url.searchParams.set(name, `${new Date(at).toISOString().slice(0, 16)}Z`);
  location.assign(url);
}

function otherRange(step) {
  const ranges = [...document.querySelectorAll("[data-range]")];
  const at = ranges.findIndex((one) => one.ariaCurrent === "true");
  if (at < 0) { ownRange(step); return; }
  const next = ranges[at + step];
  if (next) location.assign(next.href);
}

// What the page is about stays: the record, the search, the instance in the editor.
function withoutFilters() {
  const url = document.getElementById("main")?.dataset.unfiltered;
  if (url) location.assign(url); else toast("No filter is set");
}

const keys = {
  "?": () => help.showModal(),
  "/": () => ["filter", "sql", "value"].map((id) => document.getElementById(id)).find(Boolean)?.focus(),
  "[": () => otherRange(-1),
  "]": () => otherRange(1),
  r: () => { again(); toast("Loading again"); },
  x: withoutFilters,
  t: () => toast(`Theme: ${window.nextTheme()}`),
  g: goesNow,
};

document.addEventListener("keydown", (key) => {
  if (key.ctrlKey || key.metaKey || key.altKey || document.querySelector("dialog[open]")) return;
  if (key.target.closest("input, select, textarea")) return;
  if (document.body.dataset.goes && key.key !== "g") {
    delete document.body.dataset.goes;
    const page = [...document.querySelectorAll(".nav [data-key]")].find((one) => one.dataset.key === key.key);
    if (page) location.assign(page.href);
    return;
  }
  const does = keys[key.key];
  if (does) {
    key.preventDefault();
    does();
  }
});

document.addEventListener("click", (click) => {
  if (click.target.closest("[data-help]")) help.showModal();
  if (click.target.closest("[data-theme-toggle]")) keys.t();
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(click.target)) menu.open = false;
  }
});
document.addEventListener("keydown", (key) => {
  if (key.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
});

// Where the navigation is a row, the page one is on stands in sight.
document.querySelector(".nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
