// Texts whose contrast with what is behind them is below 4.5, by WCAG 2.
const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const rgba = (text) => {
  pen.clearRect(0, 0, 1, 1);
  pen.fillStyle = text;
  pen.fillRect(0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data];
};
const channel = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
const light = ([r, g, b]) => 0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
const LEFT_OUT = ".unseen, .skip, canvas, .stage, noscript, template, select, :disabled";
const found = [];
for (const it of document.body.querySelectorAll("*")) {
  const own = [...it.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim() !== "");
  if (!own || !it.checkVisibility() || it.closest(LEFT_OUT)) continue;
  let behind = it;
  while (behind && rgba(getComputedStyle(behind).backgroundColor)[3] < 255) behind = behind.parentElement;
  const one = light(rgba(getComputedStyle(it).color));
  const other = light(rgba(getComputedStyle(behind ?? document.body).backgroundColor));
  const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (ratio < 4.5) found.push([it.textContent.trim().slice(0, 40), ratio]);
}
return found;
