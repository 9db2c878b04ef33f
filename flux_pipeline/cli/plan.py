"""`flux-pipeline plan`: what a run would make and cost; nothing is sent."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from flux_pipeline.cli.workspace import choose_partitions, choose_sets, read_settings
from flux_pipeline.produce.plan import Forecast, SetForecast, forecast


@click.command()
@click.argument("sets", nargs=-1, metavar="[SET]...")
@click.option(
    "--configs", type=click.Path(path_type=Path), help="Folder of prompt sets. [FLUX_CONFIGS]"
)
@click.option("--partition", metavar="KEY", help="One partition: a prompt, a shard or a day.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and no table.")
def plan(sets: tuple[str, ...], configs: Path | None, partition: str | None, as_json: bool) -> None:
    """Say what would be made, what exists already, and what it would cost.

    Costs are estimates from the model's price table; times assume the configured rate.
    """
    from flux_pipeline.ledger.opening import open_ledger

    settings = read_settings(configs)
    forecasts: dict[str, SetForecast] = {}
    total = Forecast()
    with open_ledger(settings.ledger) as ledger:
        for prompt_set in choose_sets(settings, sets):
            for problem in prompt_set.warnings:
                click.echo(f"warning: {problem}", err=True)
            requests = prompt_set.requests(choose_partitions(prompt_set, partition))
            forecasts[prompt_set.name] = forecast(requests, ledger)
            total.merge(forecasts[prompt_set.name].total)
    if as_json:
        click.echo(json.dumps(_as_json(forecasts, total, settings.rate)))
    else:
        _print_table(forecasts, total, settings.rate)


def _as_json(forecasts: Mapping[str, SetForecast], total: Forecast, rate: float) -> dict[str, Any]:
    sets = {
        name: _counts(each.total, rate)
        | {"partitions": {key: _counts(value, rate) for key, value in each.partitions.items()}}
        for name, each in forecasts.items()
    }
    return {"sets": sets, "total": _counts(total, rate)}


def _counts(forecast: Forecast, rate: float) -> dict[str, int | float]:
    return {
        "requests": forecast.requests,
        "images": forecast.images,
        "unchanged": forecast.unchanged,
        "new": forecast.new,
        "resumed": forecast.resumed,
        "held": forecast.held,
        "refused": forecast.refused,
        "usd": round(forecast.usd, 6),
        "seconds": round(forecast.seconds(rate), 3),
    }


def _print_table(forecasts: Mapping[str, SetForecast], total: Forecast, rate: float) -> None:
    table = Table("prompt set", box=None, pad_edge=False)
    for heading in ("requests", "images", "unchanged", "new", "resumed", "held", "USD", "time"):
        table.add_column(heading, justify="right")
    rows = [(name, each.total, "") for name, each in sorted(forecasts.items())]
    if len(rows) > 1:
        rows.append(("total", total, "bold"))
    for name, each, style in rows:
        counts = (each.requests, each.images, each.unchanged, each.new, each.resumed, each.held)
        minutes, seconds = divmod(round(each.seconds(rate)), 60)
        cells = [*map(str, counts), f"{each.usd:.4f}", f"{minutes}:{seconds:02d}"]
        table.add_row(name, *cells, style=style)
    Console().print(table)
