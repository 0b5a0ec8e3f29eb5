// The form that narrows a page offers the values that its records have.
import { combobox } from "./combobox.js";

// A time of one's own ends after it begins, and the browser says so.
const between = document.querySelector(".between");
between?.addEventListener("input", () => {
  const [start, end] = between.querySelectorAll('input[type="datetime-local"]');
  end.min = start.value;
});

const input = document.getElementById("value");
const dimension = document.getElementById("dimension");
if (input && dimension) {
  combobox(input, document.getElementById("value-choices"), {
    ask: async (signal) => {
      const url = new URL(input.dataset.complete, location.href);
      url.searchParams.set("dimension", dimension.value);
      url.searchParams.set("typed", input.value);
      return (await fetch(url, { signal })).json();
    },
    take: (choice) => {
      input.value = choice.text;
      return false;
    },
  });
  dimension.addEventListener("change", () => { input.value = ""; input.focus(); });
}
