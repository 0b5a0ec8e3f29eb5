// The form that narrows a page offers the values that its records have.
import { combobox } from "./combobox.js";

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
