// A text field with completions: arrows choose, Enter or Tab takes, Esc closes; what is typed stays what it is.
const WAIT_MS = 120;

export function combobox(input, list, { ask, take, opens = true }) {
  let choices = null;
  let active = -1;
  let asking = null;
  let waits = 0;

  function close() {
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function mark(next) {
    const options = [...list.children];
    active = next;
    options.forEach((one, at) => one.setAttribute("aria-selected", String(at === active)));
    if (active < 0) input.removeAttribute("aria-activedescendant");
    else {
      input.setAttribute("aria-activedescendant", options[active].id);
      options[active].scrollIntoView({ block: "nearest" });
    }
  }

  function show(found) {
    choices = found;
    list.replaceChildren(...found.choices.map((one, at) => {
      const option = document.createElement("li");
      option.role = "option";
      option.id = `${list.id}-${at}`;
      option.setAttribute("aria-selected", "false");
      const text = document.createElement("b");
      text.textContent = one.shown ?? one.text;
      const says = document.createElement("span");
      says.textContent = one.says;
      option.append(text, says);
      return option;
    }));
    if (!found.choices.length) close();
    else {
      list.hidden = false;
      input.setAttribute("aria-expanded", "true");
      mark(-1);
    }
  }

  async function look() {
    asking?.abort();
    const mine = asking = new AbortController();
    try {
      const found = await ask(mine.signal);
      if (mine === asking && document.activeElement === input) show(found);
    } catch { /* another question came, or the board is gone */ }
  }

  function lookSoon() {
    clearTimeout(waits);
    waits = setTimeout(look, WAIT_MS);
  }

  function choose(at) {
    const choice = choices.choices[at];
    close();
    if (take(choice, choices)) lookSoon();
  }

  const keys = {
    ArrowDown: () => { if (list.hidden) look(); else mark((active + 1) % list.children.length); },
    ArrowUp: () => { if (!list.hidden) mark((active <= 0 ? list.children.length : active) - 1); },
    Escape: () => { if (list.hidden) return false; close(); },
    Enter: () => { if (list.hidden || active < 0) return false; choose(active); },
    Tab: () => { if (list.hidden || active < 0) return false; choose(active); },
  };
  input.addEventListener("keydown", (key) => {
    if (key.altKey || key.ctrlKey || key.metaKey || key.isComposing || !keys[key.key]) return;
    if (keys[key.key]() !== false) {
      key.preventDefault();
      key.stopPropagation();
    }
  });
  input.addEventListener("input", () => { input.removeAttribute("aria-invalid"); lookSoon(); });
  if (opens) input.addEventListener("click", lookSoon);
  input.addEventListener("blur", () => { clearTimeout(waits); asking?.abort(); close(); });
  // Before the field loses the focus.
  list.addEventListener("pointerdown", (pointer) => {
    const option = pointer.target.closest("[role=option]");
    if (!option) return;
    pointer.preventDefault();
    choose([...list.children].indexOf(option));
  });
  return { close };
}
