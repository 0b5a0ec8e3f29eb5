// Alerts worked on with the keyboard: j and k, x, a, c, o, Enter; one alert or all that are selected.
import { toast } from "./toasts.js";
import { send } from "./token.js";

const chosen = new Set();
let current = "";

const rows = () => [...document.querySelectorAll(".waiting")];
const rowOf = (id) => rows().find((row) => row.dataset.alert === id);
const single = () => document.querySelector(".case[data-alert]");
const dialog = () => document.querySelector("dialog.reason");

function targets() {
  if (single()) return [single().dataset.alert];
  if (chosen.size) return [...chosen];
  return current && rowOf(current) ? [current] : [];
}

function show() {
  const list = rows();
  for (const id of chosen) if (!rowOf(id)) chosen.delete(id);
  for (const row of list) {
    row.classList.toggle("is-current", row.dataset.alert === current);
    row.classList.toggle("is-chosen", chosen.has(row.dataset.alert));
    const box = row.querySelector("[data-select]");
    if (box) box.checked = chosen.has(row.dataset.alert);
  }
  const words = document.querySelector("[data-chosen]");
  if (words) words.textContent = chosen.size ? `${chosen.size} selected` : "None selected";
  const all = document.querySelector("[data-all]");
  if (all) {
    all.checked = list.length > 0 && chosen.size === list.length;
    all.indeterminate = chosen.size > 0 && chosen.size < list.length;
  }
}

function move(step) {
  const list = rows();
  if (!list.length) return;
  const at = list.findIndex((row) => row.dataset.alert === current);
  const row = list[at < 0 ? (step > 0 ? 0 : list.length - 1) : Math.min(Math.max(at + step, 0), list.length - 1)];
  current = row.dataset.alert;
  show();
  row.querySelector(".alert-title").focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
}

function select(id) {
  if (!id) return;
  if (!chosen.delete(id)) chosen.add(id);
  show();
}

async function put(ids, state, reason) {
  const list = rows();
  const at = list.findIndex((row) => row.dataset.alert === current);
  const next = list.slice(at + 1).find((row) => !ids.includes(row.dataset.alert));
  let words = "the board does not answer";
  let done = false;
  try {
    const answer = await send(`/alerts/state${location.search}`, { ids, state, reason });
    done = answer.ok;
    words = (answer.headers.get("Content-Type") || "").includes("json") ? (await answer.json()).says : await answer.text();
  } catch { /* it is told below */ }
  toast(done ? words : `Not done: ${words}`);
  if (!done) return;
  if (next && ids.includes(current)) current = next.dataset.alert;
  chosen.clear();
  for (const body of document.querySelectorAll("[data-live] .panel-body")) htmx.trigger(body, "again");
}

function act(state) {
  const ids = targets();
  if (!ids.length) {
    toast("Select an alert first: j and k move, x selects");
    return;
  }
  if (state !== "closed") {
    put(ids, state, "");
    return;
  }
  const box = dialog();
  box.querySelector("#reason-title").textContent = ids.length === 1 ? "Close this alert" : `Close ${ids.length} alerts`;
  box.ids = ids;
  box.showModal();
  box.querySelector("textarea").focus();
}

function back() {
  const link = document.querySelector(".case .back");
  if (link) location.assign(link.href);
}

const keys = {
  j: () => move(1),
  k: () => move(-1),
  x: () => select(current),
  a: () => act("acknowledged"),
  c: () => act("closed"),
  o: () => act("open"),
  b: back,
  Escape: () => { chosen.clear(); show(); },
  Enter: () => { const row = rowOf(current); if (row) location.assign(row.dataset.url); },
};
const ofOne = new Set(["a", "c", "o", "b"]);
const changes = new Set(["x", "a", "c", "o"]);
const mayChange = () => !!document.querySelector("[data-act]");

// Before the keys of all pages: x takes filters out elsewhere, and selects here.
document.addEventListener("keydown", (key) => {
  if (key.ctrlKey || key.metaKey || key.altKey || document.querySelector("dialog[open]")) return;
  if (key.target.closest("input:not([type=checkbox]), select, textarea")) return;
  if (!rows().length && !(single() && ofOne.has(key.key))) return;
  if (key.key === "Enter" && key.target.closest("a, button, summary, input") && !key.target.closest(".alert-title")) return;
  const does = keys[key.key];
  // After g a key names a page, and who only looks has no keys that change something.
  if (!does || document.body.dataset.goes || (changes.has(key.key) && !mayChange())) return;
  key.preventDefault();
  key.stopImmediatePropagation();
  does();
}, true);

document.addEventListener("click", (click) => {
  const at = click.target;
  const asked = at.closest("[data-act]");
  if (asked) act(asked.dataset.act);
  const box = at.closest("[data-select]");
  if (box) {
    current = box.closest(".waiting").dataset.alert;
    select(current);
  }
  if (at.closest("[data-all]")) {
    const every = chosen.size === rows().length;
    chosen.clear();
    if (!every) for (const row of rows()) chosen.add(row.dataset.alert);
    show();
  }
  const quick = at.closest("[data-reason]");
  if (quick) dialog().querySelector("textarea").value = quick.dataset.reason;
  if (at.closest("[data-reason-cancel]")) dialog().close();
  const copy = at.closest("[data-copy]");
  if (copy) navigator.clipboard.writeText(copy.previousElementSibling.textContent.trimEnd()).then(() => toast("Copied"));
});

// A reason is one line: Enter closes, and so does Ctrl+Enter, as in the editor; Shift+Enter goes on.
document.addEventListener("keydown", (key) => {
  if (key.key !== "Enter" || key.shiftKey || key.isComposing || !key.target.matches("dialog.reason textarea")) return;
  key.preventDefault();
  key.target.form.requestSubmit();
});

document.addEventListener("submit", (submit) => {
  const box = submit.target.closest("dialog.reason");
  if (box) put(box.ids, "closed", box.querySelector("textarea").value.trim());
});

document.addEventListener("htmx:afterSwap", show);
