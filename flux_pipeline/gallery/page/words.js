// Words: text made comparable, and numbers made readable.

const byId = (id) => document.getElementById(id);

// A new element with text and attributes. Text from outside comes in here and nowhere else: it is
// never parsed. `attributes` are names of this script's own, their values are strings.
function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// Case and accents don't count, in any script: full-width letters are letters, and ß is ss.
function fold(text) {
  return text
    .normalize("NFKD")
    .toLowerCase() // so that ẞ is ß, which then is SS
    .toUpperCase()
    .toLowerCase()
    .normalize("NFKD")
    .replace(/[\u0300-\u036f]/g, "")
    .replace(/ς/g, "σ");
}

const counting = new Intl.NumberFormat("en");
const count = (number, one, many = `${one}s`) =>
  `${counting.format(number)} ${number === 1 ? one : many}`;

function sized(bytes) {
  if (!(bytes >= 1000)) return `${bytes} bytes`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

// "2026-11-01 12:00:04 UTC" of an ISO time.
const moment = (iso) => `${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC`;
