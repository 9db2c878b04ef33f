"""How each kind of webhook wants a message and its signature, and what it answers. Pure.

Text of others - a provider's reply, a prompt's name - is in every message. So what a format reads
as markup, a link or a call to everybody is taken out or escaped.
"""

import base64
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from flux_pipeline.alerts.message import Alert

_HOSTS = {
    "hooks.slack.com": "slack",
    "hooks.slack-gov.com": "slack",
    "oapi.dingtalk.com": "dingtalk",
    "api.dingtalk.com": "dingtalk",
    "open.feishu.cn": "feishu",
    "open.larksuite.com": "feishu",
}


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


# Brackets make links and pictures, and DingTalk knows no way to escape them.
_FLAT = str.maketrans("[]<>`*#", "(){}'~~")


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
