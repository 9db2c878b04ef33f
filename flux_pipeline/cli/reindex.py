"""`flux-pipeline reindex`: rebuilds lineage rows and ledger entries from the stored images."""

import json
import sys

import click

from flux_pipeline.cli.progress import counting
from flux_pipeline.cli.workspace import read_settings
from flux_pipeline.text import count_noun

_MOST_LINES = 100
"""Objects that are named; --json has all."""


@click.command()
@click.option(
    "--take-store",
    is_flag=True,
    help="Go on with this store although the ledger's images, or the ledger that wrote them, are"
    " lost for good.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and no text.")
def reindex(take_store: bool, as_json: bool) -> None:
    """Write the lineage rows and ledger entries that are missing, from the images in the store.

    Entries that the store proves wrong, as those of a restored backup, are corrected. Nothing is
    sent and no budget is charged; it may be repeated at any time. Exit code: 0, or 1 where an image
    could not be entered.
    """
    from flux_pipeline.audit.ownership import check_same_store
    from flux_pipeline.audit.ownership import take_store as take
    from flux_pipeline.audit.reindex import reindex as rebuild
    from flux_pipeline.audit.writers import check_only_writer
    from flux_pipeline.ledger.open import open_ledger
    from flux_pipeline.store.open import open_store
    from flux_pipeline.store_options import ONE

    settings = read_settings(None)
    options = settings.store_options
    store = open_store(settings.store, options)
    with open_ledger(settings.ledger) as ledger, counting("requests") as count:
        if not take_store and not ledger.is_empty():
            check_same_store(ledger, store)  # before a folder that was moved away is made anew
        if not take_store and options.writers == ONE:
            check_only_writer(ledger, store)
        store.check()
        if take_store:
            take(ledger, store, only_writer=options.writers == ONE)
        done = rebuild(store, ledger, progress=count)
    if as_json:
        counts = {"images": done.images, "rows": done.rows, "entries": done.entries}
        click.echo(json.dumps({"ok": not done.failed, **counts, "failed": done.failed}))
    else:
        for key, reason in list(done.failed.items())[:_MOST_LINES]:
            click.echo(f"not used: {key}: {reason}")
        if len(done.failed) > _MOST_LINES:
            click.echo(f"and {len(done.failed) - _MOST_LINES} more; --json has all")
        click.echo(
            f"{count_noun(done.images, 'image')}, {count_noun(done.rows, 'lineage row')} and"
            f" {count_noun(done.entries, 'ledger entry', 'ledger entries')} written,"
            f" {count_noun(len(done.failed), 'object')} not used"
        )
    sys.exit(1 if done.failed else 0)
