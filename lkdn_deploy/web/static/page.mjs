// The page: takes pictures, keeps the list, shows the comparison. The work itself is in work.mjs.

import { Entry } from "./entries.mjs";
import { Networks, title } from "./network.mjs";
import { keepForOffline } from "./offline.mjs";
import { Viewer } from "./viewer.mjs";
import { resultName, size, unusedName } from "./words.mjs";
import { encoded, enlarge, noteFormat, pack, prepare } from "./work.mjs";

const byId = (id) => document.getElementById(id);

const networks = new Networks();
const viewer = new Viewer({
  stage: byId("stage"),
  view: byId("view"),
  handle: byId("handle"),
  divider: byId("divider"),
  level: byId("zoom-level"),
  tagBefore: byId("tag-before"),
  tagAfter: byId("tag-after"),
});

let models = [];
let entries = [];
let selected = null;
let preparing = Promise.resolve();
let working = false;
let usable = true;
const names = new Set(); // of saved files

// Settings

const format = () => document.querySelector('input[name="format"]:checked').value;

/** The model that new work would use; null before they are known. */
function model() {
  const scale = Number(document.querySelector('input[name="scale"]:checked')?.value);
  const network = byId("model").value;
  return models.find((it) => it.model === network && it.scale === scale) ?? null;
}

function remember() {
  try {
    localStorage.setItem("settings", JSON.stringify({ model: model()?.name, format: format() }));
  } catch {
    // Storage may be switched off; then the page begins with its defaults.
  }
}

function remembered() {
  try {
    return JSON.parse(localStorage.getItem("settings")) ?? {};
  } catch {
    return {};
  }
}

async function showModels() {
  models = await networks.list();
  const before = remembered();
  const first = models.find((it) => it.name === before.model) ?? models.find((it) => it.default) ?? models[0];
  const options = [...new Set(models.map((it) => it.model))].map((name) => new Option(title(name), name));
  byId("model").replaceChildren(...options);
  byId("model").value = first.model;
  byId("model-field").hidden = options.length < 2;
  showScales(first.scale);
  const chosen = document.querySelector(`input[name="format"][value="${CSS.escape(before.format ?? "png")}"]`);
  if (chosen !== null) chosen.checked = true;
}

/** Show the scales of the network that is chosen; `wanted` is checked if it has it. */
function showScales(wanted) {
  const scales = models.filter((it) => it.model === byId("model").value).map((it) => it.scale);
  const checked = scales.includes(wanted) ? wanted : Math.max(...scales);
  const labels = scales.sort((a, b) => a - b).map((scale) => {
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "scale", value: scale });
    input.checked = scale === checked;
    const text = Object.assign(document.createElement("span"), { textContent: `×${scale}` });
    const label = document.createElement("label");
    label.append(input, text);
    return label;
  });
  byId("scales").replaceChildren(...labels);
}

async function settingsChanged(event) {
  if (event.target === byId("model")) showScales(model()?.scale ?? null);
  remember();
  for (const entry of entries) if (entry.state === "waiting" || entry.state === "done") await note(entry);
  renderAll();
}

async function note(entry) {
  const chosen = entry.state === "done" ? entry.model : model();
  if (chosen !== null && entry.packed === null) await noteFormat(entry, format(), chosen);
}

// The list

const announce = (text) => (byId("live").textContent = text);

function showBanner(text) {
  byId("banner").textContent = text;
  byId("banner").hidden = text === "";
}

const render = (entry) => entry.render({ model: model(), selected: entry === selected });

function renderAll() {
  entries.forEach(render);
  byId("work").hidden = entries.length === 0;
  document.body.classList.toggle("busy", entries.length > 0);
  byId("save-all").hidden = entries.filter((it) => it.state === "done").length < 2;
  byId("clear").textContent = entries.some((it) => it.open) ? "Stop and clear" : "Clear list";
  showFacts();
}

function take(files) {
  if (!usable) return;
  showBanner("");
  const added = [...files].map((file) => new Entry(file, { pick: select, save, again, cancel, remove }));
  entries.push(...added);
  byId("list").append(...added.map((it) => it.element));
  renderAll();
  if (added.length > 1) announce(`${added.length} pictures were added.`);
  for (const entry of added)
    preparing = preparing.then(async () => {
      if (!entries.includes(entry)) return;
      await prepare(entry);
      if (entry.state === "waiting") await note(entry);
      if (!entries.includes(entry)) return;
      if (entry.state === "failed") announce(`${entry.name}: ${entry.error}`);
      renderAll();
      if (selected === null && entry.size !== null) await select(entry);
      work();
    });
}

/** Compute what waits, one picture at a time. */
async function work() {
  if (working || !usable) return;
  working = true;
  try {
    for (let entry = next(); entry !== undefined; entry = next()) await workOn(entry);
  } finally {
    working = false;
  }
}

const next = () => (model() === null ? undefined : entries.find((it) => it.state === "waiting"));

async function workOn(entry) {
  entry.abort = new AbortController();
  // Somebody who watches each result wants the one that is worked on; somebody who looks at another keeps it.
  const follows = selected === null || selected.state !== "done" || !byId("compare").contains(document.activeElement);
  if (follows) await select(entry);
  announce(`${entry.name}: the work has begun.`);
  await enlarge(entry, model(), (name) => networks.get(name), () => changed(entry));
  if (!entries.includes(entry)) return;
  if (entry.state === "done") {
    await note(entry);
    showEngine(entry);
    const { width, height } = entry.result;
    announce(`${entry.name} is finished: ${size(width, height)} pixels. It can be saved.`);
    await pack(entries, format(), () => changed(entry));
  } else announce(`${entry.name}: ${entry.state === "failed" ? entry.error : "cancelled."}`);
  renderAll();
  if (entry === selected) await showSelected();
}

const due = new Set(); // entries that have changed since the last frame

/** Show what has changed, at most once per frame. */
function changed(entry) {
  if (entry === selected && entry.result !== null) showResult();
  if (due.size === 0)
    requestAnimationFrame(() => {
      const all = [...due];
      due.clear();
      if (all.some((it) => it.element.dataset.state !== it.state)) renderAll();
      else all.forEach(render);
      showFacts();
    });
  due.add(entry);
}

function cancel(entry) {
  if (entry.abort !== null) entry.abort.abort();
  else {
    entry.state = "cancelled";
    renderAll();
  }
}

function again(entry) {
  Object.assign(entry, { state: "waiting", model: null, error: "", fraction: 0 });
  renderAll();
  note(entry).then(renderAll);
  work();
}

function remove(entry) {
  const index = entries.indexOf(entry);
  entry.abort?.abort();
  entry.element.remove();
  entries.splice(index, 1);
  if (entry === selected) {
    const other = entries.slice(index).concat(entries.slice(0, index)).find((it) => it.size !== null);
    select(other ?? null);
  }
  renderAll();
  const near = entries[Math.min(index, entries.length - 1)];
  (near?.parts.pick.disabled ? near.parts.remove : (near?.parts.pick ?? byId("choose"))).focus();
  announce(`${entry.name} was removed.`);
}

function clear() {
  const all = entries;
  entries = [];
  for (const entry of all) {
    entry.abort?.abort();
    entry.element.remove();
  }
  select(null);
  renderAll();
  byId("choose").focus();
}

// Saving

async function save(entry) {
  try {
    const { blob, reason } = await encoded(entry, format(), () => changed(entry));
    const name = unusedName(resultName(entry.name, entry.model.scale, blob.type), names);
    names.add(name);
    download(blob, name);
    entry.savedBytes = blob.size;
    announce(`${name} was saved. ${reason}`);
  } catch (error) {
    showBanner(`${entry.name} could not be saved: ${error.message}`);
  }
  renderAll();
}

function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // browsers read it after the click
}

async function saveAll() {
  for (const entry of [...entries]) if (entry.state === "done" && entry.saving === null) await save(entry);
}

// The comparison

async function select(entry) {
  selected = entry;
  byId("compare").hidden = entry === null;
  byId("work").classList.toggle("comparing", entry !== null);
  renderAll();
  if (entry === null) viewer.clear();
  else await showSelected();
}

let shown = null; // { entry, bitmap }

async function showSelected() {
  const entry = selected;
  if (entry === null || entry.size === null) return;
  byId("compare-title").textContent = entry.name;
  byId("view").setAttribute("aria-label", `${entry.name}, before and after`);
  if (shown?.entry !== entry) {
    let bitmap;
    try {
      bitmap = await createImageBitmap(entry.file);
    } catch {
      return; // the file was there a moment ago; the entry will say so when it is worked on
    }
    if (entry !== selected) return bitmap.close();
    shown = { entry, bitmap };
  }
  showResult();
  showFacts();
}

function showResult() {
  if (shown === null || shown.entry !== selected) return;
  const { result, model: used, state } = selected;
  const scale = (used ?? model())?.scale ?? 1;
  viewer.show(shown.bitmap, state === "done" || state === "working" ? result : null, selected.sizeAt(scale));
  byId("divider").disabled = result === null;
}

function showFacts() {
  const done = selected?.state === "done";
  byId("compare-facts").textContent = done ? selected.account : (selected?.parts.state.textContent ?? "");
  byId("save-shown").hidden = !done;
  byId("save-shown").disabled = selected?.saving !== null;
  byId("save-shown").setAttribute("aria-label", `Save ${selected?.name}`);
}

function showEngine({ model: used, threads }) {
  const one = crossOriginIsolated ? "" : "; several would need a second visit, or a host that isolates the page";
  byId("engine-facts").textContent = `${title(used.model)} ×${used.scale} on ${threads === 1 ? `one thread${one}` : `${threads} threads`}.`;
}

// Beginning

function listenForPictures() {
  byId("choose").addEventListener("click", () => byId("files").click());
  byId("files").addEventListener("change", ({ target }) => {
    take(target.files);
    target.value = ""; // so that the same file can be chosen again
  });
  let depth = 0; // dragenter and dragleave come for every element inside
  const veil = (change) => {
    depth = Math.max(depth + change, 0);
    byId("veil").hidden = depth === 0;
  };
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => holdsFiles(event) && veil(1));
  document.addEventListener("dragleave", (event) => holdsFiles(event) && veil(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    veil(0);
    if (event.dataTransfer.files.length > 0) take(event.dataTransfer.files);
    else showBanner("There is no file in what was dropped. Save the picture first, or copy and paste it.");
  });
  document.addEventListener("paste", (event) => {
    const files = event.clipboardData?.files ?? [];
    if (files.length > 0) take(files);
  });
  // Of an installed page: files that the system opens with it.
  globalThis.launchQueue?.setConsumer(async ({ files }) => take(await Promise.all(files.map((it) => it.getFile()))));
}

function listenForButtons() {
  byId("settings").addEventListener("change", settingsChanged);
  byId("settings").addEventListener("submit", (event) => event.preventDefault());
  byId("save-all").addEventListener("click", saveAll);
  byId("save-shown").addEventListener("click", () => save(selected));
  byId("clear").addEventListener("click", clear);
  byId("zoom-in").addEventListener("click", () => viewer.zoomBy(1.5));
  byId("zoom-out").addEventListener("click", () => viewer.zoomBy(1 / 1.5));
  byId("zoom-fit").addEventListener("click", () => viewer.fit());
  byId("zoom-full").addEventListener("click", () => viewer.full());
  addEventListener("beforeunload", (event) => {
    if (entries.some((it) => it.open || (it.state === "done" && it.savedBytes === 0))) event.preventDefault();
  });
}

async function start() {
  try {
    await showModels();
    // Loading it now tells whether this browser can run it, and the first picture need not wait.
    const upscale = await networks.get(model().name);
    showEngine({ model: model(), threads: upscale.threads });
  } catch (error) {
    usable = error?.code !== "unsupported" && models.length > 0;
    byId("choose").disabled = !usable;
    byId("engine-facts").textContent = "";
    showBanner(models.length > 0 ? error.message : `The network could not be loaded (${error.message}). Reload the page to try again.`);
  }
  renderAll();
  work();
}

document.documentElement.dataset.started = ""; // too-old.js has nothing to say
listenForPictures();
listenForButtons();
keepForOffline(
  () => entries.length === 0,
  (reload) => {
    byId("update").hidden = false;
    byId("reload").addEventListener("click", reload, { once: true });
  },
);
start();
