// Installs the service worker, and lets a newer version take over when that disturbs nobody.

/**
 * Register the service worker.
 *
 * @param {() => boolean} isIdle whether the page may be reloaded without a question
 * @param {(reload: () => void) => void} offer called when it may not: shows that there is a newer version
 */
export async function keepForOffline(isIdle, offer) {
  const container = navigator.serviceWorker;
  if (container === undefined) return; // a page that is not from https or this machine
  let wanted = false;
  container.addEventListener("controllerchange", () => {
    if (wanted) location.reload();
  });
  const takeOver = (worker) => {
    wanted = true;
    worker.postMessage("take over");
  };
  const meet = (worker) => {
    if (isIdle()) takeOver(worker);
    else offer(() => takeOver(worker));
  };
  let registration;
  try {
    registration = await container.register("./service-worker.js", { updateViaCache: "none" });
  } catch {
    return; // private windows, or storage that is full: the page works without
  }
  if (registration.waiting !== null && container.controller !== null) meet(registration.waiting);
  registration.addEventListener("updatefound", () => {
    const worker = registration.installing;
    worker.addEventListener("statechange", () => {
      if (worker.state === "installed" && container.controller !== null) meet(worker);
    });
  });
  // Installed pages may be open for days.
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") registration.update().catch(() => {});
  });
}
