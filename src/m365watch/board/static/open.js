// The code of a link stands behind #, which browsers send to nobody: it is taken out of the address, and posted.
const form = document.querySelector("[data-open]");

function open() {
  const code = location.hash.slice(1);
  if (!code) return;
  history.replaceState(null, "", location.pathname + location.search);
  form.elements.code.value = code;
  form.submit();
}

addEventListener("hashchange", open);
open();
