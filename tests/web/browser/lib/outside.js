// Elements that reach out of the page's width.
const width = document.documentElement.clientWidth;
return [...document.body.querySelectorAll("*")]
  .filter((it) => {
    const { right, left, width: own } = it.getBoundingClientRect();
    return own > 0 && !it.closest(".unseen, .skip, .stage, .thumb") && (right > width + 0.5 || left < -0.5);
  })
  .map((it) => it.id || it.className || it.tagName);
