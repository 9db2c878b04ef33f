// Panel: everything that the lineage table knows of one image, and the commands that follow it.

const GROUPS = {
  Request: {
    prompt_set: "prompt set", prompt_name: "prompt name", take: "take", partition: "partition",
    seed: "seed", seed_source: "seed is from", aspect_ratio: "aspect ratio",
    num_inference_steps: "steps", num_outputs: "images asked", output_index: "output index",
    hf_lora: "LoRA", lora_scale: "LoRA scale",
  },
  Model: {
    model: "model", version: "version", served_version: "version served", provider: "provider",
  },
  Result: {
    status: "status", error: "remark", format: "format", bytes: "size", uri: "lies at",
    credentials: "content credentials",
    requested_at: "requested", completed_at: "finished", stored_at: "stored",
    predict_seconds: "took", attempts: "attempt", polls: "polls", cost_usd: "cost",
  },
  Run: {
    run_id: "run", asset: "asset", config_path: "config file", config_sha256: "config SHA-256",
    code_version: "commit",
  },
  Identity: {
    prediction_id: "prediction", request_sha256: "request SHA-256",
    image_sha256: "pixel SHA-256", file_sha256: "file SHA-256", dhash: "difference hash",
  },
};
const NO_REASON = "no reason was given";
const APART = new Set(["prompt", "input", "input_images", "width", "height"]); // shown in their own way
const IMAGE_KEY = /^images\/([a-z0-9_]+)\/(.+)\.[a-z]+$/;

const UNITS = {
  bytes: (value) => sized(Number(value)),
  predict_seconds: (value) => `${value} s`,
  cost_usd: (value) => `${value} USD, estimated`,
  requested_at: moment,
  completed_at: moment,
  stored_at: moment,
};

// The panel's content; `known` is null where the details could not be loaded.
function panelOf(item, known) {
  const record = known?.record;
  const parts = [element("p", item.prompt, { class: "prompt", dir: "auto" })];
  if (obsolete.has(item.id)) {
    parts.push(element("p", "Made of an earlier text: its prompt set asks for another now.",
      { class: "bad" }));
  }
  if (item.status !== "stored" || !item.link) {
    const reason = record?.get("error")?.replace(/^held: /, "") || item.reason || NO_REASON;
    parts.push(element("p", `${item.status}: ${reason}`, { class: "bad", dir: "auto" }));
  }
  if (!record) {
    parts.push(element("p", "Its details could not be loaded; build the gallery again.",
      { class: "bad" }));
    return parts;
  }
  parts.push(...choiceOf(item));
  parts.push(...sourcesOf(known.sources));
  parts.push(...commandsOf(item, record));
  if (item.link) {
    parts.push(element("a", "Open the file", { href: item.link, target: "_blank", rel: "noopener" }));
  }
  const named = new Set(APART);
  for (const [title, labels] of Object.entries(GROUPS)) {
    Object.keys(labels).forEach((name) => named.add(name));
    parts.push(...groupOf(title, labels, record, item));
  }
  const others = [...record.keys()].filter((name) => !named.has(name));
  parts.push(...groupOf("Others", Object.fromEntries(others.map((n) => [n, n])), record, item));
  parts.push(element("h3", "Input as it was sent"), element("pre", pretty(record.get("input"))));
  return parts;
}

// Of a chosen image its note, and whether it was made anew since.
function choiceOf(item) {
  const pick = canPick(item) && pickOfItem(item);
  if (!pick) return [];
  const parts = [];
  if (stateOf(item) === "stale") {
    const said = "It was made anew after it was chosen: look again, and choose it again (x) or another.";
    parts.push(element("p", said, { class: "bad" }));
  }
  const label = element("label", "Note on the choice", { class: "note" });
  const field = element("input", "", { value: pick.note, maxlength: "500", dir: "auto" });
  field.addEventListener("change", () => noteOn(item, field.value.trim()));
  label.append(field);
  return [...parts, label];
}

// The pictures that it was made from, small; each leads to itself in its own set's gallery.
function sourcesOf(sources) {
  if (!sources.length) return [];
  const shown = element("ul", "", { class: "sources" });
  for (const each of sources) {
    const line = element("li");
    const words = element("span");
    words.append(element("span", each.input, { class: "quiet" }));
    if (each.link) {
      const small = element("img", "", { alt: "", src: each.link, decoding: "async" });
      small.addEventListener("error", () => {
        small.remove();
        words.append(element("span", "its file is not there", { class: "quiet" }));
      });
      line.append(small);
    }
    const address = galleryOf(each);
    words.append(address ? element("a", nameOf(each), { href: address })
      : element("span", `${each.uri || "an address that is not known"}, which lies elsewhere`,
        { dir: "auto" }));
    line.append(words);
    shown.append(line);
  }
  return [element("h3", "Made from"), shown];
}

// Where a picture is in its own set's gallery: on this page, where it has that set's images.
function galleryOf({ key, link }) {
  const set = link && IMAGE_KEY.exec(key)?.[1];
  if (!set) return link;
  const place = `#${new URLSearchParams({ image: key })}`;
  const isHere = gallery.sets.some(({ name }) => name === set);
  return isHere ? place : `${gallery.root}galleries/${set}/index.html${place}`;
}

function nameOf({ key }) {
  const [, set, name] = IMAGE_KEY.exec(key) ?? ["", "", key];
  return set ? `${set} / ${name}` : name;
}

function groupOf(title, labels, record, item) {
  const facts = element("dl");
  for (const [name, label] of Object.entries(labels)) {
    let value = record.get(name);
    if (value === null || value === undefined || value === "") continue;
    if (UNITS[name]) value = UNITS[name](value);
    if (name === "status" && item.status === "held") value = "held";
    if (name === "format" && item.width) value = `${item.width} × ${item.height} px ${value}`;
    facts.append(element("dt", label), element("dd", value, { dir: "auto", "data-field": name }));
  }
  return facts.childElementCount ? [element("h3", title), facts] : [];
}

function commandsOf(item, record) {
  const pixels = record.get("image_sha256");
  const id = pixels || record.get("prediction_id") || record.get("request_sha256");
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(id)) return []; // nothing that a shell reads
  const verbs = item.status === "stored" ? ["trace", "reproduce"] : ["trace"];
  return verbs.map((verb) => {
    const row = element("div", "", { class: "command" });
    const code = element("code", `flux-pipeline ${verb} ${id}`, { tabindex: "0" });
    const button = element("button", "Copy", {
      type: "button", "aria-label": `Copy the command flux-pipeline ${verb}`,
    });
    button.addEventListener("click", () => copy(code, button));
    row.append(code, button);
    return row;
  });
}

async function copy(code, button) {
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch { // over plain http there is no clipboard to ask for
    getSelection().selectAllChildren(code);
    if (!document.execCommand("copy")) return;
    getSelection().removeAllRanges();
  }
  byId("viewer-says").textContent = "The command was copied.";
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json ?? "";
  }
}
