"""Bodies and signatures, as each service documents them."""

import base64
import hashlib
import hmac
import json
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
)

NOW = 1_600_000_000.123


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
