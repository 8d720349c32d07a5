// Presses and drags of the page's own drawings, as one event: what a button's data-* attributes say.
element.addEventListener("click", (event) => {
  const pressed = event.target.closest("[data-act]");
  if (pressed) trigger("act", { ...pressed.dataset });
});
element.addEventListener("dragstart", (event) => {
  const from = event.target.closest?.("[data-from]");
  if (from) event.dataTransfer.setData("text/plain", from.dataset.from);
});
const target = (event) => event.target.closest?.("[data-drop]");
element.addEventListener("dragover", (event) => {
  if (!target(event)) return;
  event.preventDefault();
  target(event).classList.add("over");
});
element.addEventListener("dragleave", (event) => target(event)?.classList.remove("over"));
element.addEventListener("drop", (event) => {
  if (!target(event)) return;
  event.preventDefault();
  target(event).classList.remove("over");
  trigger("act", { act: "swap", place: target(event).dataset.place, from: event.dataTransfer.getData("text/plain") });
});
