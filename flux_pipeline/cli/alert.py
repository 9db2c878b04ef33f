"""`flux-pipeline alert`: shows the webhooks that get alerts, and sends a test."""

import sys

import click

from flux_pipeline.cli.announcement import announce
from flux_pipeline.cli.workspace import read_settings
from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.text import count_noun


@click.command()
@click.option("--test", is_flag=True, help="Send a sample message to every webhook.")
def alert(test: bool) -> None:
    """Say where alerts go; with --test, send one.

    Exit code: 1 a webhook did not take it, 2 FLUX_ALERT_URL is not set.
    """
    from flux_pipeline.alerts import Kind, build_alert, build_webhooks, send

    settings = read_settings(None)
    if not settings.alert_url:
        raise ConfigError(
            [Problem("environment", 0, "FLUX_ALERT_URL", "is not set: give a webhook's address")]
        )
    webhooks = build_webhooks(
        settings.alert_url, form=settings.alert_format, secrets=settings.alert_secret
    )
    if not test:
        for webhook in webhooks:
            click.echo(f"{webhook}{', signed' if webhook.secret else ''}")
        click.echo("flux-pipeline alert --test sends a message")
        return
    announce(settings, {"FLUX_ALERT_URL": count_noun(len(webhooks), "webhook")})
    sample = build_alert(
        Kind.TEST,
        "flux-pipeline: a test",
        ["If you can read this, alerts arrive here.", "Nothing failed."],
        links={"web interface": settings.ui_url},
        key="test",
    )
    deliveries = send(sample, webhooks, network=settings.network)
    for each in deliveries:
        click.echo(f"{each.webhook}: {each.problem or 'delivered'}")
    sys.exit(1 if any(each.problem for each in deliveries) else 0)
