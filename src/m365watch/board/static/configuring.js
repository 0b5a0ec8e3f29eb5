// The configuration: each change is shown before it is made; parameters are checked as they are typed; preflights are told as they come.
import { toast } from "./toasts.js";
import { send as post } from "./token.js";

const TYPED_MS = 250;
const LOOK_AGAIN_MS = [800, 2500, 5000, 9000, 15000];
// Set by the editor for the page that it goes back to.
const CHANGED = "board:changed";
const dialog = () => document.querySelector("dialog.change");
const form = () => document.querySelector("form.editor");
let pending = null;
let numberOfLook = 0;
let waiting = 0;
let trying = null;

async function told(answer) {
  const is_json = (answer.headers.get("Content-Type") || "").includes("json");
  return is_json ? answer.json() : { says: await answer.text() };
}

function line(text, tone) {
  const one = document.createElement("span");
  one.className = tone;
  one.textContent = text;
  return one;
}

function showDifference(place, text) {
  const tones = { "+": "added", "-": "removed", "@": "place" };
  place.replaceChildren();
  for (const one of text.split("\n")) {
    if (!one || one.startsWith("+++") || one.startsWith("---")) continue;
    place.append(line(one, tones[one[0]] || ""), "\n");
  }
  place.hidden = !place.childElementCount;
}

function showList(place, texts) {
  place.replaceChildren(...texts.map((text) => {
    const one = document.createElement("li");
    one.textContent = text;
    return one;
  }));
  place.hidden = !texts.length;
}

function showMistakes(place, mistakes, jump) {
  place.replaceChildren(...mistakes.map((mistake) => {
    const one = document.createElement("p");
    one.className = "mistake";
    if (mistake.line && jump) {
      const at = document.createElement("button");
      at.type = "button";
      at.className = "at-line";
      at.dataset.line = mistake.line;
      at.textContent = `line ${mistake.line}`;
      one.append(at, " ");
    }
    one.append(jump ? mistake.says.replace(`line ${mistake.line}, `, "") : mistake.says);
    return one;
  }));
}

function changeTyped() {
  const it = form();
  return { act: "write", kind: it.dataset.of, name: it.elements.name.value.trim(), text: it.elements.text.value, is_new: it.dataset.new === "yes" };
}

function changedMeanwhile(news) {
  const box = dialog();
  pending = null;
  box.querySelector("#change-title").textContent = "The file was changed meanwhile";
  showMistakes(box.querySelector(".change-mistakes"), [{ says: news.says }]);
  showDifference(box.querySelector(".difference"), news.difference || "");
  showList(box.querySelector(".notes"), []);
  box.querySelector(".then").textContent = form()
    ? "What you have typed stays: go on, and it is held against the file as it is now."
    : "Load again to see the file as it is now.";
  const button = box.querySelector("[data-change-apply]");
  button.textContent = form() ? "Go on with what is typed" : "Load again";
  button.disabled = false;
  if (!box.open) box.showModal();
}

async function review(change, base, title, atOnce = false) {
  let answer;
  try { answer = await post("/collectors/review", { change, base }); } catch { toast("Not done: the board does not answer"); return; }
  const news = await told(answer);
  if (answer.status === 409) { changedMeanwhile(news); return; }
  if (!answer.ok) { toast(`Not done: ${news.says}`); return; }
  const box = dialog();
  if (atOnce && news.can) { pending = { change, base }; await apply(); return; }
  pending = news.can ? { change, base } : null;
  box.querySelector("#change-title").textContent = title;
  showMistakes(box.querySelector(".change-mistakes"), news.mistakes);
  const same = news.can && !news.difference && !news.notes.length;
  showDifference(box.querySelector(".difference"), news.difference);
  showList(box.querySelector(".notes"), news.notes);
  box.querySelector(".then").textContent = same ? "Nothing is changed by it." : news.then.join(" ");
  const button = box.querySelector("[data-change-apply]");
  button.textContent = "Change the file";
  button.disabled = !news.can || same;
  box.showModal();
}

async function apply() {
  const box = dialog();
  if (!pending && form()) { goOn(); return; }
  if (!pending) { location.reload(); return; }
  const asked = pending;
  pending = null;
  box.querySelector("[data-change-apply]").disabled = true;
  let answer;
  try { answer = await post("/collectors/apply", asked); } catch { toast("Not known whether it was done: the board does not answer"); return; }
  const news = await told(answer);
  if (answer.status === 409) { changedMeanwhile(news); return; }
  box.close();
  toast(answer.ok ? news.says : `Not done: ${news.says}`);
  if (!answer.ok) return;
  if (form()) form().dataset.left = "yes";
  if (form()) {
    sessionStorage.setItem(CHANGED, "yes");
    setTimeout(() => location.assign(form().dataset.back), 600);
    return;
  }
  lookAgain();
  loadAgain();
}

// The collector takes a change up within seconds: sooner than news of it come.
function lookAgain() {
  for (const after of LOOK_AGAIN_MS) setTimeout(loadAgain, after);
}

// What is typed stays, and is held against the file as it is by now.
async function goOn() {
  dialog().close();
  const place = document.querySelector("#panel-editor .panel-body").getAttribute("hx-get");
  const fresh = new DOMParser().parseFromString(await (await fetch(place)).text(), "text/html");
  const base = fresh.querySelector("form.editor")?.dataset.base;
  if (base) form().dataset.base = base;
  else toast("The instance is not there any more");
  judge();
}

function loadAgain() {
  for (const body of document.querySelectorAll("#panel-standing .panel-body, #panel-inputs .panel-body, #panel-outputs .panel-body, #panel-history .panel-body"))
    htmx.trigger(body, "again");
}

// What is typed is judged a moment later; an answer to an older text is not shown.
function judgeSoon() {
  clearTimeout(waiting);
  numbers();
  stillReading("Reading …", true);
  waiting = setTimeout(judge, TYPED_MS);
}

// The verdict of an older text is none of the newer one.
function stillReading(words, waits) {
  const place = form()?.querySelector(".mistakes");
  if (!place) return;
  for (const one of place.querySelectorAll(".right, .reading")) one.remove();
  place.append(line(words, "reading"));
  form().querySelector("button.main").disabled = waits;
}

async function judge() {
  const it = form();
  if (!it) return;
  const number = ++numberOfLook;
  let answer;
  try { answer = await post("/collectors/review", { change: changeTyped(), base: it.dataset.base }); } catch { stillReading("Not read: the board does not answer.", false); return; }
  const news = await told(answer);
  if (number !== numberOfLook || !it.isConnected) return;
  const place = it.querySelector(".mistakes");
  const mistakes = news.mistakes || [{ says: news.says }];
  showMistakes(place, mistakes, true);
  for (const note of news.notes || []) {
    const one = document.createElement("p");
    one.className = "odd";
    one.textContent = note;
    place.append(one);
  }
  if (answer.ok && news.can && !place.childElementCount) place.append(line(news.difference ? "Nothing is wrong with it." : "As the file has it.", "right"));
  it.querySelector("button.main").disabled = answer.ok && !news.can;
  const wrong = new Set(mistakes.map((one) => one.line));
  for (const one of it.querySelectorAll(".gutter span")) one.classList.toggle("wrong", wrong.has(Number(one.textContent)));
}

function numbers() {
  const it = form();
  if (!it) return;
  const gutter = it.querySelector(".gutter");
  const count = it.elements.text.value.split("\n").length;
  if (gutter.childElementCount !== count) {
    gutter.replaceChildren();
    for (let one = 1; one <= count; one += 1) gutter.append(line(String(one), ""), "\n");
  }
  gutter.scrollTop = it.elements.text.scrollTop;
}

function goToLine(number) {
  const text = form().elements.text;
  const lines = text.value.split("\n");
  const start = lines.slice(0, number - 1).join("\n").length + (number > 1 ? 1 : 0);
  text.focus();
  text.setSelectionRange(start, start + (lines[number - 1] || "").length);
}

// Files are kept for the destinations that the text has now; it comes back with their paths.
async function upload() {
  const it = form();
  const files = {};
  for (const one of it.querySelectorAll("[data-upload]"))
    if (one.files.length) files[one.dataset.upload] = btoa(String.fromCharCode(...new Uint8Array(await one.files[0].arrayBuffer())));
  if (!Object.keys(files).length) { toast("Choose a file first"); return; }
  let answer;
  try { answer = await post("/collectors/upload", { change: changeTyped(), base: it.dataset.base, files }); } catch { toast("Not uploaded: the board does not answer"); return; }
  const news = await told(answer);
  if (answer.status === 409) { changedMeanwhile(news); return; }
  if (!answer.ok) { toast(`Not uploaded: ${news.says}`); return; }
  it.elements.text.value = news.text;
  for (const one of it.querySelectorAll("[data-upload]")) one.value = "";
  judgeSoon();
}

async function tryIt(asked) {
  const place = document.querySelector("#panel-trial .trial-groups");
  const says = document.querySelector("#panel-trial .trial-says");
  if (!place) return;
  trying?.abort();
  trying = new AbortController();
  place.replaceChildren();
  says.textContent = "beginning";
  place.closest(".panel").scrollIntoView({ block: "start", behavior: "smooth" });
  try {
    const answer = await post("/collectors/try", asked, trying.signal);
    if (!answer.ok) {
      const news = await told(answer);
      if (answer.status === 409) changedMeanwhile(news);
      says.textContent = news.says;
      return;
    }
    await follow(answer.body.pipeThrough(new TextDecoderStream()).getReader(), place, says);
  } catch (error) {
    if (error.name !== "AbortError") says.textContent = "the board does not answer";
  }
}

async function follow(reader, place, says) {
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const one of lines) {
      const news = JSON.parse(one);
      if (news.kind === "group") place.insertAdjacentHTML("beforeend", news.html);
      else if (news.says) says.textContent = news.says;
      if (news.kind === "end") says.dataset.broken = news.broken ? "yes" : "no";
    }
  }
}

if (document.getElementById("panel-standing") && sessionStorage.getItem(CHANGED)) {
  sessionStorage.removeItem(CHANGED);
  lookAgain();
}

document.addEventListener("click", (click) => {
  const at = click.target;
  const asked = at.closest("[data-change]");
  if (asked) review(JSON.parse(asked.dataset.change), asked.closest("[data-base]").dataset.base, asked.dataset.about, "atOnce" in asked.dataset);
  if (at.closest("[data-change-cancel]")) dialog().close();
  if (at.closest("[data-change-apply]")) apply();
  if (at.closest("[data-upload-all]") && form()) upload();
  const named = at.closest("[data-try]");
  if (named) tryIt({ of: named.dataset.try });
  if (at.closest("[data-try-typed]") && form()) {
    const change = changeTyped();
    tryIt({ change, base: form().dataset.base, of: `${change.kind}.${change.name}` });
  }
  const place = at.closest("[data-line]");
  if (place) goToLine(Number(place.dataset.line));
});

let wantedText = "";

function find(box) {
  wantedText = box.value;
  const wanted = box.value.trim().toLowerCase();
  for (const one of box.closest(".configured").querySelectorAll(".instance")) one.hidden = !one.textContent.toLowerCase().includes(wanted);
}

document.addEventListener("input", (typed) => { if (typed.target.closest("[data-find]")) find(typed.target); });
document.addEventListener("input", (typed) => { if (typed.target.closest("form.editor")) judgeSoon(); });
document.addEventListener("scroll", (moved) => { if (moved.target.id === "instance-text") numbers(); }, true);
document.addEventListener("submit", (submit) => {
  const it = submit.target.closest("form.editor");
  if (!it) return;
  submit.preventDefault();
  review(changeTyped(), it.dataset.base, `${it.dataset.new === "yes" ? "Add" : "Change"} ${it.elements.name.value}`);
});
document.addEventListener("keydown", (key) => {
  if ((key.ctrlKey || key.metaKey) && key.key === "Enter" && key.target.closest("form.editor")) form().requestSubmit();
});
document.addEventListener("htmx:afterSwap", () => {
  if (form()) judgeSoon();
  const box = document.querySelector("[data-find]");
  if (box && box.value !== wantedText) {
    box.value = wantedText;
    find(box);
  }
});
addEventListener("beforeunload", (leaving) => {
  const it = form();
  if (it && it.elements.text.value !== it.elements.text.defaultValue && !it.dataset.left) leaving.preventDefault();
});
