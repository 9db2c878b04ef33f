// Filters: what is chosen, in the form and in the address, so that a view can be shared.

const form = byId("filters");
const CHOICES = ["q", "set", "partition", "status", "seed", "from", "to", "sort", "size"];
const DAY = 86400000;

// What the address asks for; `image` is the one that is open.
function readAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries([...CHOICES, "image"].map((name) => [name, asked.get(name) ?? ""]));
}

function readForm() {
  return Object.fromEntries(CHOICES.map((name) => [name, form.elements[name].value.trim()]));
}

function fillForm(choice) {
  for (const name of CHOICES) {
    const field = form.elements[name];
    if (field.value.trim() !== choice[name]) field.value = choice[name];
  }
}

function writeAddress(choice) {
  const chosen = Object.entries(choice).filter(([, value]) => value);
  const hash = new URLSearchParams(chosen).toString();
  if (hash !== location.hash.slice(1)) {
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  }
}

// Fill the choices that depend on the images.
function offer(items) {
  const sets = form.elements.set;
  for (const set of gallery.sets) {
    if (![...sets.options].some((option) => option.value === set.name)) {
      sets.append(element("option", set.name, { value: set.name }));
    }
  }
  sets.closest("label").hidden = gallery.sets.length < 2;
  const partitions = [...new Set(items.map((item) => item.partition))].filter(Boolean).sort();
  byId("partitions").replaceChildren(
    ...partitions.slice(0, 500).map((value) => element("option", "", { value })),
  );
}

const ORDERS = {
  "": (a, b) => b.time - a.time || a.rank - b.rank,
  oldest: (a, b) => a.time - b.time || a.rank - b.rank,
  name: (a, b) => compare(a.name, b.name) || a.take - b.take || b.time - a.time || a.rank - b.rank,
  seed: (a, b) => compareSeeds(a.seed, b.seed) || a.rank - b.rank,
};
const compare = new Intl.Collator("en", { numeric: true }).compare;

// Seeds are text, since they may exceed what a number holds exactly; those unknown come last.
function compareSeeds(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  return a.length - b.length || (a < b ? -1 : Number(a > b));
}

// The images that are chosen, in the order that is chosen.
function choose(items, choice) {
  const words = fold(choice.q).split(/\s+/).filter(Boolean);
  const partition = fold(choice.partition);
  const from = choice.from ? Date.parse(choice.from) : -Infinity;
  const to = choice.to ? Date.parse(choice.to) + DAY : Infinity;
  const found = items.filter((item) =>
    (!choice.set || item.set === choice.set)
    && (!choice.status || item.status === choice.status
      || (choice.status === "missing" && item.status !== "stored"))
    && (!choice.seed || item.seed === choice.seed)
    && item.time >= from && item.time < to
    && (!partition || fold(item.partition).includes(partition))
    && (!words.length || has(item, words)));
  return found.sort(ORDERS[choice.sort] ?? ORDERS[""]);
}

function has(item, words) {
  item.folded ??= fold(`${item.prompt}\n${item.name}`);
  return words.every((word) => item.folded.includes(word));
}
