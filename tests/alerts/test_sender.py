"""Sending over a real socket: few tries, no exception, no address in any log."""

import logging
import socket
import threading
from http.client import parse_headers

import pytest

from flux_pipeline.alerts import Alert, Kind, build_alert, build_webhooks, send
from tests.alerts.receiver import Receiver

ALERT: Alert = build_alert(Kind.TEST, "a test", ["a line"], key="test")
PATH = "/hook-canary?token=query-canary"


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
