"""`flux-pipeline held adopt`: the prediction that a person found at the provider."""

import json
import sys
from uuid import uuid4

import click

from flux_pipeline.audit.held import find_held
from flux_pipeline.cli.held_requests import choose_held
from flux_pipeline.cli.opening import open_producer
from flux_pipeline.cli.workspace import read_settings
from flux_pipeline.ledger.base import State

_SHA = 64


@click.command()
@click.argument("request")
@click.argument("prediction_id")
@click.option("--force", is_flag=True, help="Even if the provider does not confirm it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and no text.")
def adopt(request: str, prediction_id: str, force: bool, as_json: bool) -> None:
    """Note that PREDICTION_ID is the REQUEST's, and fetch its images.

    The provider must show it with the request's whole input. REQUEST may be any request's whole
    fingerprint too, as `verify` names it.
    """
    from flux_pipeline.audit.held import adopt as take

    with open_producer(read_settings(None)) as producer:
        sha = request
        if len(request) != _SHA:
            sha = choose_held(find_held(producer.ledger), [request])[0].request_sha256
        done = take(producer, sha, prediction_id, run_id=f"adopt-{uuid4().hex[:12]}", force=force)
        state = producer.ledger.find([sha])[sha].state
    twice = done.state is State.DUPLICATE
    if as_json:
        answer = {"request": sha, "prediction": prediction_id, "paid_twice": twice}
        click.echo(json.dumps(answer | {"state": state.value}))
    elif twice:
        click.echo(f"{prediction_id}: noted as paid twice; the request is {state.value}")
    else:
        reasons = "".join(f": {reason}" for reason in done.rescued.reasons)
        click.echo(f"{prediction_id}: the request is {state.value}{reasons}")
    sys.exit(0 if state is State.STORED else 1)
