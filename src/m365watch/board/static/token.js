// What every change goes with: a token that no other page can read, and that is another one once the board was started again.
const meta = () => document.querySelector("meta[name=csrf-token]");

// The token of the board as it runs now; whether there is one.
export async function renew() {
  const answer = await fetch(location.href, { headers: { "X-By-Itself": "1" } }).catch(() => null);
  if (!answer?.ok) return false;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.querySelector("meta[name=csrf-token]")?.content;
  const headers = page.body.getAttribute("hx-headers");
  if (!fresh || !headers) return false;
  meta().content = fresh;
  document.body.setAttribute("hx-headers", headers);
  return true;
}

// A change, asked for once more with the new token where the old one was of a board before.
export async function send(path, body, signal) {
  const ask = () => fetch(path, {
    method: "POST",
    headers: { "X-CSRF-Token": meta().content, "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  const answer = await ask();
  const isOld = answer.status === 403 && (await answer.clone().text()).includes("too old");
  return isOld && await renew() ? ask() : answer;
}
