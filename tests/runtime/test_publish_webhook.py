"""Webhooks: signed, confirmed by 2xx, tried again when that may help. Against a real HTTP server in this process."""

import asyncio
import base64
import contextlib
import itertools
import pickle
import random
import sys
import threading
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
import standardwebhooks
from hf_publish import Pauses, assert_all_in_order, bench, envelope, envelopes, place
from hf_webhooks import receiver

from holdfast.actors.policy import DeadLetter, Retry
from holdfast.runtime import (
    EventRefused,
    FollowerStopped,
    MissingExtra,
    SignatureRefused,
    Sink,
    SinkUnavailable,
    Webhook,
    verify_signature,
)
from holdfast.runtime.signature import sign

SECRET = b"a secret of thirty-two bytes, ok"


async def sent(sink, events):
    """What it confirmed, or its problem."""
    await sink.open()
    try:
        await sink.send(events)
    finally:
        await sink.close()


async def problem_of(sink, events):
    with pytest.raises((SinkUnavailable, EventRefused)) as caught:
        await sent(sink, events)
    return caught.value


def with_status(status, **headers):
    return lambda request: (status, {name.replace("_", "-"): value for name, value in headers.items()})


async def test_publish_webhook_posts_one_signed_envelope_for_each_event():
    """Structured mode; the request's id is the event's; headers of one's own go along."""
    with receiver(SECRET) as server:
        await sent(Webhook(server.url, SECRET, headers={"authorization": "Bearer t"}), envelopes("a", "b", count=3))
        assert_all_in_order(server.places, ["a", "b"], 3)
        (first, *_) = server.taken
        assert first.headers["content-type"] == "application/cloudevents+json; charset=UTF-8"
        assert first.headers["webhook-id"] == first.events[0]["id"]
        assert first.headers["authorization"] == "Bearer t"


async def test_publish_webhook_posts_a_batch_at_once_if_told():
    """An array, under one id that is the same for the same events."""
    events = envelopes("a", "b", count=3)
    with receiver(SECRET) as server:
        for _ in range(2):
            await sent(Webhook(server.url, SECRET, batched=True), events)
        assert [len(request.events) for request in server.taken] == [6, 6]
        assert server.taken[0].headers["content-type"] == "application/cloudevents-batch+json; charset=UTF-8"
        assert server.taken[0].headers["webhook-id"] == server.taken[1].headers["webhook-id"]


async def test_publish_webhook_signatures_are_verified_by_the_standard_s_own_library():
    """With each of two secrets, one of which may be on its way out."""
    text = "whsec_" + base64.b64encode(b"the one that is new").decode()
    with receiver([SECRET, text]) as server:
        await sent(Webhook(server.url, [SECRET, text]), [envelope()])
        (request,) = server.taken
        for secret in (SECRET, text):
            standardwebhooks.Webhook(secret).verify(request.body, request.headers)
            assert verify_signature(secret, request.headers, request.body) == request.events[0]["id"]
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(b"another").verify(request.body, request.headers)


def test_publish_webhook_verifies_what_the_standard_s_own_library_signs():
    """The vector of the specification's reference libraries, and a signature made now."""
    secret, id, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}'
    headers = {
        "Webhook-Id": id,
        "Webhook-Timestamp": "1614265330",
        "Webhook-Signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v2,elsewhere v1,nonsense",
    }
    assert verify_signature(secret, headers, body, now=lambda: 1614265400.0) == id
    made = standardwebhooks.Webhook(secret).sign(id, datetime.fromtimestamp(1614265330, UTC), body.decode())
    assert sign([base64.b64decode(secret[6:])], id, 1614265330, body)["webhook-signature"] == made


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"body": b"{}"}, "no signature of it is right"),
        ({"secret": b"another"}, "no signature of it is right"),
        ({"webhook-id": "another"}, "no signature of it is right"),
        ({"webhook-timestamp": "1001"}, "no signature of it is right"),
        ({"webhook-timestamp": "soon"}, "its timestamp is no number"),
        ({"webhook-signature": "v1,§ v1, v2,x"}, "no signature of it is right"),
        ({"now": 1301.0}, "it was sent more than 300 s ago"),
        ({"now": 699.0}, "or will be"),
        ({"webhook-signature": None}, "it has no webhook-signature"),
    ],
)
def test_publish_webhook_verify_refuses(change, said):
    """What was changed on the way, comes from somebody else, or was caught and sent again later."""
    headers = sign([SECRET], "id", 1000, b"body") | {k: v for k, v in change.items() if k.startswith("webhook")}
    headers = {name: value for name, value in headers.items() if value is not None}
    with pytest.raises(SignatureRefused, match=said):
        verify_signature(
            change.get("secret", SECRET), headers, change.get("body", b"body"), now=lambda: change.get("now", 1000.0)
        )


@pytest.mark.parametrize("secret", [b"", "", [], "plain text", "whsec_???", [SECRET, b""]])
def test_publish_webhook_secrets_that_are_none_are_refused_where_they_are_given(secret):
    """Not when the first event is to be sent."""
    with pytest.raises(ValueError, match="secret"):
        Webhook("https://example.org", secret)


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
async def test_publish_webhook_a_server_that_is_away_or_busy_is_nobody_s_fault(status):
    """No event is named, so no policy gives one up."""
    with receiver(SECRET, with_status(status)) as server:
        problem = await problem_of(Webhook(server.url, SECRET), [envelope()])
        assert isinstance(problem, SinkUnavailable)
        assert (problem.event, problem.after_s) == ("", 0.0)
        assert str(status) in problem.problem


async def test_publish_webhook_a_server_that_fails_at_an_event_names_it():
    """500 is what a receiver with a bug says; the policy counts."""
    with receiver(SECRET, with_status(500)) as server:
        problem = await problem_of(Webhook(server.url, SECRET), [envelope()])
        assert isinstance(problem, SinkUnavailable)
        assert problem.event == envelope().id


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 410, 413])
async def test_publish_webhook_any_other_answer_refuses_the_event(status):
    """Redirections too: what is signed for one server is not sent to another."""
    with receiver(SECRET, with_status(status, location="http://127.0.0.1:1/")) as server:
        problem = await problem_of(Webhook(server.url, SECRET), [envelope()])
        assert isinstance(problem, EventRefused)
        assert problem.event == envelope().id
        assert len(server.requests) == 1


async def test_publish_webhook_retry_after_is_honoured_in_seconds_and_as_a_date():
    """Up to an hour; what is neither is passed over."""
    now = 1_700_000_000.0
    later = format_datetime(datetime.fromtimestamp(now + 90, UTC), usegmt=True)
    for said, after_s in (("7", 7.0), (later, 90.0), ("999999", 3600.0), ("soon", 0.0), ("-5", 0.0)):
        with receiver(SECRET, with_status(429, retry_after=said)) as server:
            problem = await problem_of(Webhook(server.url, SECRET, now=lambda: now), [envelope()])
            assert problem.after_s == after_s, said


async def test_publish_webhook_no_connection_and_no_answer_say_later():
    """Nobody there, a connection that ends, a server that never answers."""
    stays = threading.Event()
    with receiver(SECRET, lambda request: None) as server:
        assert isinstance(await problem_of(Webhook(server.url, SECRET), [envelope()]), SinkUnavailable)
        url = server.url
    assert "ConnectError" in (await problem_of(Webhook(url, SECRET), [envelope()])).problem
    with receiver(SECRET, lambda request: (stays.wait() and 204) or 204) as server:
        problem = await problem_of(Webhook(server.url, SECRET, timeout_s=0.05), [envelope()])
        assert isinstance(problem, SinkUnavailable)
        assert problem.event == ""
        stays.set()


async def test_publish_webhook_an_answer_in_drops_is_not_waited_for():
    """The time that it takes is not the server's to decide: never silent is not done."""
    url, server = await talker(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n", every_s=0.02)
    async with server:
        problem = await asyncio.wait_for(problem_of(Webhook(url, SECRET, timeout_s=0.3), [envelope()]), 30)
        assert isinstance(problem, SinkUnavailable)


async def test_publish_webhook_an_answer_without_an_end_costs_no_memory():
    """Its status is what counts."""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    url, server = await talker(head, b"400\r\n" + bytes(1024) + b"\r\n")
    async with server:
        await asyncio.wait_for(sent(Webhook(url, SECRET), [envelope()]), 30)


async def talker(head, more, every_s=0.0):
    """A server that never comes to the end of an answer."""

    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(more)
                await writer.drain()
                await asyncio.sleep(every_s)

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", server


async def test_publish_webhook_streams_are_independent_and_each_is_in_order():
    """One stream's failure ends that stream; the others get through, and are told as done."""
    with receiver(SECRET, lambda r: 500 if r.events[0]["subject"] == "Account/b" else 204) as server:
        events = envelopes("a", "b", "c", count=4)
        problem = await problem_of(Webhook(server.url, SECRET), events)
        assert place(next(event for event in events if event.id == problem.event)) == ("b", 1)
        assert_all_in_order(server.places, ["a", "c"], 4)
        assert set(problem.done) == {event.id for event in events if place(event)[0] != "b"}
        assert sum(request.events[0]["subject"] == "Account/b" for request in server.requests) == 1


async def test_publish_webhook_never_has_more_requests_under_way_than_told():
    """A receiver is not run over."""
    full, waiting = threading.Semaphore(0), itertools.count(1)

    def answer(request):
        if next(waiting) == 3:
            full.release(12)  # three are there, and no fourth will be before one is answered
        full.acquire()
        return 204

    with receiver(SECRET, answer) as server:
        await sent(Webhook(server.url, SECRET, in_flight=3), envelopes(*"abcdefghijkl", count=1))
        assert server.busiest == 3
        assert len(server.taken) == 12


async def test_publish_webhook_a_batch_that_is_refused_is_sent_one_by_one_up_to_the_culprit():
    """So that the policy knows which event it is about."""

    def answer(request):
        return 422 if any(int(event["sequence"]) == 3 for event in request.events) else 204

    with receiver(SECRET, answer) as server:
        events = [envelope(version) for version in range(1, 6)]
        problem = await problem_of(Webhook(server.url, SECRET, batched=True), events)
        assert isinstance(problem, EventRefused)
        assert problem.event == events[2].id
        assert server.places == [("alice", 1), ("alice", 2)]


async def test_publish_webhook_end_to_end_over_a_receiver_that_fails_at_random():
    """Connections that end before and after the receiver has acted, 429, 500: all arrive, in order, verified."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with receiver(SECRET, lambda request: chance.choice([204, 204, 204, None, 429, 500, 503])) as server:
        async with bench() as world:
            for id in "abcde":
                end = await world.append(id, 20)
            await world.live(Webhook(server.url, SECRET), end, batch=30)
        assert_all_in_order(server.places, "abcde", 20)
        assert len({request.headers["webhook-id"] for request in server.taken}) == 100


@pytest.mark.parametrize("policy", [None, DeadLetter(), Retry(times=3, then="dead letter")], ids=repr)
async def test_publish_webhook_4xx_follows_the_policy_at_once(policy):
    """Stop by default, or set aside; no second try either way."""
    with receiver(SECRET, lambda r: 400 if int(r.events[0]["sequence"]) == 2 else 204) as server:
        async with bench() as world:
            end = await world.append("a", 3)
            world.pauses = Pauses()
            if policy is None:
                with pytest.raises(FollowerStopped, match="answered 400"):
                    await world.live(Webhook(server.url, SECRET), end)
                assert server.places == [("a", 1)]
            else:
                await world.live(Webhook(server.url, SECRET), end, on_error=policy)
                assert server.places == [("a", 1), ("a", 3)]
            assert world.pauses.taken == []


def test_publish_webhook_without_its_extra_says_what_to_install(monkeypatch):
    """When the sink is made, not when it is first used somewhere else."""
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(MissingExtra, match=r"pip install 'holdfast\[webhooks\]'"):
        Webhook("https://example.org", SECRET)


async def test_publish_webhook_an_open_sink_is_pickled_as_it_was_declared():
    """Its connections stay here."""
    sink = Webhook("https://example.org", SECRET, timeout_s=3.0)
    assert isinstance(sink, Sink)
    await sink.open()
    copy = pickle.loads(pickle.dumps(sink))
    await sink.close()
    assert copy == sink
    assert copy._client is None
    assert "secret" not in repr(copy)
