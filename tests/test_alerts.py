"""Alerts: messages without secrets, each webhook's format and signature, delivery over a socket."""

import base64
import hashlib
import hmac
import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import parse_headers
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlsplit

import pytest

from flux_pipeline.alerts import (
    Alert,
    Kind,
    Webhook,
    build_alert,
    build_post,
    build_webhooks,
    dingtalk_sign,
    feishu_sign,
    refusal,
    send,
)
from flux_pipeline.network import Network
from tests.provider.certificates import serving, write_authority
from tests.servers.connect_proxy import ConnectProxy, connect_proxy, tls_before
from tests.servers.webhook import Receiver, receiver

KEY = "r8_canary0123456789canary0123456789"
NOW = 1_600_000_000.123
ALERT = build_alert(Kind.TEST, "a test", ["a line"], key="test")
PATH = "/hook-canary?token=query-canary"


@pytest.fixture
def webhook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


def test_known_secrets_are_taken_out_of_every_text() -> None:
    alert = build_alert(
        Kind.RUN_FAILED,
        f"failed with {KEY}",
        [
            f"Bearer {KEY}",
            "see https://user:password@host/x?token=abcdef",
            "data:image/png;base64,AA",
        ],
    )
    shown = "\n".join([alert.title, *alert.lines])
    for secret in (KEY, "password", "abcdef", "base64,AA"):
        assert secret not in shown


def test_lines_and_their_number_are_bounded() -> None:
    alert = build_alert(Kind.RUN_FAILED, "t" * 5_000, ["x" * 5_000] * 100)
    assert len(alert.title) == 300
    assert max(map(len, alert.lines)) == 300
    assert len(alert.lines) == 13
    assert alert.lines[-1] == "and 88 more lines"


def test_what_turns_or_hides_text_is_shown_as_such() -> None:
    assert build_alert(Kind.TEST, "a\u202eb\u200bc").title == "a\\u202eb\\u200bc"


def an_alert(title: str = "winter: the run's budget is reached", *lines: str) -> Alert:
    return build_alert(
        Kind.BUDGET_REACHED,
        title,
        lines or ["17 requests were not sent"],
        links={"run": "http://127.0.0.1:3000/runs/1", "images": "http://127.0.0.1:3000/assets/w"},
        key="k",
        prompt_set="winter",
        run_id="1",
    )


def body_of(form: str, alert: Alert | None = None, secret: str = "") -> dict[str, Any]:
    webhook = Webhook("https://host.example/hook?access_token=abc", form, secret)
    body = json.loads(build_post(webhook, alert or an_alert(), now=NOW).body)
    assert isinstance(body, dict)
    return body


@pytest.mark.parametrize(
    ("url", "form"),
    [
        ("https://hooks.slack.com/services/T/B/x", "slack"),
        ("https://oapi.dingtalk.com/robot/send?access_token=x", "dingtalk"),
        ("https://open.feishu.cn/open-apis/bot/v2/hook/x", "feishu"),
        ("https://open.larksuite.com/open-apis/bot/v2/hook/x", "feishu"),
        ("https://hooks.slack.com.example/x", "json"),
        ("https://alerts.example/x", "json"),
    ],
)
def test_the_form_is_guessed_from_the_host(url: str, form: str) -> None:
    assert [each.format for each in build_webhooks([url])] == [form]
    assert [each.format for each in build_webhooks([url], form="slack")] == ["slack"]


def test_one_secret_is_for_all_and_several_are_one_each() -> None:
    urls = ["https://a.example", "https://b.example"]
    assert [each.secret for each in build_webhooks(urls)] == ["", ""]
    assert [each.secret for each in build_webhooks(urls, secrets=["s"])] == ["s", "s"]
    assert [each.secret for each in build_webhooks(urls, secrets=["", "s"])] == ["", "s"]


def test_neither_address_nor_secret_is_shown() -> None:
    webhook = Webhook("https://host.example/a-secret-path?token=abc", "feishu", "a-secret")
    assert f"{webhook} {webhook!r}".count("secret") == 0
    assert str(webhook) == "feishu webhook at host.example"
    assert "token" not in repr(build_post(webhook, an_alert(), now=NOW))


def test_json_holds_everything() -> None:
    assert body_of("json") == {
        "source": "flux-pipeline",
        "kind": "budget_reached",
        "title": "winter: the run's budget is reached",
        "text": "winter: the run's budget is reached\n17 requests were not sent",
        "lines": ["17 requests were not sent"],
        "links": {
            "run": "http://127.0.0.1:3000/runs/1",
            "images": "http://127.0.0.1:3000/assets/w",
        },
        "prompt_set": "winter",
        "run_id": "1",
        "key": "k",
    }


def test_slack_reads_no_mention_and_no_link_from_others_text() -> None:
    body = body_of("slack", an_alert("a <!channel> & b", "<https://evil.example|click>"))
    assert body["text"] == (
        "*a &lt;!channel&gt; &amp; b*\n&lt;https://evil.example|click&gt;\n"
        "<http://127.0.0.1:3000/runs/1|run> · <http://127.0.0.1:3000/assets/w|images>"
    )


def test_dingtalk_gets_markdown_without_markup_from_others_text() -> None:
    body = body_of("dingtalk", an_alert("a [b](https://evil.example)", "# ![x](y) <z> @all"))
    assert body["msgtype"] == "markdown"
    assert body["at"] == {"isAtAll": False}
    assert body["markdown"]["title"] == "a (b)(https://evil.example)"
    assert body["markdown"]["text"] == (
        "### a (b)(https://evil.example)\n- ~ !(x)(y) {z} @all\n\n"
        "[run](http://127.0.0.1:3000/runs/1) · [images](http://127.0.0.1:3000/assets/w)"
    )


def test_feishu_gets_rich_text_in_which_text_is_only_text() -> None:
    body = body_of("feishu", an_alert("title", '<at user_id="all"></at>'))
    assert body["msg_type"] == "post"
    post = body["content"]["post"]["zh_cn"]
    assert post["title"] == "title"
    assert post["content"] == [
        [{"tag": "text", "text": '<at user_id="all"></at>'}],
        [{"tag": "a", "text": "run", "href": "http://127.0.0.1:3000/runs/1"}],
        [{"tag": "a", "text": "images", "href": "http://127.0.0.1:3000/assets/w"}],
    ]
    assert "sign" not in body


def test_dingtalk_signs_the_query_with_milliseconds() -> None:
    webhook = Webhook(
        "https://oapi.dingtalk.com/robot/send?access_token=abc", "dingtalk", "this is secret"
    )
    url = urlsplit(build_post(webhook, an_alert(), now=NOW).url)
    query = parse_qs(url.query)
    assert query["access_token"] == ["abc"]
    assert query["timestamp"] == ["1600000000123"]
    # The service's own sample code, word for word in its steps.
    text = "{}\n{}".format("1600000000123", "this is secret").encode("utf-8")
    code = hmac.new(b"this is secret", text, digestmod=hashlib.sha256).digest()
    assert f"sign={quote_plus(base64.b64encode(code))}" in url.query
    assert query["sign"] == [dingtalk_sign("1600000000123", "this is secret")]


def test_feishu_signs_the_body_with_seconds() -> None:
    body = body_of("feishu", secret="this is secret")
    assert body["timestamp"] == "1600000000"
    # As above: the text is the key here, and the message is empty.
    key = "{}\n{}".format("1600000000", "this is secret").encode("utf-8")
    code = hmac.new(key, digestmod=hashlib.sha256).digest()
    assert body["sign"] == base64.b64encode(code).decode("utf-8")
    assert body["sign"] == feishu_sign("1600000000", "this is secret")
    assert body["msg_type"] == "post"


@pytest.mark.parametrize(
    ("form", "reply", "said"),
    [
        ("json", b"", ""),
        ("slack", b"ok", ""),
        ("dingtalk", b'{"errcode":0,"errmsg":"ok"}', ""),
        ("dingtalk", b'{"errcode":310000,"errmsg":"sign not match"}', "310000: sign not match"),
        ("feishu", b'{"code":0,"msg":"success"}', ""),
        ("feishu", b'{"StatusCode":0,"StatusMessage":"success"}', ""),
        ("feishu", b'{"code":19021,"msg":"sign match fail"}', "19021: sign match fail"),
        ("feishu", b"<html>", "no JSON"),
        ("dingtalk", b"[]", "no JSON"),
    ],
)
def test_a_refusal_in_a_200_is_seen(form: str, reply: bytes, said: str) -> None:
    found = refusal(Webhook("https://host.example", form), reply)
    assert bool(found) is bool(said)
    assert said in found


def test_one_message_arrives(webhook: Receiver) -> None:
    (done,) = send(ALERT, build_webhooks([f"{webhook.origin}{PATH}"]))
    assert done.problem == ""
    (received,) = webhook.received
    assert received.path == PATH
    assert received.body["title"] == "a test"
    assert received.headers["content-type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_was_not_taken_is_sent_again(webhook: Receiver, status: int) -> None:
    webhook.answers = [(status, ""), (status, ""), (200, "ok")]
    slept: list[float] = []
    (done,) = send(ALERT, build_webhooks([webhook.origin]), wait=slept.append)
    assert done.problem == ""
    assert len(webhook.received) == 3
    assert slept == [1.0, 2.0]


@pytest.mark.parametrize("status", [301, 307, 400, 403, 404])
def test_what_is_refused_is_not_sent_again_or_elsewhere(webhook: Receiver, status: int) -> None:
    webhook.answers = [(status, "no")]
    (done,) = send(ALERT, build_webhooks([webhook.origin]), wait=[].append)
    assert done.problem == f"it answered {status}"
    assert [each.path for each in webhook.received] == ["/"]


def test_a_signature_that_does_not_match_is_told(webhook: Receiver) -> None:
    webhook.answers = [(200, '{"code":19021,"msg":"sign match fail"}')]
    (done,) = send(ALERT, build_webhooks([webhook.origin], form="feishu"), wait=[].append)
    assert done.problem == "it answered 19021: sign match fail"
    assert len(webhook.received) == 1


def test_every_webhook_is_tried_though_one_is_away(
    webhook: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{taken.getsockname()[1]}{PATH}"
        with caplog.at_level(logging.DEBUG):
            first, second = send(
                ALERT, build_webhooks([away, f"{webhook.origin}{PATH}"]), wait=[].append
            )
    assert "can't be reached" in first.problem
    assert second.problem == ""
    ours = [each for each in caplog.records if each.name.startswith("flux_pipeline")]
    assert len(ours) == 1
    assert "canary" not in caplog.text
    assert "json webhook at 127.0.0.1" in ours[0].getMessage()


def test_an_answer_that_is_lost_is_not_asked_for_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as request:
                request.readline()
                length = int(parse_headers(request)["content-length"])
                request.read(length)  # what is left unread would make the end a reset

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        (done,) = send(ALERT, build_webhooks([url]), wait=[].append)
        thread.join()
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert done.problem == "no answer came (RemoteProtocolError)"


def test_a_message_goes_through_the_proxy_with_its_password_and_trusts_the_authority(
    webhook: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with _hidden(webhook, tmp_path, user="user:canary@Kq7") as (proxy, ca_file):
        network = Network(proxy=f"http://user:canary%40Kq7@{proxy.address}", ca_file=ca_file)
        [delivery] = send(ALERT, build_webhooks([HIDDEN]), network=network)
    assert delivery.problem == ""
    assert proxy.heads == ["CONNECT hook.company.test:443"]
    [received] = webhook.received
    assert not [name for name in received.headers if name.lower().startswith("proxy")]
    assert "canary" not in caplog.text


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"user": "other:one"}, "the proxy answered 407 to CONNECT; see HTTPS_PROXY and NO_PROXY"),
        ({"status": 403}, "the proxy answered 403 to CONNECT; see HTTPS_PROXY and NO_PROXY"),
    ],
)
def test_a_proxy_that_refuses_is_named_once_and_its_password_never(
    webhook: Receiver,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    behaviour: dict[str, Any],
    words: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    with _hidden(webhook, tmp_path, **behaviour) as (proxy, ca_file):
        network = Network(proxy=f"http://user:canary%40Kq7@{proxy.address}", ca_file=ca_file)
        [delivery] = send(ALERT, build_webhooks([HIDDEN]), network=network, wait=lambda _: None)
    reason = f"it can't be reached ({words}), through the proxy {proxy.address}"
    assert delivery.problem == reason
    assert reason in caplog.text
    assert (len(proxy.heads), webhook.received) == (1, [])
    assert "canary" not in caplog.text


def test_a_webhook_of_an_unknown_authority_names_the_variable_to_set(
    webhook: Receiver, tmp_path: Path
) -> None:
    with _hidden(webhook, tmp_path) as (proxy, _):
        network = Network(proxy=f"http://{proxy.address}")
        [delivery] = send(ALERT, build_webhooks([HIDDEN]), network=network, wait=lambda _: None)
    assert "set SSL_CERT_FILE to its PEM file" in delivery.problem
    assert webhook.received == []


def test_a_webhook_on_this_machine_gets_its_message_without_the_proxy(
    webhook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:1")
    network = Network(proxy="http://proxy.invalid:1")
    [delivery] = send(ALERT, build_webhooks([f"{webhook.origin}/hook"]), network=network)
    assert delivery.problem == ""
    assert len(webhook.received) == 1


def test_authorities_that_can_not_be_loaded_are_a_problem_and_no_exception(tmp_path: Path) -> None:
    network = Network(ca_file=str(tmp_path / "away.pem"))
    [delivery] = send(ALERT, build_webhooks([HIDDEN]), network=network)
    assert "No such file or directory: correct SSL_CERT_FILE" in delivery.problem


HIDDEN = "https://hook.company.test/hook"


@contextmanager
def _hidden(
    webhook: Receiver, folder: Path, **behaviour: Any
) -> Iterator[tuple[ConnectProxy, str]]:
    """The webhook behind TLS and a proxy that alone knows its name; the authority's file."""
    authority, shown = write_authority(folder, "hook.company.test")
    port = int(webhook.origin.rpartition(":")[2])
    with tls_before(port, serving(shown)) as hidden:
        proxy = ConnectProxy({"hook.company.test:443": hidden}, **behaviour)
        with connect_proxy(proxy):
            yield proxy, str(authority)


@pytest.mark.parametrize("password", ["p@canary", "canary/x", "12/canary", "[canary", "canary#1"])
def test_a_webhook_with_an_ambiguous_address_is_not_called_and_not_shown(
    password: str, caplog: pytest.LogCaptureFixture
) -> None:
    webhooks = build_webhooks([f"https://user:{password}@canary.example/x"])
    (delivery,) = send(ALERT, webhooks)
    assert delivery.problem.startswith("is ambiguous: encode @ as %40")
    assert "not delivered to the json webhook whose address can't be read" in caplog.text
    assert "canary" not in f"{caplog.text} {delivery} {delivery.webhook}"
