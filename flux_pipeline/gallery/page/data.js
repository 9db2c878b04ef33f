// Data: the rows of the images, read chapter by chapter as far as they are asked for, and the details
// and thumbnails of each page of a chapter.
//
// The files are scripts that call `fluxGallery`, since fetch is not allowed in a folder. Only names
// of the one form below are ever loaded.

const gallery = JSON.parse(byId("gallery-data").textContent);
const DATA_FILE = /^(?:[a-z0-9][a-z0-9_]*\/)?(?:chapter|details)-[0-9]{5,}\.js\?v=[0-9a-f]+$/;
const KEY = /^[a-z0-9][a-z0-9._=-]*(?:\/[a-z0-9_=-][a-z0-9._=-]*)*$/;
const MOST_LOADING = 6;
const MOST_DETAILS = 32; // pages, about 1 MB each

const checked = {
  createScriptURL(url) {
    if (!DATA_FILE.test(url)) throw new TypeError(`not a file of this gallery: ${url}`);
    return url;
  },
};
const policy = window.trustedTypes ? trustedTypes.createPolicy("flux-gallery", checked) : checked;

// The ids of images that were made of an earlier text: their prompt sets ask for others now.
const obsolete = new Set(gallery.sets.flatMap((set) => set.obsolete));

const expected = new Map(); // by name, who waits for a file
const queue = [];
let loading = 0;

Object.defineProperty(window, "fluxGallery", {
  value(kind, set, number, rows) {
    expected.get(`${kind}/${set}/${number}`)?.(rows);
  },
});

// The rows of one file of data.
function load(kind, set, number, version) {
  return new Promise((resolve, reject) => {
    queue.push({ kind, set, number, version, resolve, reject });
    loadNext();
  });
}

function loadNext() {
  while (loading < MOST_LOADING && queue.length) {
    const { kind, set, number, version, resolve, reject } = queue.shift();
    const file = `${kind}-${String(number).padStart(5, "0")}.js`;
    const script = document.createElement("script");
    const name = `${kind}/${set}/${number}`;
    let rows = null;
    const end = () => {
      expected.delete(name);
      script.remove();
      loading -= 1;
      if (rows) resolve(rows);
      else reject(new Error(`${set}/${file}`));
      loadNext();
    };
    expected.set(name, (came) => { rows = came; });
    script.addEventListener("load", end);
    script.addEventListener("error", end);
    loading += 1;
    const folder = gallery.folders ? `${set}/` : "";
    script.src = policy.createScriptURL(`${folder}${file}?v=${version}`);
    document.head.append(script);
  }
}

// What the models of each set are called on tiles: by their names alone, where these differ. A set
// with one model says nothing of it.
const labels = new Map(
  gallery.sets.filter((set) => set.models.length > 1).map((set) => [set.name, labelsOf(set.models)]),
);

function labelsOf(models) {
  const names = models.map((model) => model.slice(model.indexOf("/") + 1));
  const isOnly = (name) => names.indexOf(name) === names.lastIndexOf(name);
  return new Map(models.map((model, place) => [model, isOnly(names[place]) ? names[place] : model]));
}

// The images asked for, from the lines of a chapter. A line names its model and its page where
// those of the line before are others.
function images(set, lines) {
  let model = "";
  let page = 0;
  let place = 0; // in the page
  return lines.map((line) => {
    model = line[14] ?? model;
    place = line[15] ? 0 : place + 1;
    page = line[15] ?? page;
    return image(set, page, line, place, model);
  });
}

function image(set, page, line, place, model) {
  const [id, name, partition, take, prompt, seed, status, reason, key, width, height, time] = line;
  const [output, digest] = line.slice(12);
  return {
    set, page, id, name, partition, take, prompt, seed, status, reason, width, height, time, model,
    output: output + 1, // from 1, as a person counts
    digest, // in base64
    link: linkTo(key),
    rank: page * 1000 + place,
    place,
    label: labels.get(set)?.get(model) ?? "",
    group: labels.has(set) ? groupName(set, name, partition, prompt, model) : "",
    folded: null, // what the search looks at, made at the first search
  };
}

// The hex digits of a checksum in base64.
const hexOf = (text) =>
  [...atob(text)].map((byte) => byte.charCodeAt(0).toString(16).padStart(2, "0")).join("");

// What a prompt's images by all models of a set have in common: its name without the model's.
function groupName(set, name, partition, prompt, model) {
  const slug = `-${model.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;
  return [name.replace(slug, ""), partition.replace(slug, ""), prompt, set].join("\n");
}

// An address beside this page; empty for everything that is no key of the store.
const linkTo = (key) => (key && KEY.test(key) && !key.includes("..") ? gallery.root + key : "");

// The chapters whose rows were not read yet, that of the newest image first.
const unread = gallery.sets
  .flatMap((set) => set.chapters.map(([number, rows, version, newest, lastPage]) => (
    { set: set.name, number, rows, version, newest, lastPage })))
  .sort((a, b) => b.newest - a.newest || b.lastPage - a.lastPage);

// Read the rows of so many more images, the newest first; `each` is called with the images of a
// chapter, `lost` with a chapter and the name of its file where that is missing.
async function readRows(most, each, lost) {
  let end = 0;
  for (let rows = 0; end < unread.length && rows < most; end += 1) rows += unread[end].rows;
  await Promise.all(unread.slice(0, end).map((chapter) =>
    load("chapter", chapter.set, chapter.number, chapter.version).then(
      (lines) => each(images(chapter.set, lines)),
      (error) => lost(chapter, error.message),
    )));
  unread.splice(0, end);
}

// Whether no image that was not read yet can come before this one, in the order newest first.
function isSettled({ time, page }) {
  const [next] = unread;
  return !next || time > next.newest || (time === next.newest && page > next.lastPage);
}

const details = new Map(); // by page, promises; the page used last stands last
const versions = new Map(
  gallery.sets.flatMap((set) => set.pages.map(([page, tag]) => [`${set.name}/${page}`, tag])),
);

const hasDetails = (item) => details.has(`${item.set}/${item.page}`);

// What is known of an image: {thumbnail, record, sources}, where the record has every field of the
// lineage table, and sources are the pictures that it was made from; null where its page can't be
// loaded.
async function detailsOf(item) {
  const name = `${item.set}/${item.page}`;
  let page = details.get(name);
  if (!page) {
    page = load("details", item.set, item.page, versions.get(name)).then(byRow, () => null);
  }
  details.delete(name);
  details.set(name, page);
  if (details.size > MOST_DETAILS) details.delete(details.keys().next().value);
  return (await page)?.get(item.id) ?? null;
}

function byRow(lines) {
  return new Map(lines.map(([id, thumbnail, ...values]) => [id, {
    thumbnail: thumbnail && `data:image/${thumbnail.startsWith("/9j/") ? "jpeg" : "webp"};base64,${thumbnail}`,
    record: new Map(gallery.fields.map((field, place) => [field, values[place]])),
    sources: (values[gallery.fields.length] ?? []).map(source),
  }]));
}

// A picture that an image was made from: {input, uri, key, link}. One that lies elsewhere has no
// link: it is named, and never loaded.
const source = ([input, uri, key]) => ({ input, uri, key, link: linkTo(key) });
