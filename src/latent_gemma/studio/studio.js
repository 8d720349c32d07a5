// Presses and drags of the page's own drawings, as one event: what a button's data-* attributes say.
const press = (pressed) => trigger("act", { ...pressed.dataset });
const button = (event) => event.target.closest?.("[data-act]");
element.addEventListener("click", (event) => {
  if (button(event)) press(button(event));
});
// A button that is drawn anew between press and release is never clicked.
let down = null;
element.addEventListener("pointerdown", (event) => {
  down = event.pointerType === "mouse" ? button(event) : null;
});
element.addEventListener("pointerup", (event) => {
  const up = button(event);
  if (up && down && !down.isConnected && JSON.stringify(up.dataset) === JSON.stringify(down.dataset)) press(up);
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
