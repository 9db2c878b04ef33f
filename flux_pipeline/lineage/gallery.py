"""A contact sheet of one prompt set: rows in, one HTML page out, without a script.

All text is escaped and the page's own policy forbids everything but pictures beside it and its one
style sheet, so that a prompt or an error text from outside stays text.
"""

import base64
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from urllib.parse import quote

from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.lineage.spending import Totals

MOST_SHOWN = 1_000
"""Rows that one page should be given: more make it slow to open."""


def gallery_key(prompt_set: str) -> str:
    """Where the page lies in the store; ``build_gallery`` links from there."""
    return f"galleries/{prompt_set}.html"


def build_gallery(
    prompt_set: str,
    records: Iterable[ImageRecord],
    *,
    totals: Totals,
    store_uri: str,
    description: str = "",
    now: datetime,
) -> str:
    """Build the page: a section a prompt, in alphabetical order, the newest run's pictures first.

    Pictures are linked relative to ``gallery_key``, so the page works in a folder, and where a
    bucket is served as it is. What did not come is shown with its reason.
    """
    shown: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in _newest_first(records):
        shown[record.prompt_name].append(record)
    facts = [
        f"{totals.stored:,} images",
        f"{totals.missing:,} not made",
        f"{totals.usd:.2f} USD",
        f"as of {now:%Y-%m-%d %H:%M} UTC",
    ]
    if totals.stored + totals.missing > sum(map(len, shown.values())):
        facts.append("the newest are shown, the lineage table has all")
    sections = "\n".join(_section(name, shown[name], store_uri) for name in sorted(shown))
    return _PAGE.format(
        policy=_POLICY,
        style=_STYLE,
        title=escape(prompt_set),
        description=escape(description),
        facts=" · ".join(facts),
        sections=sections or "<p>Nothing was made yet.</p>",
    )


def _newest_first(records: Iterable[ImageRecord]) -> list[ImageRecord]:
    """By run, the newest first; within a run by day, take and place."""
    rows = list(records)
    newest: dict[str, float] = defaultdict(float)
    for row in rows:
        when = row.stored_at or row.completed_at or row.requested_at
        newest[row.run_id] = max(newest[row.run_id], when.timestamp() if when else 0.0)
    rows.sort(key=lambda row: (row.take, row.output_index))
    rows.sort(key=lambda row: (newest[row.run_id], row.partition), reverse=True)
    return rows


def _section(name: str, records: Sequence[ImageRecord], store_uri: str) -> str:
    figures = "\n".join(_figure(record, store_uri) for record in records)
    return (
        f'<section aria-labelledby="{escape(name)}"><h2 id="{escape(name)}">{escape(name)}</h2>'
        f"\n<ul>\n{figures}\n</ul></section>"
    )


def _figure(record: ImageRecord, store_uri: str) -> str:
    key = (record.uri or "").removeprefix(f"{store_uri}/")
    if record.status is not ImageStatus.STORED:
        reason = escape(record.error or "no reason was given")
        picture = f'<p class="missing"><strong>{record.status}</strong> {reason}</p>'
    elif key == record.uri:
        picture = f'<p class="missing">lies in another store: {escape(key)}</p>'
    else:
        link = escape(f"../{quote(key)}")
        size = f'width="{record.width}" height="{record.height}"' if record.width else ""
        picture = (
            f'<a href="{link}"><img src="{link}" alt="{escape(record.prompt)}" {size}'
            ' loading="lazy" decoding="async"></a>'
        )
    return (
        f"<li><figure>{picture}\n<figcaption>{escape(record.prompt)}"
        f'<span class="facts">{escape(_facts(record))}</span></figcaption></figure></li>'
    )


def _facts(record: ImageRecord) -> str:
    facts = [f"take {record.take}"]
    if record.partition not in ("", record.prompt_name):
        facts.append(record.partition)
    if record.seed is not None:
        facts.append(f"seed {record.seed}")
    if record.width:
        facts.append(f"{record.width} x {record.height} px {record.format}")
    if record.stored_at:
        facts.append(f"{record.stored_at:%Y-%m-%d %H:%M}")
    return " · ".join([*facts, f"request {record.request_sha256[:12]}"])


_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1f; --quiet: #5a5a66; --paper: #fbfaf8;
  --card: #fff; --line: #dedbd5; --warn: #8a1c1c }
@media (prefers-color-scheme: dark) { :root { --ink: #ececf1; --quiet: #a9a9b8; --paper: #131316;
  --card: #1d1d22; --line: #34343c; --warn: #ff9d94 } }
body { margin: 0 auto; max-width: 90rem; padding: 2rem clamp(1rem, 4vw, 3rem);
  background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }
h1 { margin: 0; font-size: 2rem; letter-spacing: -.01em }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.15rem; border-bottom: 1px solid var(--line) }
header p { margin: .25rem 0; color: var(--quiet) }
ul { margin: 0; padding: 0; list-style: none; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(16rem, 100%), 1fr)) }
figure { margin: 0; height: 100%; overflow: hidden; border: 1px solid var(--line);
  border-radius: .5rem; background: var(--card) }
img { display: block; width: 100%; height: auto; background: var(--line) }
a:focus-visible { outline: 3px solid Highlight; outline-offset: -3px }
figcaption, .missing { padding: .6rem .8rem; margin: 0; overflow-wrap: anywhere; font-size: .9rem }
.facts { display: block; margin-top: .25rem; color: var(--quiet); font-size: .8rem }
.missing { color: var(--warn) }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; img-src 'self' file:; style-src 'sha256-{_HASH}'; base-uri 'none';"
    " form-action 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1>
<p>{description}</p>
<p>{facts}</p></header>
<main>
{sections}
</main>
</body>
</html>
"""
