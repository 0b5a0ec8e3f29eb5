// A panel that is loaded anew while somebody reads it stays as they left it: its order, its place, and the keyboard's.
import { sort } from "./tables.js";

const SCROLLED = ".scroll, .queue";
const FOCUSED = "a[href], button, input, select, summary, [tabindex]";
let left = null;

const every = (body, selector) => [...body.querySelectorAll(selector)];
const told = (one) => [one.tagName, one.getAttribute("href"), one.name, one.textContent.trim()].join(" ");

function leave(body) {
  const focused = body.contains(document.activeElement) ? document.activeElement : null;
  return {
    body,
    orders: every(body, "table").map((table) => {
      const heading = table.querySelector("th[aria-sort]");
      return heading && { place: heading.cellIndex, direction: heading.ariaSort };
    }),
    places: every(body, SCROLLED).map((one) => [one.scrollLeft, one.scrollTop]),
    open: every(body, "details").map((one) => one.open),
    focused: focused && { words: told(focused), place: every(body, FOCUSED).indexOf(focused) },
  };
}

function comeBack({ body, orders, places, open, focused }) {
  every(body, "table").forEach((table, number) => {
    const order = orders[number];
    const heading = order && table.tHead?.rows[0].cells[order.place];
    if (heading?.querySelector("[data-sort]")) sort(heading, order.direction);
  });
  every(body, "details").forEach((one, number) => { one.open ||= open[number] ?? false; });
  if (focused) {
    const found = every(body, FOCUSED);
    (found.find((one) => told(one) === focused.words) ?? found[focused.place])?.focus({ preventScroll: true });
  }
  every(body, SCROLLED).forEach((one, number) => { if (places[number]) [one.scrollLeft, one.scrollTop] = places[number]; });
}

// Whether somebody is at something in the panel that a new one would take out of their hands: a marked text, a drag.
export function isInHand(body) {
  const marked = getSelection();
  return Boolean(body.querySelector(":active")) || (!marked.isCollapsed && body.contains(marked.anchorNode));
}

const isAgain = (swap) => swap.detail.requestConfig?.triggeringEvent?.type === "again";
document.addEventListener("htmx:beforeSwap", (swap) => { left = isAgain(swap) ? leave(swap.detail.target) : null; });
document.addEventListener("htmx:afterSwap", (swap) => {
  if (left?.body === swap.detail.target) comeBack(left);
  left = null;
});
