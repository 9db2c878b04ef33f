"""Sends alerts to webhooks (JSON, Slack, DingTalk, Feishu), with the signatures that they want.

An alert is built by ``build_alert``, which takes secrets out of every text. ``send`` never raises
for a webhook that fails and takes a minute at most; no address and no secret is logged. Text of
others, such as a provider's reply, is in every message: markup, links and mentions in it are
escaped.
"""

import base64
import hmac
import json
import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from html import escape
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from flux_pipeline.endpoint import find_user_mistake
from flux_pipeline.network import Network
from flux_pipeline.provider.tls import describe_failure, find_ca_mistake, verifying_context
from flux_pipeline.text import safe_line

if TYPE_CHECKING:  # it takes 0.1 s, and few processes send an alert
    import httpx

log = logging.getLogger(__name__)
_MAX_LINES = 12
_HOSTS = {
    "hooks.slack.com": "slack",
    "hooks.slack-gov.com": "slack",
    "oapi.dingtalk.com": "dingtalk",
    "api.dingtalk.com": "dingtalk",
    "open.feishu.cn": "feishu",
    "open.larksuite.com": "feishu",
}
"""Format of the webhooks of a host; of any other it is ``json``."""
_TIMEOUT, _CONNECT_TIMEOUT = 10.0, 5.0  # s
_TRIES = 3
_FIRST_WAIT = 1.0
"""s before the second try, doubled before the third."""
_RETRYABLE = frozenset({429, 500, 502, 503, 504})
_SUCCESS = range(200, 300)
_MAX_REPLY_BYTES = 64 * 1024
_WITHOUT_MARKUP = str.maketrans("[]<>`*#", "(){}'~~")
"""Markdown's marks, which DingTalk knows no way to escape, become harmless ones."""


class Kind(StrEnum):
    """The event that an alert reports."""

    RUN_FAILED = "run_failed"
    BUDGET_REACHED = "budget_reached"
    OUT_OF_CREDIT = "out_of_credit"
    """The provider answered 402."""
    KEY_REFUSED = "key_refused"
    """The provider answered 401 or 403."""
    NOT_STORED = "not_stored"
    """Images are paid, and are lost if nobody acts before the provider deletes them."""
    STOPPED = "stopped"
    """A run creates nothing more until a person acts: the store, the ledger or a setting."""
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
    """URLs of pages by their titles; the page to look at first comes first."""
    key: str = ""
    """Alerts of the same event have the same key; it is sent once."""
    prompt_set: str = ""
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook. Neither its address nor its secret is in any representation."""

    url: str = field(repr=False)
    format: str
    """``json``, ``slack``, ``dingtalk`` or ``feishu``."""
    secret: str = field(default="", repr=False)

    def __str__(self) -> str:
        if find_user_mistake(self.url):
            return f"{self.format} webhook whose address can't be read"
        return f"{self.format} webhook at {urlsplit(self.url).hostname}"


@dataclass(frozen=True, slots=True)
class Post:
    """One HTTP request: URL and body."""

    url: str = field(repr=False)
    body: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """The outcome of sending one alert to one webhook."""

    webhook: Webhook
    problem: str = ""
    """Why it was not delivered; empty where it was."""


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
    """An alert whose texts are redacted, shortened and free of invisible characters."""
    shown = [plain for line in lines if (plain := safe_line(line))]
    if len(shown) > _MAX_LINES:
        shown = [*shown[:_MAX_LINES], f"and {len(shown) - _MAX_LINES} more lines"]
    return Alert(
        kind=kind,
        title=safe_line(title),
        lines=tuple(shown),
        links=dict(links or {}),
        key=key,
        prompt_set=prompt_set,
        run_id=run_id,
    )


def build_webhooks(
    urls: Sequence[str], *, form: str = "", secrets: Sequence[str] = ()
) -> list[Webhook]:
    """One webhook for each URL; without ``form`` the host decides, and one secret is for all."""
    each = list(secrets) if len(secrets) == len(urls) else [*secrets, ""][:1] * len(urls)
    return [
        Webhook(url, form or _HOSTS.get(_host(url), "json"), secret)
        for url, secret in zip(urls, each, strict=True)
    ]


def _host(url: str) -> str:
    """The host of a webhook; empty where its address can't be read."""
    return "" if find_user_mistake(url) else urlsplit(url).hostname or ""


def send(
    alert: Alert,
    webhooks: Sequence[Webhook],
    *,
    network: Network | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> list[Delivery]:
    """Send one alert to every webhook, and log a warning for each that did not take it.

    Never raises for a webhook that is away, wrong or slow; it takes a minute at most. ``network``
    says which go through a proxy, and whom TLS trusts. ``wait`` sleeps for seconds between tries.
    """
    # httpx logs whole URLs at INFO, and a webhook's URL is a secret.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    network = network or Network()
    no_authorities = find_ca_mistake(network.ca_file)
    done = []
    for webhook in webhooks:
        problem = (
            find_user_mistake(webhook.url)
            or no_authorities
            or _deliver_over(network, webhook, alert, wait)
        )
        if problem:
            log.warning("alert %r not delivered to the %s: %s", alert.title, webhook, problem)
        done.append(Delivery(webhook, problem))
    return done


def _deliver_over(
    network: Network, webhook: Webhook, alert: Alert, wait: Callable[[float], None]
) -> str:
    """Why the message was not delivered, or an empty text."""
    import httpx  # noqa: PLC0415

    proxy = network.proxy_for(webhook.url)
    context = verifying_context(network.ca_file)
    through = None
    if proxy is not None:
        known = {"proxy-authorization": proxy.authorization} if proxy.authorization else None
        through = httpx.Proxy(proxy.url, headers=known, ssl_context=_of(proxy.scheme, context))
    headers = {
        "user-agent": f"flux-pipeline/{version('flux-pipeline')}",
        "content-type": "application/json; charset=utf-8",
    }
    with httpx.Client(
        timeout=httpx.Timeout(_TIMEOUT, connect=_CONNECT_TIMEOUT),
        headers=headers,
        follow_redirects=False,
        verify=context,
        proxy=through,
        trust_env=False,
    ) as client:
        problem = _deliver(client, webhook, alert, wait)
    return f"{problem}, through the proxy {proxy}" if problem and proxy else problem


def _of(scheme: str, context: ssl.SSLContext) -> ssl.SSLContext | None:
    """The TLS to a proxy, where it has any."""
    return context if scheme == "https" else None


def _deliver(
    client: "httpx.Client", webhook: Webhook, alert: Alert, wait: Callable[[float], None]
) -> str:
    # Tried again where the message was not taken, and not where the answer was lost: an alert that
    # comes twice is worse than a missing one, which is in the log.
    problem = ""
    for attempt in range(_TRIES):
        if attempt:
            wait(_FIRST_WAIT * 2.0 ** (attempt - 1))
        problem, again = _post(client, webhook, alert)
        if not again:
            break
    return problem


def _post(client: "httpx.Client", webhook: Webhook, alert: Alert) -> tuple[str, bool]:
    """Why the message was not delivered (empty: it was), and whether another try may help."""
    import httpx  # noqa: PLC0415

    post = build_post(webhook, alert, now=time.time())
    try:
        with client.stream("POST", post.url, content=post.body) as reply:
            body = b""
            for chunk in reply.iter_bytes():
                body += chunk
                if len(body) > _MAX_REPLY_BYTES:
                    break
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        return f"it can't be reached ({_why_unreachable(error)})", True
    except httpx.ProxyError as error:
        # Once only: a wrong password that is tried again and again locks an account.
        status = str(error)[:3]
        code = f"answered {status} to CONNECT" if status.isdecimal() else "failed"
        return f"it can't be reached (the proxy {code}; see HTTPS_PROXY and NO_PROXY)", False
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # Only the kind of error: the text of some holds the URL.
        return f"no answer came ({type(error).__name__})", False
    if reply.status_code not in _SUCCESS:
        return f"it answered {reply.status_code}", reply.status_code in _RETRYABLE
    return safe_line(refusal(webhook, body)), False


def _why_unreachable(error: "httpx.TransportError") -> str:
    """The kind of error; of a refused certificate, the reason and what to set."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return describe_failure(cause)
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def build_post(webhook: Webhook, alert: Alert, *, now: float) -> Post:
    """The alert in the webhook's format, signed; ``now`` is unix seconds, part of a signature."""
    url, body = webhook.url, _FORMATS[webhook.format](alert)
    if webhook.secret and webhook.format == "dingtalk":
        stamp = str(round(now * 1000))
        url = _with_query(url, timestamp=stamp, sign=dingtalk_sign(stamp, webhook.secret))
    elif webhook.secret and webhook.format == "feishu":
        stamp = str(int(now))
        body = {"timestamp": stamp, "sign": feishu_sign(stamp, webhook.secret), **body}
    return Post(url, json.dumps(body, ensure_ascii=False).encode())


def _with_query(url: str, **more: str) -> str:
    parts = urlsplit(url)
    query = [*parse_qsl(parts.query, keep_blank_values=True), *more.items()]
    return urlunsplit(parts._replace(query=urlencode(query)))


def dingtalk_sign(milliseconds: str, secret: str) -> str:
    """HMAC-SHA256 of "timestamp, newline, secret" under the secret; not yet percent-encoded."""
    text = f"{milliseconds}\n{secret}"
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha256")).decode()


def feishu_sign(seconds: str, secret: str) -> str:
    """HMAC-SHA256 of nothing under "timestamp, newline, secret": the text is the key."""
    key = f"{seconds}\n{secret}"
    return base64.b64encode(hmac.digest(key.encode(), b"", "sha256")).decode()


def refusal(webhook: Webhook, reply: bytes) -> str:
    """Why a webhook that answered 200 refused the message, or an empty text.

    DingTalk and Feishu report errors in the body, under 200.
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
    lines = [
        f"*{escape(alert.title, quote=False)}*",
        *(escape(line, quote=False) for line in alert.lines),
    ]
    lines += [
        " · ".join(f"<{url}|{escape(name, quote=False)}>" for name, url in alert.links.items())
    ]
    return {"text": "\n".join(filter(None, lines)), "unfurl_links": False}


def _dingtalk(alert: Alert) -> Mapping[str, Any]:
    title = alert.title.translate(_WITHOUT_MARKUP)
    lines = [f"### {title}", *(f"- {line.translate(_WITHOUT_MARKUP)}" for line in alert.lines)]
    links = " · ".join(f"[{name}]({url})" for name, url in alert.links.items())
    text = "\n".join(lines) + (f"\n\n{links}" if links else "")
    return {
        "msgtype": "markdown",
        "markdown": {"title": title, "text": text},
        "at": {"isAtAll": False},
    }


def _feishu(alert: Alert) -> Mapping[str, Any]:
    # Rich text, because a part tagged as text is never read as markup.
    content: list[list[dict[str, str]]] = [[{"tag": "text", "text": text}] for text in alert.lines]
    for name, url in alert.links.items():
        content.append([{"tag": "a", "text": name, "href": url}])
    post = {"title": alert.title, "content": content}
    return {"msg_type": "post", "content": {"post": {"zh_cn": post}}}


_FORMATS: Mapping[str, Callable[[Alert], Mapping[str, Any]]] = {
    "json": _json,
    "slack": _slack,
    "dingtalk": _dingtalk,
    "feishu": _feishu,
}
