// CSV: the file of picks, read as spreadsheets save it and written as the pipeline reads it.

const PICK_COLUMNS = ["prompt", "partition", "take", "output", "image_sha256", "note"];
const MOST_PICKS = 100000;
const WHOLE = /^[1-9][0-9]{0,4}(\.0+)?$/;
const SHA256 = /^[0-9a-f]{64}$/;

// The picks of a file; throws an error that says which rows are wrong.
async function readPicks(file, byDay) {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  } catch {
    throw new Error("is not UTF-8: save it as CSV UTF-8");
  }
  return parsePicks(text, byDay);
}

function parsePicks(text, byDay) {
  const [header = [], ...rows] = parseCsv(text);
  const names = header.map((name) => name.trim().toLowerCase());
  const unknown = names.filter((name) => name && !PICK_COLUMNS.includes(name));
  if (!names.includes("prompt")) throw new Error("has no column prompt: is it a file of picks?");
  if (unknown.length) throw new Error(`has a column ${unknown[0]}; there are ${PICK_COLUMNS.join(", ")}`);
  const mistakes = [];
  const picks = [];
  rows.forEach((cells, place) => {
    if (!cells.some((cell) => cell.trim())) return;
    const row = Object.fromEntries(names.map((name, n) => [name, (cells[n] ?? "").trim()]));
    const wrong = cells.length === names.length ? mistakeOf(row, byDay)
      : `has ${cells.length} cells, the header ${names.length}`;
    if (wrong) mistakes.push(`row ${place + 1} ${wrong}`);
    else picks.push(pickOf(row));
  });
  const first = new Map();
  picks.forEach((pick, n) => {
    if (first.has(placeOf(pick))) mistakes.push(`${pick.prompt}, take ${pick.take} stands there twice`);
    first.set(placeOf(pick), n);
  });
  if (picks.length > MOST_PICKS) mistakes.push(`it has more than ${counting.format(MOST_PICKS)} picks`);
  if (mistakes.length) {
    const more = mistakes.length > 5 ? ` and ${mistakes.length - 5} more` : "";
    throw new Error(`${mistakes.slice(0, 5).join("; ")}${more}`);
  }
  return picks;
}

function mistakeOf(row, byDay) {
  if (!row.prompt) return "names no prompt";
  for (const name of ["take", "output"]) {
    if (row[name] && !WHOLE.test(row[name])) return `has no number from 1 on as ${name}: ${row[name]}`;
  }
  const digest = (row.image_sha256 ?? "").toLowerCase();
  if (digest && !SHA256.test(digest)) return "has an image_sha256 that is not 64 hex digits";
  if (row.partition && !byDay) return "has a partition, which is for sets by day";
  if (row.partition && !/^\d{4}-\d\d-\d\d$/.test(row.partition)) {
    return `has no day YYYY-MM-DD as partition: ${row.partition}`;
  }
  return "";
}

const pickOf = (row) => ({
  prompt: row.prompt,
  partition: row.partition ?? "",
  take: Number(row.take || 1),
  output: Number(row.output || 1),
  image_sha256: (row.image_sha256 ?? "").toLowerCase(),
  note: row.note ?? "",
});

// Rows of cells; a cell in quotes may hold separators, line ends and doubled quotes.
function parseCsv(whole) {
  let text = whole.replace(/^\uFEFF/, "").replace(/\r\n?/g, "\n");
  const said = /^sep=(.)\n/.exec(text);
  if (said) text = text.slice(said[0].length);
  const head = text.split("\n", 1)[0];
  const separator = said?.[1] ?? [",", ";", "\t"].find((sign) => head.includes(sign)) ?? ",";
  const rows = [];
  let row = [];
  let cell = "";
  let quoted = false;
  const endRow = () => {
    rows.push([...row, cell]);
    row = [];
    cell = "";
  };
  for (let at = 0; at < text.length; at += 1) {
    const sign = text[at];
    if (quoted) {
      if (sign !== '"') cell += sign;
      else if (text[at + 1] === '"') { cell += sign; at += 1; }
      else quoted = false;
    } else if (sign === '"' && !cell) quoted = true;
    else if (sign === separator) { row.push(cell); cell = ""; }
    else if (sign === "\n") endRow();
    else cell += sign;
  }
  if (quoted) throw new Error("has a quotation mark that is never closed");
  if (cell || row.length) endRow();
  return rows;
}

// The file of these picks; `partition` is a column only in sets by day.
function writePicks(picks, byDay) {
  const columns = PICK_COLUMNS.filter((name) => byDay || name !== "partition");
  const lines = picks.map((pick) => columns.map((name) => csvCell(`${pick[name]}`)).join(","));
  const text = `${[columns.join(","), ...lines].join("\n")}\n`;
  // By this mark Excel knows that it is UTF-8; other readers skip it.
  return /[^\x00-\x7f]/.test(text) ? `\uFEFF${text}` : text;
}

const csvCell = (text) => (/[",;\t\n\r]|^\s|\s$/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
