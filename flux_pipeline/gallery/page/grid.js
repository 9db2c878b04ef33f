// Grid: rows of pictures of one height, of which only those near the window are in the document.

const list = byId("grid");
const HEIGHTS = { small: 120, "": 200, large: 320 }; // px
const GAP = 6; // px
const BEYOND = 600; // px above and below the window that are filled too
const SETTLE = 90; // ms of rest before anything is loaded
const STAY = 250; // ms in view before a picture itself is loaded
const WORTH = 3; // tiles of one page that make its file of thumbnails worth loading

const grid = {
  items: [],
  rows: [], // {start, end, top, height}
  tiles: new Map(), // by place, what is in the document
  spare: new Map(), // by image, what was there before, to be used again
  active: 0, // the one tile that the Tab key reaches
  size: "",
  total: 0, // with those that were not read yet
  open: () => {},
  reach: async () => {}, // called with a place up to which images are needed
  finish: async () => {}, // called where all are needed
};

function showItems(items, size, total) {
  const focused = list.contains(document.activeElement);
  const current = grid.items[grid.active];
  grid.items = items;
  grid.total = total;
  grid.size = size in HEIGHTS ? size : "";
  grid.active = Math.max(0, focused ? items.indexOf(current) : 0);
  for (const tile of grid.tiles.values()) grid.spare.set(tile.item, tile);
  grid.tiles.clear();
  arrange();
  for (const tile of grid.spare.values()) dropTile(tile);
  grid.spare.clear();
  if (focused) focusTile(grid.active);
}

function ratio(item) {
  const own = item.link && item.width && item.height ? item.width / item.height : 1;
  return Math.min(3, Math.max(0.45, own));
}

// Fill row after row, each as wide as the grid; the last row keeps its natural height.
function arrange() {
  const width = list.clientWidth;
  const phone = width < 600;
  const aim = HEIGHTS[grid.size] * (phone ? 0.62 : 1);
  grid.rows = [];
  let start = 0;
  let sum = 0;
  let top = 0;
  const close = (end, height) => {
    grid.rows.push({ start, end, top, height });
    top += height + GAP;
    start = end;
    sum = 0;
  };
  grid.items.forEach((item, place) => {
    sum += ratio(item);
    const room = width - GAP * (place - start);
    if (sum * aim >= room) close(place + 1, room / sum);
  });
  if (start < grid.items.length) close(grid.items.length, aim);
  list.style.height = `${Math.max(0, top - GAP)}px`;
  draw();
}

// The row at a height of the grid, by halving.
function rowAt(y) {
  let low = 0;
  let high = grid.rows.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (grid.rows[middle].top <= y) low = middle;
    else high = middle - 1;
  }
  return low;
}

function draw() {
  const above = -list.getBoundingClientRect().top;
  const wanted = new Set();
  if (grid.rows.length) {
    const first = rowAt(above - BEYOND);
    const last = rowAt(above + innerHeight + BEYOND);
    const focused = list.contains(document.activeElement);
    if (!focused && (grid.active < grid.rows[first].start || grid.active >= grid.rows[last].end)) {
      grid.active = grid.rows[rowAt(Math.max(0, above))].start;
    }
    const rows = grid.rows.slice(first, last + 1);
    const apart = grid.rows.find((row) => grid.active >= row.start && grid.active < row.end);
    if (focused && apart && !rows.includes(apart)) rows.push(apart); // focus is never lost
    for (const row of rows) drawRow(row, wanted);
    grid.reach(grid.rows[last].end);
  }
  for (const [place, tile] of grid.tiles) {
    if (!wanted.has(place)) {
      dropTile(tile);
      grid.tiles.delete(place);
    }
  }
  for (const [place, tile] of grid.tiles) tile.button.tabIndex = place === grid.active ? 0 : -1;
  clearTimeout(draw.rest);
  draw.rest = setTimeout(loadVisible, SETTLE);
}

function drawRow(row, wanted) {
  let left = 0;
  for (let place = row.start; place < row.end; place += 1) {
    const width = ratio(grid.items[place]) * row.height;
    wanted.add(place);
    const tile = grid.tiles.get(place) ?? placeTile(place);
    const { style } = tile.box;
    style.width = `${width}px`;
    style.height = `${row.height}px`;
    style.transform = `translate(${left}px, ${row.top}px)`;
    left += width + GAP;
  }
}

// Put the tile of a place into the list, in the order of the images: a screen reader reads them so.
function placeTile(place) {
  const item = grid.items[place];
  const tile = grid.spare.get(item) ?? makeTile(item);
  grid.spare.delete(item);
  tile.place = place;
  tile.box.setAttribute("aria-setsize", `${grid.total}`);
  tile.box.setAttribute("aria-posinset", `${place + 1}`);
  let next = null;
  for (const other of grid.tiles.values()) {
    if (other.place > place && (next === null || other.place < next.place)) next = other;
  }
  list.insertBefore(tile.box, next && next.box);
  grid.tiles.set(place, tile);
  return tile;
}

function makeTile(item) {
  const box = element("li", "", { class: "tile", role: "listitem", "data-id": item.id });
  const button = element("button", "", { type: "button", class: "open", tabindex: "-1" });
  const tile = { mark: null, box, button, item, place: 0, picture: null, timer: 0, asked: false, gone: false };
  if (item.link) {
    tile.picture = element("img", "", { alt: item.prompt || item.name, decoding: "async" });
    const numbers = [item.take > 1 && `take ${item.take}`, item.output > 1 && `image ${item.output}`];
    const name = [item.name, ...numbers].filter(Boolean).join(", ");
    button.append(tile.picture, element("span", name, { class: "name", "aria-hidden": "true" }));
    if (item.label) button.append(element("span", item.label, { class: "model" }));
  } else {
    button.append(reasonOf(item));
  }
  button.addEventListener("click", (event) => {
    if (event.shiftKey) pickRange(item);
    else if (event.ctrlKey || event.metaKey) togglePick(item);
    else grid.open(item);
  });
  button.addEventListener("focus", () => { grid.active = tile.place; });
  box.append(button);
  if (canPick(item)) {
    // Not reached by the Tab key: there would be two stops a tile, and x does the same.
    tile.mark = element("button", "", { type: "button", class: "mark", tabindex: "-1" });
    tile.mark.addEventListener("click", (event) => {
      if (event.shiftKey) pickRange(item);
      else togglePick(item);
    });
    button.setAttribute("aria-keyshortcuts", "x");
    box.append(tile.mark);
    markTile(tile);
  }
  return tile;
}

// Show on a tile whether its image is chosen.
function markTile({ item, box, button, mark }) {
  if (!mark) return;
  const state = stateOf(item);
  const which = item.output > 1 ? `, image ${item.output}` : "";
  box.classList.toggle("chosen", state !== "");
  box.classList.toggle("stale", state === "stale");
  mark.textContent = state === "stale" ? "made anew" : "";
  mark.setAttribute("aria-pressed", STATES[state]);
  mark.setAttribute("aria-label", `${state === "stale" ? "Made anew, choose again: " : "Choose "}`
    + `${item.name}, take ${item.take}${which}`);
  mark.title = state === "stale" ? "It was made anew after it was chosen: choose it again (x)"
    : `${state ? "Chosen: leave it out" : "Choose"} (x)`;
  const said = { "": "", chosen: "chosen", stale: "chosen, and made anew since" }[state];
  if (said) button.setAttribute("aria-description", said);
  else button.removeAttribute("aria-description");
}

const STATES = { "": "false", chosen: "true", stale: "mixed" };

function markTiles() {
  for (const tile of grid.tiles.values()) markTile(tile);
}

function reasonOf(item) {
  const reason = element("span", "", { class: "reason" });
  reason.append(
    element("b", item.status === "stored" ? "elsewhere" : item.status),
    element("span", item.reason || NO_REASON, { class: "why", dir: "auto" }),
    element("span", item.label ? `${item.name}, ${item.label}` : item.name, { class: "whose" }),
  );
  return reason;
}

function dropTile(tile) {
  tile.gone = true;
  clearTimeout(tile.timer);
  tile.box.remove();
}

// Thumbnails where one file has several of those in view, then the pictures themselves.
function loadVisible() {
  const pages = new Map();
  for (const { item } of grid.tiles.values()) {
    const page = `${item.set}/${item.page}`;
    if (item.link) pages.set(page, (pages.get(page) ?? 0) + 1);
  }
  for (const tile of grid.tiles.values()) {
    const { item, picture } = tile;
    if (!picture || tile.asked) continue;
    tile.asked = true;
    if (hasDetails(item) || pages.get(`${item.set}/${item.page}`) >= WORTH) {
      detailsOf(item).then((known) => {
        if (known?.thumbnail && !tile.gone && !picture.src) picture.src = known.thumbnail;
      });
    }
    tile.timer = setTimeout(() => loadPicture(tile), STAY);
  }
}

async function loadPicture({ item, picture, button }) {
  const whole = new Image();
  whole.src = item.link;
  try {
    await whole.decode();
    picture.src = item.link;
  } catch {
    if (picture.src) return; // its thumbnail stays
    button.replaceChildren(reasonOf({ ...item, status: "missing", reason: "its file is not there" }));
  }
}

function focusTile(place) {
  if (!grid.items.length) return;
  grid.active = Math.min(grid.items.length - 1, Math.max(0, place));
  const row = grid.rows.find(({ end }) => grid.active < end);
  const top = list.getBoundingClientRect().top + row.top;
  const bar = byId("filters").offsetHeight;
  if (top < bar) scrollBy(0, top - bar - GAP);
  else if (top + row.height > innerHeight) scrollBy(0, top + row.height - innerHeight + GAP);
  drawRow(row, new Set());
  grid.tiles.get(grid.active).button.focus({ preventScroll: true });
  draw();
}

// The tile a row further, nearest in the middle.
function across(step) {
  const index = grid.rows.findIndex(({ end }) => grid.active < end);
  const row = grid.rows[index];
  const next = grid.rows[Math.min(grid.rows.length - 1, Math.max(0, index + step))];
  const share = (grid.active - row.start + 0.5) / (row.end - row.start);
  return next === row ? grid.active : next.start + Math.floor(share * (next.end - next.start));
}

const MOVES = {
  ArrowLeft: () => grid.active - 1,
  ArrowRight: () => grid.active + 1,
  ArrowUp: () => across(-1),
  ArrowDown: () => across(1),
  PageUp: () => across(-3),
  PageDown: () => across(3),
  Home: () => 0,
  End: () => {
    grid.finish().then(() => focusTile(grid.items.length - 1));
    return grid.active;
  },
};

list.addEventListener("keydown", (event) => {
  const item = grid.items[grid.active];
  if (event.key.toLowerCase() === "x" && item && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    if (event.shiftKey) pickRange(item);
    else togglePick(item);
    return;
  }
  const move = MOVES[event.key];
  if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  focusTile(move());
});

let drawing = false;
addEventListener("scroll", () => {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    draw();
  });
}, { passive: true });
new ResizeObserver(() => {
  if (list.clientWidth === arrange.width || viewer.open) return; // its scroll bar comes back
  arrange.width = list.clientWidth;
  arrange();
}).observe(list);
