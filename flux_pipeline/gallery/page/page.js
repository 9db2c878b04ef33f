// Page: what happens when it opens, and whenever something is chosen.

const PATIENCE = 120; // ms after a key, before the search is made
const PART = 1000; // images that are read at first, and whenever the end of those comes near
const AHEAD = 300; // images that are there beyond those in view
const all = [];
let total = gallery.sets.flatMap((set) => set.chapters).reduce((sum, [, rows]) => sum + rows, 0);
let loaded = false; // whether all of them were read
let reading = null;
const missingFiles = [];

function sayHead() {
  const sum = (name) => gallery.sets.reduce((total, set) => total + set[name], 0);
  const facts = [count(sum("stored"), "image")];
  if (sum("missing")) facts.push(`${counting.format(sum("missing"))} not made`);
  const note = gallery.sets.some((set) => set.emulated) ? " (emulated)" : "";
  const usd = `${sum("usd").toFixed(sum("usd") < 1 ? 4 : 2)} USD${note}`;
  facts.push(usd, `as of ${moment(gallery.asOf)}`);
  if (note) facts.push("placeholders: no model ran");
  const spans = facts.flatMap((fact) => [element("span", fact), " · "]).slice(0, -1);
  byId("facts").replaceChildren(...spans);
  const described = gallery.sets.length === 1 ? gallery.sets[0].description : "";
  byId("description").textContent = described;
  byId("description").hidden = !described;
}

// Show what the form asks for.
function apply() {
  const choice = readForm();
  const begun = performance.now();
  const items = choose(all, choice);
  // Of the newest first it is known how many there are before they are read.
  const shown = loaded || narrows(choice) ? items.length : total - obsolete.size;
  if (gallery.sets.length > 1) showPicks(); // which sets' files are offered
  showItems(items, choice.size, shown);
  say(shown, choice);
  writeAddress({ ...choice, image: view.item?.id ?? readAddress().image });
  apply.took = performance.now() - begun;
  if (narrows(choice) || choice.sort) readAll();
}

function say(shown, choice) {
  const chosen = CHOICES.slice(1, 9).filter((name) => choice[name]).length;
  byId("chosen").textContent = `${chosen}`;
  byId("chosen").hidden = !chosen;
  const so = `${counting.format(all.length)} of ${count(total, "image")}`;
  const part = narrows(choice) || shown < total;
  if (!loaded && narrows(choice)) byId("count").textContent = `Searching, ${counting.format(shown)} found in ${so}`;
  else if (!loaded && choice.sort) byId("count").textContent = `Loading, ${so}`;
  else if (part) byId("count").textContent = `${counting.format(shown)} of ${count(total, "image")}`;
  else byId("count").textContent = `all ${counting.format(total)}`;
  const empty = byId("empty");
  empty.hidden = Boolean(shown) || !loaded;
  if (empty.hidden) return;
  if (total) {
    const clear = element("button", "Clear the filters", { type: "button" });
    clear.addEventListener("click", () => form.reset());
    empty.replaceChildren(element("p", "No image is like this."), clear);
  } else {
    const set = gallery.sets.length === 1 ? ` ${gallery.sets[0].name}` : "";
    const made = element("p", "Nothing was made yet. This makes it: ");
    made.append(element("code", `flux-pipeline run${set}`));
    empty.replaceChildren(made);
  }
}

// Open the image that the address names by its id, or by its key in the store; or none. It is
// looked for among all images, where it isn't one of the newest.
function openAddressed(id) {
  const item = id && all.find((each) => each.id === id || each.link === gallery.root + id);
  if (item && item !== view.item) openViewer(item);
  else if (!id && viewer.open) viewer.close();
  else if (!item && id && !loaded) readAll().then(() => openAddressed(readAddress().image));
}

// Read so many more images. What came is shown meanwhile, where the rest only follows it.
function readOn(most) {
  reading ??= readRows(most, come, lose).then(() => {
    reading = null;
    loaded = !unread.length;
    if (loaded) offer(all);
    if (missingFiles.length) sayMissing();
    apply();
    if (loaded) showPicks();
  });
  return reading;
}

async function readAll() {
  while (!loaded) await readOn(Infinity);
}

// Read until all images up to this place of the grid are there, newest first, and some more.
async function readTo(place) {
  while (!loaded && !(place + AHEAD < grid.items.length && isSettled(grid.items[place + AHEAD]))) {
    await readOn(PART);
  }
}

let drawn = 0;
function come(items) {
  all.push(...items);
  // Where there are very many, showing them so often would take longer than reading them.
  if (form.elements.sort.value || performance.now() - drawn < 300 + 4 * (apply.took ?? 0)) return;
  apply();
  drawn = performance.now();
}

function lose(chapter, name) {
  missingFiles.push(name);
  total -= chapter.rows;
}

function sayMissing() {
  byId("problem").textContent = `${count(missingFiles.length, "file")} of this gallery could not`
    + ` be loaded, such as ${missingFiles[0]}: build it again, or copy its whole folder.`;
  byId("problem").hidden = false;
}

let waiting = 0;
form.addEventListener("input", (event) => {
  clearTimeout(waiting);
  waiting = setTimeout(apply, event.target.name === "q" ? PATIENCE : 0);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  apply();
});
form.addEventListener("reset", () => setTimeout(() => {
  fillForm(Object.fromEntries(CHOICES.map((name) => [name, ""])));
  apply();
  form.elements.q.focus();
}));
byId("more").addEventListener("click", () => {
  const open = form.classList.toggle("open");
  byId("more").setAttribute("aria-expanded", `${open}`);
});
byId("skip").addEventListener("click", () => focusTile(grid.active));
addEventListener("hashchange", () => {
  const address = readAddress();
  fillForm(address);
  apply(); // which writes what is open
  openAddressed(address.image);
});
addEventListener("keydown", (event) => {
  if (event.target.closest("input, select") || help.open) return;
  if (event.key === "/" && !viewer.open) {
    event.preventDefault();
    form.elements.q.focus();
  } else if (event.key === "?") {
    help.showModal();
  }
});
addEventListener("scroll", () => form.classList.toggle("stuck", scrollY > 80), { passive: true });

form.elements.partition.addEventListener("focus", readAll); // its list offers those of all images

grid.open = openViewer;
grid.reach = readTo;
grid.finish = readAll;
view.changed = () => writeAddress({ ...readForm(), image: view.item?.id ?? "" });

async function start() {
  sayHead();
  form.hidden = false;
  offer([]);
  fillForm(readAddress());
  byId("count").textContent = "Loading";
  await readOn(PART);
  fillForm(readAddress());
  showPicks();
  if (labels.size) readAll(); // what a prompt's other models made stands beside it, however old
  openAddressed(readAddress().image);
  document.documentElement.dataset.ready = "true";
}

start();
