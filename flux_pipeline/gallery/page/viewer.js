// Viewer: one image as large as the window, nearer, its neighbours, and what it was made from.

const viewer = byId("viewer");
const stage = byId("stage");
const NEAREST = 12;
const STEP = 1.5;
const PAN = 80; // px

const MOST_BESIDE = 4; // sources beside their result; each of the others is shown alone

const view = {
  item: null,
  known: null, // its details
  picture: null, // of the image itself; null where it has none
  sources: [], // what it was made from, of this store
  beside: true, // whether sources stand beside their result
  before: 0, // which source is shown alone, from 1; 0 is the result
  zoom: 1, x: 0, y: 0,
  changed: () => {},
};

function openViewer(item) {
  view.item = item;
  if (!viewer.open) {
    viewer.showModal();
  }
  showItem();
  view.changed();
}

function showItem() {
  const { item } = view;
  const place = grid.items.indexOf(item);
  byId("viewer-title").textContent = item.name;
  const where = place < 0 ? "" : `${counting.format(place + 1)} of ${counting.format(grid.total)}`;
  byId("viewer-place").textContent = where;
  byId("viewer-says").textContent = `${where}. ${item.status === "stored" ? "" : item.status} ${item.prompt}`;
  const panel = byId("panel");
  panel.replaceChildren(element("p", item.prompt, { class: "prompt", dir: "auto" }));
  panel.scrollTop = 0;
  view.zoom = 1;
  view.known = null;
  markViewer();
  showPicture(item);
  detailsOf(item).then((known) => {
    if (view.item !== item) return;
    view.known = known;
    panel.replaceChildren(...panelOf(item, known));
    if (known?.thumbnail && view.picture && !view.picture.src) view.picture.src = known.thumbnail;
    showSources(known?.sources ?? []);
  });
  for (const near of [grid.items[place + 1], grid.items[place - 1]]) {
    if (near?.link) new Image().src = near.link;
  }
}

// Show on the opened image whether it is chosen.
function markViewer() {
  const { item, known } = view;
  if (!item) return;
  const button = viewer.querySelector("[data-do=pick]");
  const state = stateOf(item);
  button.hidden = !canPick(item);
  button.setAttribute("aria-pressed", STATES[state]);
  button.querySelector("span").textContent = { "": "choose", chosen: "chosen", stale: "made anew" }[state];
  const panel = byId("panel");
  if (known && !panel.contains(document.activeElement)) panel.replaceChildren(...panelOf(item, known));
}

function pickOpened() {
  if (!canPick(view.item)) return;
  togglePick(view.item);
  byId("viewer-says").textContent = stateOf(view.item) ? "Chosen." : "Not chosen.";
}

function showPicture(item) {
  view.picture = null;
  const result = element("figure", "", { class: "result" });
  if (item.link) {
    const picture = element("img", "", { alt: item.prompt || item.name, draggable: "false" });
    const whole = new Image();
    whole.src = item.link;
    whole.decode().then(() => { picture.src = item.link; }, () => {
      if (view.picture === picture && !picture.src) result.replaceChildren(lost());
    });
    view.picture = picture;
    result.append(picture);
  } else {
    const reason = element("div", "", { class: "reason" });
    reason.append(element("h3", item.status, { class: `status-${item.status}` }),
      element("p", item.reason || NO_REASON, { dir: "auto" }));
    result.append(reason);
  }
  stage.replaceChildren(result);
  showSources([]);
}

// Beside the image those that it was made from, as far as they are in this store.
function showSources(sources) {
  view.sources = sources.filter(({ link }) => link);
  view.before = 0;
  const figures = view.sources.map((each) => {
    const figure = element("figure", "", { class: "source" });
    const picture = element("img", "", { alt: `Made from ${nameOf(each)}`, draggable: "false" });
    picture.addEventListener("error", () => picture.replaceWith(lost()));
    picture.src = each.link;
    figure.append(picture, element("figcaption", `before: ${each.input}`));
    return figure;
  });
  const result = stage.querySelector(".result");
  stage.querySelectorAll(".source, .result figcaption").forEach((each) => each.remove());
  if (figures.length) result.append(element("figcaption", "after"));
  result.before(...figures);
  for (const name of ["beside", "swap"]) {
    viewer.querySelector(`[data-do=${name}]`).hidden = !figures.length;
  }
  arrangeStage();
}

// Side by side, or one of them alone: all in the same place, so that what differs is seen.
function arrangeStage() {
  const beside = view.beside && view.sources.length > 0;
  stage.querySelectorAll(".source").forEach((figure, place) => {
    figure.hidden = beside ? place >= MOST_BESIDE : place + 1 !== view.before;
  });
  const result = stage.querySelector(".result");
  result.hidden = !beside && view.before > 0;
  viewer.querySelector("[data-do=beside]").setAttribute("aria-pressed", `${view.beside}`);
  zoomTo(view.zoom, view.x, view.y);
}

function standBeside() {
  if (!view.sources.length) return;
  view.beside = !view.beside;
  view.before = 0;
  arrangeStage();
}

// From the result to each of its sources and back.
function swap() {
  if (!view.sources.length) return;
  view.before = (view.before + 1) % (view.sources.length + 1);
  view.beside = false;
  arrangeStage();
  const said = stage.querySelector("figure:not([hidden]) figcaption").textContent;
  byId("viewer-says").textContent = said;
}

const lost = () => element("p", "Its file is not there, or is no image that can be shown.",
  { class: "reason" });

function zoomTo(zoom, x = 0, y = 0) {
  view.zoom = Math.min(NEAREST, Math.max(1, zoom));
  const { clientWidth, clientHeight } = stage.querySelector("figure:not([hidden])") ?? stage;
  const room = { x: clientWidth * (view.zoom - 1) / 2, y: clientHeight * (view.zoom - 1) / 2 };
  view.x = Math.min(room.x, Math.max(-room.x, view.zoom === 1 ? 0 : x));
  view.y = Math.min(room.y, Math.max(-room.y, view.zoom === 1 ? 0 : y));
  for (const picture of stage.querySelectorAll("img")) {
    picture.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
  }
  stage.classList.toggle("near", view.zoom > 1);
  byId("viewer-zoom").textContent = view.zoom === 1 ? "fit" : `${view.zoom.toFixed(1)}×`;
}

// Nearer or further, around the middle of what is seen.
const zoomBy = (factor) => zoomTo(view.zoom * factor, view.x * factor, view.y * factor);

async function step(by) {
  const { item } = view;
  const place = grid.items.indexOf(item);
  const read = grid.reach(place + by);
  if (place + by >= grid.items.length) await read;
  const next = grid.items[grid.items.indexOf(item) + by];
  if (next && view.item === item) openViewer(next);
}

const ACTIONS = {
  previous: () => step(-1),
  next: () => step(1),
  in: () => zoomBy(STEP),
  out: () => zoomBy(1 / STEP),
  fit: () => zoomTo(1),
  beside: standBeside,
  swap,
  pick: pickOpened,
  close: () => viewer.close(),
  panel: () => {
    const wide = viewer.classList.toggle("wide");
    viewer.querySelector("[data-do=panel]").setAttribute("aria-pressed", `${!wide}`);
    zoomTo(view.zoom, view.x, view.y);
  },
};
const KEYS = { "+": "in", "=": "in", "-": "out", _: "out", 0: "fit", i: "panel", s: "beside", b: "swap", x: "pick" };
const ARROWS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

viewer.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button) ACTIONS[button.dataset.do]();
});

viewer.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input")) return;
  const arrow = ARROWS[event.key];
  if (arrow && view.zoom > 1) {
    event.preventDefault();
    zoomTo(view.zoom, view.x + PAN * arrow[0], view.y + PAN * arrow[1]);
  } else if (arrow?.[0]) {
    event.preventDefault();
    step(-arrow[0]);
  } else if (event.key in KEYS) {
    event.preventDefault();
    ACTIONS[KEYS[event.key]]();
  }
});

viewer.addEventListener("close", () => {
  if (viewer.open) return; // the event comes later than the closing: another image is open by now
  const place = grid.items.indexOf(view.item);
  view.item = null;
  view.changed();
  stage.replaceChildren();
  if (place >= 0) focusTile(place);
});

stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2);
}, { passive: false });
stage.addEventListener("dblclick", () => (view.zoom > 1 ? zoomTo(1) : zoomBy(STEP * STEP)));

// Drag to look around; at rest a swipe leads to the neighbour.
let grip = null;
stage.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button) return;
  stage.setPointerCapture(event.pointerId);
  grip = { x: event.clientX - view.x, y: event.clientY - view.y, start: event.clientX };
});
stage.addEventListener("pointermove", (event) => {
  if (grip && view.zoom > 1) zoomTo(view.zoom, event.clientX - grip.x, event.clientY - grip.y);
});
stage.addEventListener("pointerup", (event) => {
  const moved = grip ? event.clientX - grip.start : 0;
  grip = null;
  if (view.zoom === 1 && Math.abs(moved) > 60) step(moved < 0 ? 1 : -1);
});
stage.addEventListener("pointercancel", () => { grip = null; });
