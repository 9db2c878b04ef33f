// Filters: what is chosen, in the form and in the address, so that a view can be shared.

const form = byId("filters");
const CHOICES = [
  "q", "set", "model", "partition", "status", "seed", "from", "to", "shown", "sort", "size",
  "pick",
];
const DAY = 86400000;

// What is chosen of the images; the others only say how they are shown.
const NARROWING = CHOICES.filter((name) => !["sort", "size"].includes(name));
const narrows = (choice) => NARROWING.some((name) => choice[name]);

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
  offerChoices("set", gallery.sets.map((set) => set.name));
  offerChoices("model", [...new Set(gallery.sets.flatMap((set) => set.models))].sort());
  form.elements.shown.closest("label").hidden = !gallery.sets.some((set) => set.obsolete.length);
  const partitions = [...new Set(items.map((item) => item.partition))].filter(Boolean).sort();
  byId("partitions").replaceChildren(
    ...partitions.slice(0, 500).map((value) => element("option", "", { value })),
  );
}

function offerChoices(name, values) {
  const field = form.elements[name];
  const known = new Set([...field.options].map((option) => option.value));
  for (const value of values) {
    if (!known.has(value)) field.append(element("option", value, { value }));
  }
  field.closest("label").hidden = values.length < 2;
}

const ORDERS = {
  "": (a, b) => b.time - a.time || b.page - a.page || a.place - b.place,
  oldest: (a, b) => a.time - b.time || a.rank - b.rank,
  name: (a, b) => compare(a.group || a.name, b.group || b.name) || beside(a, b)
    || b.time - a.time || a.rank - b.rank,
  seed: (a, b) => compareSeeds(a.seed, b.seed) || a.rank - b.rank,
};
const compare = new Intl.Collator("en", { numeric: true }).compare;

// One prompt's takes, and those of one take by model.
const beside = (a, b) => a.take - b.take || compare(a.model, b.model);

// Newest first; where models are compared, all images of a prompt come where its newest is.
function byNewestOfGroup(items) {
  if (!labels.size) return ORDERS[""];
  const newest = new Map();
  for (const { group, time } of items) newest.set(group, Math.max(time, newest.get(group) ?? 0));
  const time = (item) => (item.group ? newest.get(item.group) : item.time);
  return (a, b) => time(b) - time(a) || compare(a.group, b.group) || beside(a, b)
    || ORDERS[""](a, b);
}

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
    && (!choice.model || item.model === choice.model)
    && (!choice.status || item.status === choice.status
      || (choice.status === "missing" && !["stored", "removed"].includes(item.status)))
    && (!choice.seed || item.seed === choice.seed)
    && (choice.shown === "all" || obsolete.has(item.id) === (choice.shown === "obsolete"))
    && (!choice.pick || isPicked(item, choice.pick))
    && item.time >= from && item.time < to
    && (!partition || fold(item.partition).includes(partition))
    && (!words.length || has(item, words)));
  return found.sort((choice.sort && ORDERS[choice.sort]) || byNewestOfGroup(found));
}

function has(item, words) {
  item.folded ??= fold(`${item.prompt}\n${item.name}\n${item.label && item.model}`);
  return words.every((word) => item.folded.includes(word));
}
