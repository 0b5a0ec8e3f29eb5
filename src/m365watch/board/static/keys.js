// The keyboard: pages, time, filters, theme, help. Nothing happens while somebody types.
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

function otherRange(step) {
  const ranges = [...document.querySelectorAll("[data-range]")];
  const at = ranges.findIndex((one) => one.ariaCurrent === "true");
  const next = ranges[at < 0 ? ranges.length - 1 : at + step];
  if (next) location.assign(next.href);
}

function withoutFilters() {
  const url = new URL(location.href);
  for (const name of [...url.searchParams.keys()]) {
    if (!["range", "from", "to", "by", "alert", "session", "mailbox", "site", "text", "record", "q", "sql"].includes(name)) url.searchParams.delete(name);
  }
  location.assign(url);
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
  if (key.ctrlKey || key.metaKey || key.altKey || help.open) return;
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
