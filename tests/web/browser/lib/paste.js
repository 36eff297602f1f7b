// Paste a PNG file, given in base64.
const transfer = new DataTransfer();
const bytes = Uint8Array.from(atob(arguments[0]), (it) => it.charCodeAt(0));
transfer.items.add(new File([bytes], "image.png", { type: "image/png" }));
document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
