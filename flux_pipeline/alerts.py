"""What is told: one alert about one thing, in words, with links. Pure, and without secrets."""

import base64
import hmac
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import httpx

from flux_pipeline.text import safe_line

"""Of one line."""
_MOST_LINES = 12

_HOSTS = {
    "hooks.slack.com": "slack",
    "hooks.slack-gov.com": "slack",
    "oapi.dingtalk.com": "dingtalk",
    "api.dingtalk.com": "dingtalk",
    "open.feishu.cn": "feishu",
    "open.larksuite.com": "feishu",
}

# Brackets make links and pictures, and DingTalk knows no way to escape them.
_FLAT = str.maketrans("[]<>`*#", "(){}'~~")
log = logging.getLogger(__name__)
_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_TRIES = 3
_WAIT = 1.0  # s before the second try, doubled before the third
_LATER = frozenset({429, 500, 502, 503, 504})
_OK = range(200, 300)
_MOST_BYTES = 64 * 1024


class Kind(StrEnum):
    """What an alert is about."""

    RUN_FAILED = "run_failed"
    BUDGET_REACHED = "budget_reached"
    OUT_OF_CREDIT = "out_of_credit"
    """The provider answered 402."""
    KEY_REFUSED = "key_refused"
    """The provider answered 401 or 403."""
    HELD = "held"
    """Requests that may have been paid wait for a person."""
    SCHEDULE_LATE = "schedule_late"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One message. Made by ``build_alert``, which takes secrets out of every text."""

    kind: Kind
    title: str
    """One line."""
    lines: Sequence[str] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    """Addresses of pages by what they show; the first is where to look first."""
    key: str = ""
    """The same thing has the same key, and is told once."""
    prompt_set: str = ""
    run_id: str = ""


def build_alert(
    kind: Kind,
    title: str,
    lines: Sequence[str] = (),
    *,
    links: Mapping[str, str] | None = None,
    key: str = "",
    prompt_set: str = "",
    run_id: str = "",
) -> Alert:
    """An alert in which no text holds a known secret, is endless, or hides characters."""
    shown = [plain for line in lines if (plain := safe_line(line))]
    if len(shown) > _MOST_LINES:
        shown = [*shown[:_MOST_LINES], f"and {len(shown) - _MOST_LINES} more lines"]
    return Alert(
        kind=kind,
        title=safe_line(title),
        lines=tuple(shown),
        links=dict(links or {}),
        key=key,
        prompt_set=prompt_set,
        run_id=run_id,
    )


@dataclass(frozen=True, slots=True)
class Webhook:
    """One address to write to. Neither the address nor the secret is ever shown."""

    url: str = field(repr=False)
    format: str
    """``json``, ``slack``, ``dingtalk`` or ``feishu``."""
    secret: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.format} webhook at {urlsplit(self.url).hostname}"


@dataclass(frozen=True, slots=True)
class Post:
    """What is sent: to where, and the body."""

    url: str = field(repr=False)
    body: bytes


def build_webhooks(
    urls: Sequence[str], *, form: str = "", secrets: Sequence[str] = ()
) -> list[Webhook]:
    """One for each address; an empty ``form`` is guessed from the host, one secret is for all."""
    each = list(secrets) if len(secrets) == len(urls) else [*secrets, ""][:1] * len(urls)
    return [
        Webhook(url, form or _HOSTS.get(urlsplit(url).hostname or "", "json"), secret)
        for url, secret in zip(urls, each, strict=True)
    ]


def build_post(webhook: Webhook, alert: Alert, *, now: float) -> Post:
    """The message as the webhook wants it; ``now`` is Unix seconds, which signatures hold."""
    url, body = webhook.url, _BODIES[webhook.format](alert)
    if webhook.secret and webhook.format == "dingtalk":
        stamp = str(round(now * 1000))
        url = _with_query(url, timestamp=stamp, sign=dingtalk_sign(stamp, webhook.secret))
    elif webhook.secret and webhook.format == "feishu":
        stamp = str(int(now))
        body = {"timestamp": stamp, "sign": feishu_sign(stamp, webhook.secret), **body}
    return Post(url, json.dumps(body, ensure_ascii=False).encode())


def dingtalk_sign(milliseconds: str, secret: str) -> str:
    """HMAC-SHA256 of "timestamp, newline, secret" under the secret; not yet percent-encoded."""
    text = f"{milliseconds}\n{secret}"
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha256")).decode()


def feishu_sign(seconds: str, secret: str) -> str:
    """HMAC-SHA256 of nothing under "timestamp, newline, secret": the text is the key."""
    key = f"{seconds}\n{secret}"
    return base64.b64encode(hmac.digest(key.encode(), b"", "sha256")).decode()


def refusal(webhook: Webhook, reply: bytes) -> str:
    """Why a webhook that answered 200 did not take the message; empty where it did.

    DingTalk and Feishu say it in the body.
    """
    names = {"dingtalk": ("errcode", "errmsg"), "feishu": ("code", "msg")}.get(webhook.format)
    if names is None:
        return ""
    try:
        answer = json.loads(reply)
        code = answer.get(names[0], answer.get("StatusCode"))
    except (ValueError, AttributeError):
        return "it answered what is no JSON object"
    return "" if code == 0 else f"it answered {code}: {str(answer.get(names[1], ''))[:200]}"


def _json(alert: Alert) -> Mapping[str, Any]:
    return {
        "source": "flux-pipeline",
        "kind": alert.kind.value,
        "title": alert.title,
        "text": "\n".join([alert.title, *alert.lines]),
        "lines": list(alert.lines),
        "links": dict(alert.links),
        "prompt_set": alert.prompt_set,
        "run_id": alert.run_id,
        "key": alert.key,
    }


def _slack(alert: Alert) -> Mapping[str, Any]:
    lines = [f"*{_slack_text(alert.title)}*", *map(_slack_text, alert.lines)]
    lines += [" · ".join(f"<{url}|{_slack_text(name)}>" for name, url in alert.links.items())]
    return {"text": "\n".join(filter(None, lines)), "unfurl_links": False}


def _slack_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _dingtalk(alert: Alert) -> Mapping[str, Any]:
    title = alert.title.translate(_FLAT)
    lines = [f"### {title}", *(f"- {line.translate(_FLAT)}" for line in alert.lines)]
    links = " · ".join(f"[{name}]({url})" for name, url in alert.links.items())
    text = "\n".join(lines) + (f"\n\n{links}" if links else "")
    return {
        "msgtype": "markdown",
        "markdown": {"title": title, "text": text},
        "at": {"isAtAll": False},
    }


def _feishu(alert: Alert) -> Mapping[str, Any]:
    # Rich text: what is tagged as text is never read as markup.
    content: list[list[dict[str, str]]] = [[{"tag": "text", "text": text}] for text in alert.lines]
    for name, url in alert.links.items():
        content.append([{"tag": "a", "text": name, "href": url}])
    post = {"title": alert.title, "content": content}
    return {"msg_type": "post", "content": {"post": {"zh_cn": post}}}


_BODIES: Mapping[str, Callable[[Alert], Mapping[str, Any]]] = {
    "json": _json,
    "slack": _slack,
    "dingtalk": _dingtalk,
    "feishu": _feishu,
}


def _with_query(url: str, **more: str) -> str:
    parts = urlsplit(url)
    query = [*parse_qsl(parts.query, keep_blank_values=True), *more.items()]
    return urlunsplit(parts._replace(query=urlencode(query)))


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
    return safe_line(refusal(webhook, body)), False
