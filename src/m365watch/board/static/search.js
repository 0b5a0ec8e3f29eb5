// The search goes on, part by part, as long as somebody looks: rows, course and progress grow as it finds.
import { draw } from "./charts.js";
import { combobox } from "./combobox.js";
import { toast } from "./toasts.js";

let asking = null;

// The board counts characters, scripts count their halves.
const characters = (text) => [...text].length;
const halves = (text, count) => [...text].slice(0, count).join("").length;

const number = (value) => {
  if (value >= 1e6) return `${+(value / 1e6).toPrecision(3)} M`;
  if (value >= 1e4) return `${+(value / 1e3).toPrecision(3)} k`;
  return value.toLocaleString("en");
};

function show(box, sums, goesOn) {
  const all = sums.searched + sums.left;
  box.querySelector("[data-found]").textContent = number(sums.count);
  box.querySelector("[data-found-words]").textContent = sums.count === 1 ? "record" : "records";
  box.querySelector("[data-searched-words]").textContent = sums.left
    ? `of ${number(sums.searched)} searched, ${number(sums.left)} ${goesOn ? "to go" : "not searched"}` : `of ${number(sums.searched)}`;
  const bar = box.querySelector("[data-progress]");
  bar.max = Math.max(all, 1);
  bar.value = sums.searched;
  bar.hidden = !goesOn;
  box.querySelector("[data-stop]").hidden = !goesOn;
  const rows = box.querySelectorAll("tbody > tr:not(.under)").length;
  const cut = box.querySelector("[data-cut]");
  cut.textContent = `The newest ${rows} are shown.`;
  cut.hidden = sums.count <= rows;
  box.querySelector("[data-none]").hidden = sums.count > 0 || goesOn;
  for (const one of box.querySelectorAll(".scroll, .chart-box")) one.hidden = sums.count === 0 && !goesOn;
}

function grow(box, part) {
  box.querySelector("tbody").append(...part.querySelectorAll("tr"));
  const place = box.querySelector(".chart-box");
  const chart = JSON.parse(place.dataset.chart);
  const added = JSON.parse(part.dataset.steps).lines[0].values;
  chart.lines[0].values = chart.lines[0].values.map((value, at) => value + added[at]);
  place.dataset.chart = JSON.stringify(chart);
  draw(place);
}

async function goOn(box) {
  const sums = { count: Number(box.dataset.count), searched: Number(box.dataset.searched), left: Number(box.dataset.left) };
  const mine = asking = new AbortController();
  let more = box.dataset.more;
  show(box, sums, Boolean(more));
  try {
    while (more) {
      const answer = await fetch(more, { signal: mine.signal });
      const holder = document.createElement("template");
      holder.innerHTML = await answer.text();
      const part = holder.content.querySelector("[data-part]");
      if (!part) {
        box.after(holder.content);
        break;
      }
      sums.count += Number(part.dataset.count);
      sums.searched += Number(part.dataset.searched);
      sums.left = Number(part.dataset.left);
      more = part.dataset.more;
      grow(box, part);
      show(box, sums, Boolean(more));
    }
  } catch { /* stopped, or the board is gone: what was found stays */ }
  show(box, sums, false);
}

function stop() {
  asking?.abort();
}

document.addEventListener("htmx:afterSwap", (swap) => {
  const box = swap.detail.target.querySelector?.("[data-hits]");
  if (box) {
    stop();
    goOn(box);
  }
  const refused = swap.detail.target.querySelector?.("[data-refused]");
  const input = document.getElementById("filter");
  if (refused && input) {
    input.setAttribute("aria-invalid", "true");
    input.focus();
    input.setSelectionRange(halves(input.value, Number(refused.dataset.refused)), input.value.length);
  }
});
document.addEventListener("click", (click) => {
  if (click.target.closest("[data-stop]")) stop();
  // A click into an answer of SQL shows what its row has been cut of, and cuts it again.
  const cell = click.target.closest("#panel-answer tbody td");
  if (cell && !click.target.closest("a, button") && !getSelection().toString()) cell.parentElement.classList.toggle("whole");
  // A click beside a value opens the record of that row.
  const row = click.target.closest(".hits tbody > tr:not(.under)");
  if (row && !click.target.closest("a, button") && !getSelection().toString()) row.querySelector("a[href^='/record?']")?.click();
});
document.addEventListener("keydown", (key) => {
  if (key.key === "Enter" && (key.ctrlKey || key.metaKey) && key.target.id === "sql") key.target.form.requestSubmit();
  if (key.key === "Escape" && !key.target.closest("input, dialog")) stop();
});
addEventListener("pagehide", stop);

const input = document.getElementById("filter");
if (input) {
  combobox(input, document.getElementById("filter-choices"), {
    ask: async (signal) => {
      const url = new URL(input.dataset.complete, location.href);
      url.searchParams.set("q", input.value);
      url.searchParams.set("at", String(characters(input.value.slice(0, input.selectionStart))));
      return (await fetch(url, { signal })).json();
    },
    take: (choice, { start, end }) => {
      const kept = input.value.slice(0, halves(input.value, start));
      const goesOn = /[:.]$/.test(choice.text);
      const rest = input.value.slice(halves(input.value, end));
      const text = choice.text + (goesOn || rest.startsWith(" ") ? "" : " ");
      input.value = kept + text + rest;
      input.setSelectionRange(kept.length + text.length, kept.length + text.length);
      return goesOn;
    },
  });
}

// SQL is sent by POST, and runs when somebody says so; the address has it all the same, to be kept or sent.
document.addEventListener("htmx:beforeRequest", ({ target }) => {
  if (!target.matches("[data-ask]")) return;
  const url = new URL(location.href);
  url.searchParams.set("sql", target.elements.sql.value);
  history.replaceState(history.state, "", url);
  document.getElementById("panel-answer").ariaBusy = "true";
  document.querySelector("#panel-answer .panel-body").innerHTML = '<div class="skeleton rows" role="img" aria-label="running"><i></i><i></i><i></i><i></i></div>';
});
document.addEventListener("click", async ({ target }) => {
  const button = target.closest("button[data-export]");
  if (!button) return;
  const headers = { "X-CSRF-Token": document.querySelector("meta[name=csrf-token]").content };
  const body = new URLSearchParams({ sql: document.getElementById("sql").value });
  button.disabled = true;
  try {
    const answer = await fetch(button.dataset.export, { method: "POST", headers, body });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const file = document.createElement("a");
    file.href = URL.createObjectURL(await answer.blob());
    file.download = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition"))?.[1] ?? "answer";
    file.click();
    setTimeout(() => URL.revokeObjectURL(file.href), 60_000);
  } catch (error) {
    toast(`Not exported: ${error.message}`);
  }
  button.disabled = false;
});

async function change(url, asked) {
  const headers = { "X-CSRF-Token": document.querySelector("meta[name=csrf-token]").content, "Content-Type": "application/json" };
  try {
    const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(asked) });
    const words = (answer.headers.get("Content-Type") || "").includes("json") ? (await answer.json()).says : await answer.text();
    toast(answer.ok ? words : `Not done: ${words}`);
    htmx.trigger(document.querySelector("[data-saved]"), "again");
    return answer.ok;
  } catch {
    toast("Not done: the board does not answer");
    return false;
  }
}

document.addEventListener("submit", async (submit) => {
  const form = submit.target.closest("[data-keep]");
  if (!form) return;
  submit.preventDefault();
  const asked = { name: form.elements.name.value, page: form.dataset.page, shared: form.elements.shared.checked };
  if (await change(`/search/saved${location.search}`, asked)) form.reset();
});
document.addEventListener("click", (click) => {
  const gone = click.target.closest("[data-remove]");
  if (gone) change(`/search/saved/${gone.dataset.remove}/remove`, {});
});
