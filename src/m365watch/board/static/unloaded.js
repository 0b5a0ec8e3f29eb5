// A panel whose request brought nothing says so, can be tried again, and is loaded once the board is there again.
const AGAIN_MS = [5000, 15000, 30000];
const UNREACHED = new Set([0, 502, 503, 504]);
let tries = 0;
let waiting = 0;

const every = (selector) => [...document.querySelectorAll(selector)];
const load = (box) => htmx.trigger(box.closest(".panel-body"), "again");

function words(kind, status) {
  if (kind === "htmx:timeout") return ["No answer came within a minute.", "A shorter time, or fewer people, is answered sooner."];
  if (UNREACHED.has(status)) return [status ? `The board is not reached: HTTP ${status}.` : "The board does not answer.", "This is loaded once it does."];
  if (status < 500) return [`This was refused: HTTP ${status}.`, "Load the page again."];
  return [`This failed: HTTP ${status}.`, "The board's log may say why."];
}

function line(name, text) {
  const one = document.createElement("p");
  one.className = name;
  one.textContent = text;
  return one;
}

function button() {
  const one = document.createElement("button");
  one.type = "button";
  one.className = "again";
  one.dataset.again = "";
  one.textContent = "Try again";
  return one;
}

// What was there before stays in sight, below the word that it is older.
function show(body, [why, then], isUnreached) {
  const old = body.querySelector(":scope > .unloaded");
  const box = old ?? document.createElement("div");
  const wasAt = old?.contains(document.activeElement);
  const isBare = old ? !old.classList.contains("stale") : Boolean(body.querySelector(".skeleton"));
  box.className = `empty trouble unloaded${isBare ? "" : " stale"}`;
  box.setAttribute("role", "status");
  box.dataset.unreached = isUnreached ? "yes" : "no";
  box.replaceChildren(line("why", isBare ? why : `Not loaded anew: ${why}`), line("then", then), button());
  if (isBare) body.replaceChildren(box); else body.prepend(box);
  if (wasAt) box.querySelector("button").focus();
  body.closest(".panel")?.setAttribute("aria-busy", "false");
}

function again() {
  for (const box of every(".unloaded[data-unreached=yes]")) load(box);
}

function againSoon() {
  if (waiting) return;
  waiting = setTimeout(() => { waiting = 0; if (document.hidden) againSoon(); else again(); }, AGAIN_MS[Math.min(tries, AGAIN_MS.length - 1)]);
  tries += 1;
}

function failed({ type, target, detail }) {
  if (!target.matches?.(".panel-body")) return;
  const status = type === "htmx:responseError" ? detail.xhr.status : 0;
  const isUnreached = type !== "htmx:timeout" && UNREACHED.has(status);
  show(target, words(type, status), isUnreached);
  if (isUnreached) againSoon();
}

for (const kind of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) document.addEventListener(kind, failed);
document.addEventListener("htmx:afterSwap", () => { if (!document.querySelector(".unloaded")) tries = 0; });
for (const kind of ["online", "board:back"]) addEventListener(kind, again);
document.addEventListener("click", ({ target }) => {
  const asked = target.closest("[data-again]");
  if (!asked) return;
  asked.disabled = true;
  asked.textContent = "Trying …";
  load(asked);
});
