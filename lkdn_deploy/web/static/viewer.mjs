// The picture before and after, side by side along a line, with zoom and pan.

import { Pieces, fillSquares } from "./pieces.mjs";

const MOST_ZOOM = 16; // device pixels of one pixel of the result
const GRIP = 24; // CSS pixels beside the line where it is taken
const STEP = 48; // CSS pixels that an arrow key moves

/** A comparison in `elements`: stage, view (a canvas), handle, divider (a range input), level (an output), tags. */
export class Viewer {
  #elements;
  #context;
  #pieces;
  #before = null; // an ImageBitmap
  #after = null; // a Result
  #size = null; // of the result
  #zoom = 1; // CSS pixels of one pixel of the result
  #centre = { x: 0, y: 0 }; // in pixels of the result
  #fitted = true;
  #asked = false;
  #pointers = new Map();
  #grabbed = "";

  constructor(elements) {
    this.#elements = elements;
    this.#context = elements.view.getContext("2d", { colorSpace: "display-p3" });
    this.#pieces = new Pieces(() => this.#ask());
    const { stage, divider } = elements;
    new ResizeObserver(() => this.#resized()).observe(stage);
    divider.addEventListener("input", () => this.#ask());
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => this.#up(event));
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    stage.addEventListener("dblclick", (event) => this.#toggle(event));
    stage.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show a picture: its bitmap, which is closed with the next one, its result or null, and the result's size. */
  show(before, after, size) {
    if (this.#before !== before) this.#before?.close();
    const same = this.#size !== null && this.#size.width === size.width && this.#size.height === size.height;
    const keeps = same && this.#before === before;
    this.#before = before;
    this.#after = after;
    this.#size = size;
    this.#pieces.of(after);
    if (keeps) this.#ask();
    else this.fit();
  }

  /** Show nothing. */
  clear() {
    this.#before?.close();
    this.#before = this.#after = this.#size = null;
    this.#pieces.of(null);
  }

  /** Draw again, as when the result has grown. */
  refresh() {
    this.#ask();
  }

  fit() {
    this.#fitted = true;
    if (this.#size === null) return;
    this.#centre = { x: this.#size.width / 2, y: this.#size.height / 2 };
    this.#zoom = this.#fitting();
    this.#ask();
  }

  full() {
    this.#zoomTo(1 / devicePixelRatio, this.#middle());
  }

  zoomBy(factor) {
    this.#zoomTo(this.#zoom * factor, this.#middle());
  }

  #fitting() {
    const { clientWidth, clientHeight } = this.#elements.stage;
    return Math.min(clientWidth / this.#size.width, clientHeight / this.#size.height, 2);
  }

  #middle() {
    const { clientWidth, clientHeight } = this.#elements.stage;
    return { x: clientWidth / 2, y: clientHeight / 2 };
  }

  /** Zoom so that the pixel below `at` (CSS pixels of the stage) stays there. */
  #zoomTo(zoom, at) {
    if (this.#size === null) return;
    const least = Math.min(this.#fitting(), 1 / devicePixelRatio);
    const next = Math.min(Math.max(zoom, least), MOST_ZOOM / devicePixelRatio);
    const middle = this.#middle();
    const [dx, dy] = [at.x - middle.x, at.y - middle.y];
    this.#centre.x += dx / this.#zoom - dx / next;
    this.#centre.y += dy / this.#zoom - dy / next;
    this.#zoom = next;
    this.#fitted = Math.abs(next / this.#fitting() - 1) < 1e-3;
    this.#settle();
  }

  #moveBy(dx, dy) {
    this.#centre.x -= dx / this.#zoom;
    this.#centre.y -= dy / this.#zoom;
    this.#settle();
  }

  /** Keep the picture on the stage: centred where it is smaller, without a gap where it is larger. */
  #settle() {
    const { stage } = this.#elements;
    const within = (centre, side, room) => {
      const half = room / 2 / this.#zoom;
      return side <= 2 * half ? side / 2 : Math.min(Math.max(centre, half), side - half);
    };
    this.#centre.x = within(this.#centre.x, this.#size.width, stage.clientWidth);
    this.#centre.y = within(this.#centre.y, this.#size.height, stage.clientHeight);
    this.#ask();
  }

  #resized() {
    if (this.#size === null) return;
    if (this.#fitted) this.fit();
    else this.#settle();
  }

  #ask() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      if (this.#size !== null) this.#draw();
    });
  }

  #draw() {
    const { stage, view, handle, divider, level, tagBefore, tagAfter } = this.#elements;
    const ratio = devicePixelRatio;
    const [width, height] = [Math.round(stage.clientWidth * ratio), Math.round(stage.clientHeight * ratio)];
    if (view.width !== width || view.height !== height) Object.assign(view, { width, height });
    const context = this.#context;
    const zoom = this.#zoom * ratio;
    const left = Math.round(width / 2 - this.#centre.x * zoom);
    const top = Math.round(height / 2 - this.#centre.y * zoom);
    const place = { left, top, zoom, width, height };
    const line = this.#after === null ? width : Math.round((divider.value / 100) * width);
    context.clearRect(0, 0, width, height);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    // What is not computed yet is shown as it was.
    const covered = this.#after?.rows === this.#size.height ? line : width;
    if (this.#before !== null) this.#part(0, covered, () => this.#drawBefore(place));
    if (this.#after !== null) this.#part(line, width - line, () => this.#pieces.draw(context, place));
    stage.style.touchAction = this.#fitted ? "pan-y" : "none"; // a finger scrolls past what it cannot move
    handle.hidden = this.#after === null;
    tagAfter.hidden = this.#after === null || line > width - 72 * ratio;
    tagBefore.hidden = this.#after !== null && line < 72 * ratio;
    handle.style.left = `${line / ratio}px`;
    level.value = `${Math.round(zoom * 100)} %`;
    divider.setAttribute("aria-valuetext", `${divider.value} % before, ${100 - divider.value} % after`);
  }

  #part(left, width, draw) {
    const context = this.#context;
    context.save();
    context.beginPath();
    context.rect(left, 0, width, context.canvas.height);
    context.clip();
    draw();
    context.restore();
  }

  #drawBefore({ left, top, zoom, width, height }) {
    const scale = (this.#size.width / this.#before.width) * zoom; // device pixels of a pixel of the picture
    const x = Math.max(Math.floor(-left / scale) - 2, 0);
    const y = Math.max(Math.floor(-top / scale) - 2, 0);
    const across = Math.min(Math.ceil(width / scale) + 5, this.#before.width - x);
    const down = Math.min(Math.ceil(height / scale) + 5, this.#before.height - y);
    if (across <= 0 || down <= 0) return;
    const [right, bottom] = [left + this.#before.width * scale, top + this.#before.height * scale];
    if (this.#after?.transparent) fillSquares(this.#context, left, top, right, bottom);
    this.#context.drawImage(this.#before, x, y, across, down, left + x * scale, top + y * scale, across * scale, down * scale);
  }

  #at(event) {
    const { left, top } = this.#elements.stage.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  #nearLine({ x }) {
    const { stage, divider } = this.#elements;
    return this.#after !== null && Math.abs(x - (divider.value / 100) * stage.clientWidth) < GRIP;
  }

  #setLine({ x }) {
    const { stage, divider } = this.#elements;
    divider.value = (100 * x) / stage.clientWidth;
    this.#ask();
  }

  #down(event) {
    if (event.button > 0 || this.#size === null) return;
    const at = this.#at(event);
    this.#elements.stage.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, at);
    // A picture that is wholly on the stage cannot be moved: then any drag moves the line.
    const whole = this.#after !== null && this.#zoom <= this.#fitting() * 1.001;
    this.#grabbed = this.#pointers.size > 1 ? "pinch" : whole || this.#nearLine(at) ? "line" : "picture";
    this.#elements.stage.classList.toggle("moving", this.#grabbed === "picture");
    if (this.#grabbed === "line") this.#setLine(at);
  }

  #move(event) {
    const at = this.#at(event);
    const before = this.#pointers.get(event.pointerId);
    if (before === undefined) {
      this.#elements.stage.classList.toggle("on-line", this.#nearLine(at));
      return;
    }
    if (this.#grabbed === "pinch" && this.#pointers.size === 2) {
      const [other] = [...this.#pointers].filter(([id]) => id !== event.pointerId).map(([, it]) => it);
      const far = (it) => Math.max(Math.hypot(it.x - other.x, it.y - other.y), 1);
      this.#moveBy((at.x - before.x) / 2, (at.y - before.y) / 2);
      this.#zoomTo((this.#zoom * far(at)) / far(before), { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 });
    } else if (this.#grabbed === "line") this.#setLine(at);
    else if (this.#grabbed === "picture") this.#moveBy(at.x - before.x, at.y - before.y);
    this.#pointers.set(event.pointerId, at);
  }

  #up(event) {
    this.#pointers.delete(event.pointerId);
    this.#grabbed = this.#pointers.size > 0 ? "picture" : "";
    this.#elements.stage.classList.remove("moving");
  }

  #wheel(event) {
    // The wheel scrolls the page, unless the stage was chosen; a pinch on a touch pad comes as a wheel with Ctrl.
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== this.#elements.stage) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.#zoomTo(this.#zoom * Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), this.#at(event));
  }

  #toggle(event) {
    if (this.#fitted) this.#zoomTo(Math.max(1 / devicePixelRatio, 2 * this.#zoom), this.#at(event));
    else this.fit();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      ArrowLeft: () => this.#moveBy(STEP, 0),
      ArrowRight: () => this.#moveBy(-STEP, 0),
      ArrowUp: () => this.#moveBy(0, STEP),
      ArrowDown: () => this.#moveBy(0, -STEP),
      "+": () => this.zoomBy(1.5),
      "=": () => this.zoomBy(1.5),
      "-": () => this.zoomBy(1 / 1.5),
      0: () => this.fit(),
      1: () => this.full(),
    };
    if (this.#size === null || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  }
}
