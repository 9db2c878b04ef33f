"""Sends alerts: never raises into a run, never waits long, never shows an address."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import httpx

from flux_pipeline.alerts.message import Alert, plain_line
from flux_pipeline.alerts.webhooks import Webhook, build_post, refusal

log = logging.getLogger(__name__)

_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_TRIES = 3
_WAIT = 1.0  # s before the second try, doubled before the third
_LATER = frozenset({429, 500, 502, 503, 504})
_OK = range(200, 300)
_MOST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one message at one webhook."""

    webhook: Webhook
    problem: str = ""
    """Why it was not taken; empty where it was."""


def send(
    alert: Alert, webhooks: Sequence[Webhook], *, wait: Callable[[float], None] = time.sleep
) -> list[Delivery]:
    """Send one alert to every webhook, and log what could not be delivered, once a webhook.

    Never raises for a webhook that is away, wrong or slow; it takes a minute at most. A try is
    repeated where the message was not taken, and not where the answer was lost: a message that
    comes late is better than one that comes twice.
    """
    # httpx writes whole addresses at INFO, and these are secrets.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    headers = {
        "user-agent": f"flux-pipeline/{version('flux-pipeline')}",
        "content-type": "application/json; charset=utf-8",
    }
    done = []
    with httpx.Client(timeout=_TIMEOUT, headers=headers, follow_redirects=False) as client:
        for webhook in webhooks:
            problem = _deliver(client, webhook, alert, wait)
            if problem:
                log.warning("alert %r not delivered to the %s: %s", alert.title, webhook, problem)
            done.append(Delivery(webhook, problem))
    return done


def _deliver(
    client: httpx.Client, webhook: Webhook, alert: Alert, wait: Callable[[float], None]
) -> str:
    problem = ""
    for attempt in range(_TRIES):
        if attempt:
            wait(_WAIT * 2.0 ** (attempt - 1))
        problem, again = _post(client, webhook, alert)
        if not again:
            break
    return problem


def _post(client: httpx.Client, webhook: Webhook, alert: Alert) -> tuple[str, bool]:
    """Why it was not taken, and whether another try may help."""
    post = build_post(webhook, alert, now=time.time())
    try:
        with client.stream("POST", post.url, content=post.body) as reply:
            body = b""
            for chunk in reply.iter_bytes():
                body += chunk
                if len(body) > _MOST_BYTES:
                    break
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        return f"it can't be reached ({type(error).__name__})", True
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # Only the kind: the message of some holds the address.
        return f"no answer came ({type(error).__name__})", False
    if reply.status_code not in _OK:
        return f"it answered {reply.status_code}", reply.status_code in _LATER
    return plain_line(refusal(webhook, body)), False
