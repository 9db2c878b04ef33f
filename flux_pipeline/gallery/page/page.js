// Page: what happens when it opens, and whenever something is chosen.

const PATIENCE = 120; // ms after a key, before the search is made
let all = [];
let loaded = false;
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
  const shown = choose(all, choice);
  if (gallery.sets.length > 1) showPicks(); // which sets' files are offered
  showItems(shown, choice.size);
  say(shown.length, choice);
  writeAddress({ ...choice, image: view.item?.id ?? readAddress().image });
}

function say(shown, choice) {
  const chosen = CHOICES.slice(1, 9).filter((name) => choice[name]).length;
  byId("chosen").textContent = `${chosen}`;
  byId("chosen").hidden = !chosen;
  const filtered = chosen || choice.q || choice.pick || shown < all.length;
  const total = count(all.length, "image");
  byId("count").textContent = loaded
    ? (filtered ? `${counting.format(shown)} of ${total}` : `all ${counting.format(all.length)}`)
    : `Loading, ${total} so far`;
  const empty = byId("empty");
  empty.hidden = Boolean(shown) || !loaded;
  if (empty.hidden) return;
  if (all.length) {
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

// Open the image that the address names by its id, or by its key in the store; or none.
function openAddressed(id) {
  const item = id && all.find((each) => each.id === id || each.link === gallery.root + id);
  if (item && item !== view.item) openViewer(item);
  else if (!id && viewer.open) viewer.close();
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

grid.open = openViewer;
view.changed = () => writeAddress({ ...readForm(), image: view.item?.id ?? "" });

async function start() {
  sayHead();
  form.hidden = false;
  offer([]);
  fillForm(readAddress());
  let drawn = 0;
  await loadRows(
    (items) => {
      all.push(...items);
      // What came can be looked at meanwhile, where the rest only follows it.
      if (!form.elements.sort.value && performance.now() - drawn > 300) {
        apply();
        drawn = performance.now();
      }
    },
    (name) => missingFiles.push(name),
  );
  loaded = true;
  if (missingFiles.length) {
    byId("problem").textContent = `${count(missingFiles.length, "file")} of this gallery could not`
      + ` be loaded, such as ${missingFiles[0]}: build it again, or copy its whole folder.`;
    byId("problem").hidden = false;
  }
  offer(all);
  fillForm(readAddress());
  showPicks();
  apply();
  openAddressed(readAddress().image);
  document.documentElement.dataset.ready = "true";
}

start();
