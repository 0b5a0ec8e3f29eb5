// The theme that was chosen, before anything is painted: dark, light, or whatever the system has.
"use strict";
(() => {
  const KEY = "m365watch-theme";
  const order = ["system", "dark", "light"];
  let kept = "system";
  try { kept = localStorage.getItem(KEY) || "system"; } catch { /* storage may be forbidden */ }
  const put = (theme) => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  };
  put(kept);
  window.nextTheme = () => {
    kept = order[(order.indexOf(kept) + 1) % order.length];
    try { localStorage.setItem(KEY, kept); } catch { /* then it lasts as long as the page */ }
    put(kept);
    document.dispatchEvent(new CustomEvent("theme"));
    return kept;
  };
})();
