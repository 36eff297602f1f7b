// What the list shows.
return [...document.querySelectorAll(".entry")].map((it) => ({
  name: it.querySelector(".name").textContent,
  state: it.dataset.state,
  text: it.querySelector(".state").textContent,
  size: it.querySelector(".size").textContent,
  notes: [...it.querySelectorAll(".notes li")].map((note) => note.textContent),
}));
