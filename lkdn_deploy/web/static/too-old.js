// Says so where the page cannot start. It is written for browsers of any age, which cannot read the page's modules.

(function () {
  function tell() {
    var banner = document.getElementById("banner");
    if (document.documentElement.getAttribute("data-started") !== null || banner === null) return;
    banner.textContent =
      "This page could not be started. As a rule the browser is too old: it needs WebAssembly SIMD, which all have since 2023.";
    banner.hidden = false;
    document.getElementById("choose").disabled = true;
    document.getElementById("engine-facts").textContent = "";
  }

  window.addEventListener("error", tell, true); // a module that cannot be read, or is not there
  if (!("noModule" in HTMLScriptElement.prototype)) document.addEventListener("DOMContentLoaded", tell);
})();
