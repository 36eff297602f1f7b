// Keeps the page for use without a network. The export fills in the version and the list of files, so this script
// changes whenever one of them does, and browsers install it anew.

const VERSION = "";
const FILES = [];

const PREFIX = `lkdn ${registration.scope} `; // other pages of the same host have caches, too
const CACHE = PREFIX + VERSION;

// Hosts that send no such headers would leave the page with one thread. With them, it may share memory.
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

addEventListener("install", (event) => {
  event.waitUntil(keepAll());
});

addEventListener("activate", (event) => {
  event.waitUntil(removeOld().then(() => clients.claim()));
});

addEventListener("message", (event) => {
  if (event.data === "take over") skipWaiting();
});

addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && request.url.startsWith(registration.scope)) event.respondWith(answer(request));
});

/** Store every file; if one is missing, the version before stays in use. */
async function keepAll() {
  const cache = await caches.open(CACHE);
  await cache.addAll(FILES.map((name) => new Request(name, { cache: "no-cache" })));
}

/** Remove caches of older versions but the one before, of which a page may still be open. */
async function removeOld() {
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(old.slice(0, -1).map((name) => caches.delete(name)));
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  const options = { ignoreSearch: request.mode === "navigate" };
  const kept = (await cache.match(request, options)) ?? (await inOlder(request));
  return isolated(kept ?? (await fetch(request)));
}

async function inOlder(request) {
  for (const name of await caches.keys())
    if (name.startsWith(PREFIX)) {
      const found = await (await caches.open(name)).match(request);
      if (found) return found;
    }
  return undefined;
}

function isolated(response) {
  if (response.type === "opaque" || response.type === "opaqueredirect" || response.status === 0) return response;
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(ISOLATION)) headers.set(name, value);
  const { status, statusText } = response;
  const empty = status === 204 || status === 205 || status === 304;
  return new Response(empty ? null : response.body, { status, statusText, headers });
}
