// Picks: which images are chosen for publishing, on top of the files that the prompt sets name.
//
// What differs from a set's file is kept in this browser until that file is downloaded and the
// gallery was built with it. So a file that somebody else changed meanwhile is not lost: what was
// changed here comes on top of it.

const placeOf = ({ partition, prompt, take, output }) =>
  [partition, prompt, take, output].join("\n");

// By set: {name, file, byDay, problem, version, base, now, downloaded}; `base` is what the file
// holds and `now` what is chosen, both Maps of picks by place.
const selections = new Map(gallery.sets.map(({ name, selection }) => {
  const base = new Map(selection.picks.map((cells) => {
    const [prompt, partition, take, output, image_sha256, note] = cells;
    const pick = { prompt, partition, take, output, image_sha256, note };
    return [placeOf(pick), pick];
  }));
  const { file, by_day: byDay, problem, version } = selection;
  return [name, { name, file, byDay, problem, version, base, now: new Map(base), downloaded: false }];
}));

const picking = {
  anchor: null, // {item, on}: the image that was chosen or left out last, where a range begins
  decided: new Set(), // groups that have a pick
  ofDay: new Set(), // groups that have a pick of their own day
  keeps: true, // whether this browser keeps what is changed
  counts: { chosen: 0, stale: 0, prompts: 0, undecided: 0 },
  lost: [], // [selection, pick] of picks that name nothing
  changed: () => {},
};

// Only what would be published can be chosen: an image that is there, of the prompt as it is now.
const canPick = (item) => item.status === "stored" && Boolean(item.link) && !obsolete.has(item.id)
  && !item.partition.startsWith("reproduction-of-");

const dayOf = (item) => (selections.get(item.set).byDay ? item.partition : "");

const pickFor = (item) => ({
  prompt: item.name,
  partition: dayOf(item),
  take: item.take,
  output: item.output,
  image_sha256: hexOf(item.digest),
  note: "",
});

// The place under which an image is chosen. A pick without a day means every day, but for the days
// that have picks of their own for its prompt.
function placeIn(item) {
  const everyDay = placeOf({ ...pickFor(item), partition: "" });
  const isOfDay = picking.ofDay.has(groupOfItem(item));
  return !isOfDay && selections.get(item.set).now.has(everyDay) ? everyDay : placeOf(pickFor(item));
}

const pickOfItem = (item) => selections.get(item.set).now.get(placeIn(item)) ?? null;

// "chosen"; "stale" where the image was made anew since; or nothing.
function stateOf(item) {
  if (!canPick(item)) return "";
  const pick = pickOfItem(item);
  if (!pick) return "";
  if (dayOf(item) && !pick.partition) return "chosen"; // every day has another image
  const digest = hexOf(item.digest);
  return pick.image_sha256 && digest && pick.image_sha256 !== digest ? "stale" : "chosen";
}

const groupOfItem = (item) => [item.set, dayOf(item), item.name].join("\n");

// Whether a set is published by picks: of others nothing is undecided.
const usesPicks = ({ file, now }) => Boolean(file) || now.size > 0;

const isUndecided = (item) => canPick(item) && usesPicks(selections.get(item.set))
  && !picking.decided.has(groupOfItem(item));

const isPicked = (item, wanted) => {
  if (wanted === "undecided") return isUndecided(item);
  const state = stateOf(item);
  return wanted === "stale" ? state === "stale" : state !== "";
};

// Choose these images, or leave them out. A stale one is chosen again as it is now.
function pick(items, on) {
  const touched = new Set();
  for (const item of items.filter(canPick)) {
    const set = selections.get(item.set);
    const place = placeIn(item);
    if (on) {
      const before = set.now.get(place);
      set.now.set(place, { ...pickFor(item), ...before, image_sha256: hexOf(item.digest) });
    } else {
      set.now.delete(place);
    }
    touched.add(set);
  }
  for (const set of touched) keep(set);
  picking.changed();
}

// Choose or leave out one image; afterwards a range can begin there.
function togglePick(item) {
  if (!canPick(item)) return;
  const on = stateOf(item) !== "chosen";
  picking.anchor = { item, on };
  pick([item], on);
}

// As the last image, all up to this one, in the order that is shown.
function pickRange(item) {
  const from = picking.anchor ? grid.items.indexOf(picking.anchor.item) : -1;
  const to = grid.items.indexOf(item);
  if (from < 0 || to < 0) togglePick(item);
  else pick(grid.items.slice(Math.min(from, to), Math.max(from, to) + 1), picking.anchor.on);
}

function noteOn(item, note) {
  const set = selections.get(item.set);
  const before = pickOfItem(item);
  if (!before || before.note === note) return;
  set.now.set(placeIn(item), { ...before, note });
  keep(set);
  picking.changed();
}

// Count again what is chosen and what is not.
function recount(items) {
  const found = { chosen: 0, stale: 0, prompts: 0, undecided: 0 };
  const groups = new Set();
  const named = new Set();
  picking.decided.clear();
  picking.ofDay = new Set([...selections.values()].flatMap((set) => [...set.now.values()]
    .filter((pick) => pick.partition)
    .map((pick) => [set.name, pick.partition, pick.prompt].join("\n"))));
  for (const item of items) {
    if (!canPick(item) || !usesPicks(selections.get(item.set))) continue;
    groups.add(groupOfItem(item));
    const state = stateOf(item);
    if (!state) continue;
    picking.decided.add(groupOfItem(item));
    named.add(`${item.set}\n${placeIn(item)}`);
    found.chosen += 1;
    if (state === "stale") found.stale += 1;
  }
  found.prompts = groups.size;
  found.undecided = groups.size - picking.decided.size;
  picking.counts = found;
  picking.lost = [...selections.values()].flatMap((set) => [...set.now]
    .filter(([place]) => !named.has(`${set.name}\n${place}`)).map(([, pick]) => [set, pick]));
}

// What differs from a set's file: pairs of place and pick, or null for one that was taken out.
function changesOf({ base, now }) {
  const added = [...now].filter(([place, pick]) => !isSame(pick, base.get(place)));
  const removed = [...base.keys()].filter((place) => !now.has(place)).map((place) => [place, null]);
  return [...removed, ...added];
}

const isSame = (one, other) => PICK_COLUMNS.every((name) => one?.[name] === other?.[name]);

// One place of all galleries of this store, whatever page of it is open and however it was signed.
const storageKey = (set) => `flux-picks:${new URL(gallery.root, location.href).pathname}${set.name}`;

function keep(set, downloaded = false) {
  set.downloaded = downloaded;
  const changes = changesOf(set);
  try {
    if (changes.length) {
      localStorage.setItem(storageKey(set), JSON.stringify({ at: set.version, downloaded, changes }));
    } else {
      localStorage.removeItem(storageKey(set));
    }
    picking.keeps = true;
  } catch {
    picking.keeps = false;
  }
}

// Take up what this browser has kept. What was downloaded gives way to a file that came since.
function recall(set) {
  set.now = new Map(set.base);
  set.downloaded = false;
  try {
    const kept = JSON.parse(localStorage.getItem(storageKey(set)) ?? "null");
    if (!kept || (kept.downloaded && kept.at !== set.version)) {
      localStorage.removeItem(storageKey(set));
      return;
    }
    for (const [place, pick] of kept.changes) {
      if (pick) set.now.set(place, pickOf(pick));
      else set.now.delete(place);
    }
    set.downloaded = Boolean(kept.downloaded) && changesOf(set).length > 0;
  } catch {
    picking.keeps = false; // the browser keeps nothing, or something else: the file counts
  }
}

function replacePicks(set, picks) {
  set.now = new Map(picks.map((pick) => [placeOf(pick), pick]));
  keep(set);
  picking.changed();
}

for (const set of selections.values()) recall(set);
