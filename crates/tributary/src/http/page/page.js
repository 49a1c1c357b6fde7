// Fetches the page anew and replaces what it shows. Nothing is built from text here, so nothing can be injected here.
const pause = 2000;
async function refresh() {
  try {
    // A selection would be lost.
    if (document.hidden || !getSelection().isCollapsed) return;
    const reply = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(5 * pause) });
    if (!reply.ok) throw new Error(reply.status);
    const next = new DOMParser().parseFromString(await reply.text(), "text/html");
    document.title = next.title;
    document.querySelector("main").replaceWith(document.adoptNode(next.querySelector("main")));
    document.body.classList.remove("silent");
  } catch {
    document.body.classList.add("silent");
  } finally {
    setTimeout(refresh, pause);
  }
}
setTimeout(refresh, pause);
