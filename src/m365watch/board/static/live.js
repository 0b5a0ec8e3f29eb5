// What is new while a page is open: a line in the heading, a toast for new alerts, live panels loaded anew.
import { toast } from "./toasts.js";
import { renew } from "./token.js";

const RELOAD_MS = 30000;
const place = document.getElementById("live");
let first = null;
let loaded = Date.now();
let waits = false;

function say(state, words) {
  place.dataset.state = state;
  place.querySelector(".live-words").textContent = words;
}

function reload() {
  waits = false;
  loaded = Date.now();
  for (const body of document.querySelectorAll("[data-live] .panel-body")) htmx.trigger(body, "again");
}

function reloadSoon() {
  if (waits) return;
  waits = true;
  setTimeout(() => { if (document.hidden) waits = false; else reload(); }, Math.max(0, RELOAD_MS - (Date.now() - loaded)));
}

function told(news) {
  const known = first;
  first ??= news;
  if (news.unread) say("trouble", `the ${news.unread} cannot be read: see Health`);
  else if (!news.feeds) say("off", "no collector has run yet");
  else if (news.gone) say("trouble", "the lake is gone: see Health");
  else if (news.stopped) say("trouble", news.stopped);
  else if (news.troubled) say("trouble", `${news.troubled} of ${news.feeds} feeds in trouble`);
  else say("ok", known && news.records > first.records
    ? `live, ${(news.records - first.records).toLocaleString("en")} new records` : "live");
  if (known && news.alerts > told.alerts) toast(`New alert: ${news.newest}`, "/alerts");
  if (known && (news.records !== told.records || news.alerts !== told.alerts)) reloadSoon();
  told.records = news.records;
  told.alerts = news.alerts;
}

// What a page asks by itself keeps nobody signed in.
document.addEventListener("htmx:configRequest", (asked) => {
  if (asked.detail.triggeringEvent?.type === "again") asked.detail.headers["X-By-Itself"] = "1";
});

if (place) {
  const source = new EventSource(place.dataset.liveUrl);
  let lost = false;
  source.onopen = () => { if (lost) renew(); lost = false; };
  source.onmessage = (sent) => told(JSON.parse(sent.data));
  source.onerror = () => { lost = true; say("lost", source.readyState === EventSource.CLOSED ? "not connected: load the page again" : "not connected; trying again"); };
  addEventListener("pagehide", () => source.close());
}
