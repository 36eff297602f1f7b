// An entry of the list: its state, and how it is shown.

import { amount, bytes, duration, measured, megapixels, size } from "./words.mjs";

const TEMPLATE = document.querySelector("#entry");

/** States: reading, waiting, working, done, failed, cancelled. */
export class Entry {
  state = "reading";
  facts = null; // of the file, by headers.mjs
  size = null; // of the picture, upright
  notes = []; // about the file
  formatNote = ""; // about the format of the result
  fraction = 0;
  secondsLeft = null;
  error = "";
  model = null; // that computed the result
  result = null;
  packed = null; // { blob, type }: the encoded result, where its pixels were given up
  seconds = 0; // that the result took
  threads = 1;
  saving = null; // the fraction that is encoded
  savedBytes = 0; // of the file, once it is saved
  abort = null; // an AbortController while it is worked on

  constructor(file, acts) {
    this.file = file;
    this.name = file.name || "picture";
    this.element = TEMPLATE.content.firstElementChild.cloneNode(true);
    this.parts = {};
    for (const name of ["pick", "thumb", "name", "size", "state", "notes", "save", "again", "cancel", "remove"])
      this.parts[name] = this.element.querySelector(`.${name}`);
    this.parts.progress = this.element.querySelector("progress");
    for (const [name, act] of Object.entries(acts)) this.parts[name].addEventListener("click", () => act(this));
    this.parts.name.textContent = this.name;
    this.parts.name.title = this.name;
    this.parts.progress.setAttribute("aria-label", `Progress of ${this.name}`);
  }

  /** Whether it is neither finished nor given up. */
  get open() {
    return ["reading", "waiting", "working"].includes(this.state);
  }

  /** The size of its result under a scale. */
  sizeAt(scale) {
    return { width: this.size.width * scale, height: this.size.height * scale };
  }

  /** Draw its picture, small, from a bitmap. */
  draw(bitmap) {
    const { thumb } = this.parts;
    const scale = Math.max(thumb.width / bitmap.width, thumb.height / bitmap.height);
    const [width, height] = [bitmap.width * scale, bitmap.height * scale];
    const context = thumb.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, (thumb.width - width) / 2, (thumb.height - height) / 2, width, height);
  }

  /** Facts of the finished work in words. */
  get account() {
    const { width, height } = this.sizeAt(this.model.scale);
    const large = megapixels(width, height);
    const threads = this.threads === 1 ? "one thread" : `${this.threads} threads`;
    return `${amount(large)} megapixels in ${measured(this.seconds)} (${amount(large / this.seconds)} per second, ${threads})`;
  }

  /**
   * Show its state.
   *
   * @param {object} chosen `model`: that new work would use; `selected`: whether the entry is compared now
   */
  render({ model, selected }) {
    const { parts, state, element } = this;
    element.dataset.state = state;
    element.classList.toggle("chosen", selected);
    parts.pick.setAttribute("aria-pressed", String(selected));
    parts.pick.disabled = this.size === null;
    const scale = (this.model ?? model)?.scale;
    if (this.size !== null && scale) {
      const large = this.sizeAt(scale);
      parts.size.textContent = `${size(this.size.width, this.size.height)} → ${size(large.width, large.height)}`;
    }
    parts.state.textContent = this.#stateText();
    parts.progress.hidden = state !== "working" && this.saving === null;
    if (this.saving === null && this.fraction === 0) parts.progress.removeAttribute("value");
    else parts.progress.value = this.saving ?? this.fraction;
    const notes = [...this.notes, this.formatNote].filter((it) => it !== "");
    parts.notes.hidden = notes.length === 0;
    if ([...parts.notes.children].map((it) => it.textContent).join() !== notes.join())
      parts.notes.replaceChildren(...notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
    const other = model && this.model && model.name !== this.model.name ? ` ×${model.scale}` : "";
    this.#button("save", state === "done", "Save", this.saving !== null);
    this.#button("again", ["failed", "cancelled"].includes(state) ? this.size !== null : state === "done" && other !== "", `Again${other}`);
    this.#button("cancel", ["waiting", "working"].includes(state), "Cancel");
    this.#button("remove", !["waiting", "working"].includes(state), "Remove");
  }

  #button(name, shown, label, disabled = false) {
    const button = this.parts[name];
    if (!shown && button === document.activeElement) this.parts.pick.focus(); // or the keyboard would lose its place
    button.hidden = !shown;
    button.disabled = disabled;
    button.textContent = label;
    button.setAttribute("aria-label", `${label} ${this.name}`);
  }

  #stateText() {
    if (this.saving !== null) return `Encoding, ${Math.floor(100 * this.saving)} %`;
    if (this.state === "working") {
      if (this.fraction === 0) return "Starting";
      const left = this.secondsLeft === null ? "" : `, ${duration(this.secondsLeft)} left`;
      return `${Math.floor(100 * this.fraction)} %${left}`;
    }
    if (this.state === "done") return measured(this.seconds) + (this.savedBytes > 0 ? `, saved: ${bytes(this.savedBytes)}` : "");
    return { reading: "Reading", waiting: "Waiting", cancelled: "Cancelled", failed: this.error }[this.state];
  }
}
