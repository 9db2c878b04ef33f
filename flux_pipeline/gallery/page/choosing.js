// Choosing: the bar that counts what is chosen, downloads it as a file and takes one up again.

const MOST_NAMED = 3;
const picksBar = byId("picks");

// Show what is chosen everywhere on the page.
function showPicks() {
  recount(all);
  markTiles();
  markViewer();
  const { chosen, stale, prompts, undecided } = picking.counts;
  sayCount("chosen", chosen);
  sayCount("undecided", undecided);
  sayCount("stale", stale);
  const sets = [...selections.values()];
  const isUsed = sets.some((set) => usesPicks(set) || changesOf(set).length);
  picksBar.hidden = !isUsed;
  document.body.classList.toggle("choosing", isUsed);
  if (isUsed) grid.finish(); // what is undecided is known of all images alone
  if (!isUsed) {
    byId("picks-say").replaceChildren();
    return;
  }
  form.elements.pick[3].closest("label").hidden = !stale && form.elements.pick.value !== "stale";
  byId("picks-files").replaceChildren(...sets.filter(isOffered).map(downloadButton));
  byId("picks-count").textContent = loaded
    ? `${count(chosen, "image")} chosen, ${counting.format(undecided)} of ${count(prompts, "prompt")} undecided`
    : "";
  byId("picks-say").replaceChildren(...sets.flatMap(remarksOn));
}

function sayCount(name, number) {
  picksBar.querySelector(`[data-count=${name}]`).textContent = loaded ? counting.format(number) : "…";
}

// On the page over all sets only those are offered that something was changed of, or that is shown.
const isOffered = (set) => gallery.sets.length === 1 || changesOf(set).length > 0
  || form.elements.set.value === set.name;

// The download can take the place of the set's own file, wherever that is.
function fileOf(set) {
  const own = set.file.split("/").at(-1);
  return own.toLowerCase().endsWith(".csv") ? own : `${set.name}.csv`;
}

function downloadButton(set) {
  const button = element("button", `Download ${fileOf(set)}`, { type: "button", "data-set": set.name });
  button.disabled = !set.now.size && !changesOf(set).length;
  button.addEventListener("click", () => {
    const file = new Blob([writePicks([...set.now.values()], set.byDay)], { type: "text/csv" });
    const link = element("a", "", { href: URL.createObjectURL(file), download: fileOf(set) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    keep(set, true);
    showPicks();
  });
  return button;
}

// What has to be known of a set's picks beyond their number.
function remarksOn(set) {
  const changes = changesOf(set).length;
  const remarks = [];
  if (set.problem) {
    remarks.push(remark(`${set.file} can't be read: ${set.problem}. Mend it, or load another file.`, "bad"));
  }
  const lost = picking.lost.filter(([each]) => each === set).map(([, each]) => each);
  if (loaded && lost.length) {
    const named = lost.slice(0, MOST_NAMED).map((each) => [
      each.prompt, each.partition, `take ${each.take}`, each.output > 1 ? `image ${each.output}` : "",
    ].filter(Boolean).join(" ")).join(", ");
    const more = lost.length > MOST_NAMED ? ` and ${lost.length - MOST_NAMED} more` : "";
    const said = `${count(lost.length, "pick names", "picks name")} no image of ${set.name}: ${named}${more}.`;
    remarks.push(remark(said, "bad", "Leave out", () => {
      lost.forEach((each) => set.now.delete(placeOf(each)));
      keep(set);
      showPicks();
    }));
  }
  if (changes) {
    remarks.push(remark(changeRemark(set, changes), "", set.file ? "Back to the file" : "Undo all",
      () => replacePicks(set, [...set.base.values()])));
  }
  return remarks;
}

function changeRemark(set, changes) {
  const where = set.file || `picks/${set.name}.csv`;
  const use = set.file ? `it takes the place of ${where}`
    : `put it there as ${where}, beside the prompt set, and write choose: ${where} in that`;
  if (set.downloaded) {
    return `${fileOf(set)} was downloaded: ${use}. Until the gallery is built with it, this browser`
      + " keeps it too.";
  }
  const what = `${count(changes, "change")} to ${gallery.sets.length > 1 ? `${set.name}'s` : "the"} picks`;
  return picking.keeps ? `${what}, kept in this browser alone until you download ${fileOf(set)}.`
    : `${what}, lost when this page closes: this browser keeps nothing. Download ${fileOf(set)}.`;
}

function remark(said, kind, label = "", act = null) {
  const line = element("p", `${said} `, kind ? { class: kind } : {});
  if (label) {
    const button = element("button", label, { type: "button", class: "link" });
    button.addEventListener("click", act);
    line.append(button);
  }
  return line;
}

byId("picks-load").addEventListener("change", async ({ target }) => {
  const [file] = target.files;
  target.value = ""; // so that the same file can be loaded again
  if (!file) return;
  const stem = file.name.replace(/( ?\(\d+\))?\.csv$/i, "").replaceAll("-", "_");
  const named = gallery.sets.length === 1 ? gallery.sets[0].name : form.elements.set.value;
  const set = selections.get(named) ?? selections.get(stem);
  const say = byId("picks-loaded");
  say.className = "bad";
  if (!set) {
    say.textContent = `${file.name}: choose the set that it is for in the filters, then load it again.`;
    return;
  }
  try {
    replacePicks(set, await readPicks(file, set.byDay));
    say.className = "";
    say.textContent = `${file.name} was loaded: ${count(set.now.size, "pick")}.`;
  } catch (error) {
    say.textContent = `${file.name} ${error.message}. Nothing was loaded.`;
  }
});

// Another window of this gallery has changed what is chosen.
addEventListener("storage", ({ key }) => {
  const set = [...selections.values()].find((each) => key === storageKey(each));
  if (!set) return;
  recall(set);
  showPicks();
});

const help = byId("help");
byId("keys").addEventListener("click", () => help.showModal());
help.addEventListener("click", (event) => {
  if (event.target === help || event.target.closest("button")) help.close();
});

picking.changed = showPicks;
