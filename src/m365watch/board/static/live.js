// What is new while a page is open: a line in the heading, a toast for new alerts, live panels loaded anew.
import { isInHand } from "./keeping.js";
import { toast } from "./toasts.js";
import { renew } from "./token.js";

const RELOAD_MS = 30000;
const CLOSED_MS = 3000;
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
  for (const body of document.querySelectorAll("[data-live] .panel-body")) if (!isInHand(body)) htmx.trigger(body, "again");
}

function reloadSoon() {
  if (waits) return;
  waits = true;
  setTimeout(() => { if (document.hidden) waits = false; else reload(); }, Math.max(0, RELOAD_MS - (Date.now() - loaded)));
}

function told(news) {
  const known = first;
  place.title = news.again_s ? "Many pages listen: this one asks each minute. Close some that nobody looks at." : "";
  first ??= news;
  if (news.unread) say("trouble", `the ${news.unread} cannot be read: see Health`);
  else if (!news.feeds) say("off", "no collector has run yet");
  else if (news.gone) say("trouble", "the lake is gone: see Health");
  else if (news.stopped) say("trouble", news.stopped);
  else if (news.troubled) say("trouble", `${news.troubled} of ${news.feeds} feeds in trouble`);
  else say("ok", [news.again_s ? "asks each minute" : "live",
    ...known && news.records > first.records ? [`${(news.records - first.records).toLocaleString("en")} new records`] : []].join(", "));
  if (known && news.new) toast(`New alert: ${news.new.title}`, `/alert?alert=${news.new.id}`);
  else if (known && !news.unread && news.alerts > told.alerts) toast("New alerts wait", "/alerts");
  if (known && (news.records !== told.records || news.alerts !== told.alerts)) reloadSoon();
  // Rare, and waited for by whoever has changed it: not as late as records are.
  if (known && news.configuration !== told.configuration) reload();
  told.configuration = news.configuration;
  told.records = news.records;
  if (!news.unread) told.alerts = news.alerts;
}

// What a page asks by itself keeps nobody signed in.
document.addEventListener("htmx:configRequest", (asked) => {
  if (asked.detail.triggeringEvent?.type === "again") asked.detail.headers["X-By-Itself"] = "1";
});

let lost = false;
// In seconds: after how long this page is to ask again, as the board has no room for one that listens; 0: it has.
let again = 0;

function back() {
  renew();
  dispatchEvent(new Event("board:back"));
}

function heard({ open, closed, news }) {
  if (open) { if (lost) back(); lost = false; }
  else if (news) { again = news.again_s; told(news); }
  else if (again && !closed) again = 0; // it has said all for now
  else { lost = true; say("lost", closed ? "not connected; trying again, or load the page again" : "not connected; trying again"); }
}

// Until what is returned is called, `tell` hears of the connection and what comes by it.
function connect(url, tell) {
  let source = null;
  let waiting = 0;
  const open = () => {
    source = new EventSource(url);
    source.onopen = () => tell({ open: true });
    source.onmessage = (sent) => tell({ news: JSON.parse(sent.data) });
    // After an answer such as a proxy's 502 while the board is begun anew, a browser does not ask again by itself.
    source.onerror = () => {
      const closed = source.readyState === EventSource.CLOSED;
      tell({ closed });
      if (closed) waiting = setTimeout(open, CLOSED_MS);
    };
  };
  open();
  return () => { clearTimeout(waiting); source.close(); };
}

// One connection for all open pages, of whichever holds the lock: a browser has six to a host, and the seventh page with one of its own would wait for ever.
function share(url) {
  const pages = new BroadcastChannel(url);
  const leaving = new AbortController();
  let last = null;
  pages.onmessage = ({ data }) => { if (data.asks) { if (last) pages.postMessage(last); } else heard(data); };
  pages.postMessage({ asks: true });
  navigator.locks.request(url, { signal: leaving.signal }, () => new Promise((leave) => {
    const end = connect(url, (what) => { last = what; heard(what); pages.postMessage(what); });
    leaving.signal.addEventListener("abort", () => { end(); leave(); });
  })).catch(() => {});
  return () => { leaving.abort(); pages.close(); };
}

if (place) {
  const listen = () => {
    const end = navigator.locks ? share(place.dataset.liveUrl) : connect(place.dataset.liveUrl, heard);
    addEventListener("pagehide", end, { once: true });
  };
  listen();
  addEventListener("pageshow", (shown) => { if (shown.persisted) listen(); });
}
