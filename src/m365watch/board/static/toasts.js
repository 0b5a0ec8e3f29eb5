// Short news in the corner; the page's live region reads them out.
export function toast(text, address) {
  const box = document.getElementById("toasts");
  const one = document.createElement(address ? "a" : "p");
  one.className = "toast";
  one.textContent = text;
  if (address) one.href = address;
  box.append(one);
  setTimeout(() => one.remove(), 8000);
}
