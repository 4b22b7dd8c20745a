"""The pages, without a browser: what they show of a journal, and what they say when something is wrong."""

import asyncio
import re
import sqlite3
from html import unescape
from urllib.parse import parse_qs, urlencode, urlsplit

import hf_shop
import pytest
from hf_shop import DAMAGED, DAMAGED_VERSION, HOSTILE_IDS, LONG_EVENTS, SCRIPT
from starlette.testclient import TestClient

from holdfast.runtime import Runtime, Sharded
from holdfast.runtime.console import Console, Keys, Source, app_of


def text_of(page: str) -> str:
    """What a reader of a page reads, with single spaces."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def links_of(page: str, path: str) -> list[dict[str, str]]:
    """The queries of the links to a path, in order."""
    found = [urlsplit(unescape(each)) for each in re.findall(r'href="([^"]*)"', page)]
    return [
        {k: v[0] for k, v in parse_qs(each.query, keep_blank_values=True).items()}
        for each in found
        if each.path == path
    ]


def get(client: TestClient, path: str, **query: object) -> str:
    """A page that must be there."""
    answer = client.get(f"{path}?{urlencode(query)}")
    assert answer.status_code == 200, text_of(answer.text)
    return answer.text


def test_categories_are_shown_with_their_counts(client):
    """Each category with how many streams it has."""
    shown = text_of(get(client, "/"))
    assert "Order 24" in shown
    assert "Stock 5" in shown
    assert f"Hostile {len(HOSTILE_IDS)}" in shown


def test_a_search_finds_by_a_part_of_the_id(client):
    """In all categories, or in one; nothing else is listed."""
    page = get(client, "/", q="2026-7")
    found = [each["of"] for each in links_of(page, "/stream")]
    assert found == ["Invoice/I-2026-7", "Order/2026-7", "Parcel/P-2026-7", "Shipping/I-2026-7"]
    only = links_of(get(client, "/", q="2026-7", category="Order"), "/stream")
    assert [each["of"] for each in only] == ["Order/2026-7"]


def test_a_search_for_a_written_stream_means_its_category(client):
    """`Order/2026-7` is what people paste."""
    assert [each["of"] for each in links_of(get(client, "/", q="Order/2026-7"), "/stream")] == ["Order/2026-7"]


def test_a_search_for_a_hostile_id_finds_it_and_nothing_runs(client):
    """What was searched for is shown as text, in the page and in the field."""
    page = get(client, "/", q=SCRIPT)
    assert [each["of"] for each in links_of(page, "/stream")] == [f"Hostile/{SCRIPT}"]
    assert SCRIPT not in page


def test_a_search_without_a_hit_says_so(client):
    """And offers a way out."""
    assert "No stream is like that" in text_of(get(client, "/", q="no such thing"))


def test_pages_of_streams_follow_each_other_without_gap_or_repetition(client):
    """Going on from page to page by the last key visits each stream once, in order."""
    seen, query = [], {}
    for _ in range(20):
        page = get(client, "/", **query)
        seen += [each["of"] for each in links_of(page, "/stream")]
        following = [each for each in links_of(page, "/") if "after" in each]
        if not following:
            break
        query = following[0]
    keys = [tuple(each.split("/", 1)) for each in seen]
    assert len(seen) == 24 + 24 + 17 + 17 + 5 + len(HOSTILE_IDS) + 3
    assert keys == sorted(set(keys))


@pytest.mark.parametrize("id", HOSTILE_IDS)
def test_a_stream_of_any_id_has_its_page(client, id):
    """By the very link that the list has; and its events and their pages by theirs."""
    page = get(client, "/stream", of=f"Hostile/{id}")
    assert "1 event" in text_of(page)
    (place,) = {each["at"] for each in links_of(page, "/event")}
    event = get(client, "/event", at=place)
    assert {"of": f"Hostile/{id}"} in links_of(event, "/stream")
    for each in (page, event):
        assert SCRIPT not in each
        assert "<img" not in each
        assert "\u202e" not in re.sub('<input type="hidden"[^>]*>', "", each)  # which nobody sees


def test_a_timeline_shows_the_state_at_each_version(client):
    """What the slider asks for is the state then, and what the event changed."""
    shown = {
        version: text_of(get(client, "/stream/moment", of="Order/2026-2", version=version)) for version in range(5)
    }
    assert "Before the first event" in shown[0]
    assert "status new" in shown[0]
    assert "customer cleo@example.org" in shown[1]
    assert "status (changed) was new placed" in shown[1]
    assert "status (changed) was placed reserved" in shown[2]
    assert "street (changed) Canal Street 2" in shown[3]
    assert "status (changed) was reserved paid" in shown[4]


def test_a_timeline_works_without_a_script(client):
    """Links to the versions before and after, and a form that brings the slider's version."""
    page = get(client, "/stream", of="Order/2026-2", version=3)
    versions = {each.get("version") for each in links_of(page, "/stream")}
    assert {"0", "2", "4", "5"} <= versions
    assert re.search(r'<form class="time" action="/stream" method="get"', page)
    assert re.search(r'<input type="range"[^>]* min="0" max="5" value="3"', page)
    assert '<button type="submit">Show</button>' in page


def test_the_newest_version_is_shown_when_none_is_asked_for(client):
    """And one beyond the end is the newest, too: a bookmark of a stream that was restored is no error."""
    for query in ({}, {"version": 999}):
        assert "State at version 5" in text_of(get(client, "/stream", of="Order/2026-2", **query))


def test_without_its_class_a_stream_shows_events_and_says_why_no_state(shop):
    """A console needs no code to be of use."""
    with TestClient(app_of(Console(source=Source(shop.url), keys=Keys(token=None))), base_url="http://[::1]") as client:
        shown = text_of(get(client, "/stream", of="Order/2026-2", version=4))
    assert "order.paid" in shown
    assert "amount 67.77" in shown
    assert "the class of Order is not at hand" in shown
    assert "--module" in shown


@pytest.mark.parametrize("version", [0, 1, 25, 26, 49_999, 50_000, LONG_EVENTS])
def test_a_long_stream_is_shown_around_a_version(client, version):
    """Of 100,000 events a page holds those around the version that is looked at."""
    page = get(client, "/stream", of="Meter/hall", version=version)
    listed = [int(each) for each in re.findall(r'id="v-(\d+)"', page)]
    assert len(listed) == 25
    assert max(version, 1) in listed
    assert len(page) < 60_000
    if version:
        assert f"kwh {version - 1}" in text_of(page)


def test_a_damaged_stream_shows_the_place_and_all_else(client):
    """What cannot be read is named where it stands; what is before and after it can be read."""
    page = get(client, "/stream", of=str(DAMAGED), version=DAMAGED_VERSION)
    assert [int(each) for each in re.findall(r'id="v-(\d+)"', page)] == list(range(1, 10))
    shown = text_of(page)
    assert f"{DAMAGED_VERSION} damaged: the checksum does not match" in shown
    assert "holdfast verify" in shown
    assert "cents 600" in text_of(get(client, "/stream", of=str(DAMAGED), version=7))


def test_a_damaged_event_says_where_it_is(client, shop):
    """Its own page has nothing to show but that, and what to do."""
    with sqlite3.connect(shop.folder / "shop.db") as database:
        at = database.execute(
            "SELECT position FROM events WHERE length(payload) = 8 AND payload = zeroblob(8)"
        ).fetchone()
    answer = client.get(f"/event?at=0:{at[0]}")
    assert answer.status_code == 500
    assert f"{DAMAGED} version {DAMAGED_VERSION} (position {at[0]})" in text_of(answer.text)
    assert "holdfast verify" in answer.text


def test_the_newest_events_go_on_past_a_damaged_one(client):
    """The journal's end is shown although something in it is torn."""
    shown = text_of(get(client, "/events"))
    assert "damaged the checksum does not match" in shown
    assert "ledger.booked" in shown
    assert "meter.read" in shown


def test_pages_of_events_go_back_to_the_first(client):
    """Each event of a category once, the newest first."""
    seen, query = [], {"category": "Order"}
    while True:
        page = get(client, "/events", **query)
        seen += [int(each["at"].split(":")[1]) for each in links_of(page, "/event")]
        following = [each for each in links_of(page, "/events") if "before" in each]
        if not following:
            break
        query = following[0]
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == len(set(seen)) == 24 * 3 + 18 + 17


def test_an_event_is_drawn_with_cause_and_effect(client):
    """What was paid was settled, packed by a reaction and shipped: each a link in the drawing, and in the list."""
    order = get(client, "/stream", of="Order/2026-2", version=4)
    page = get(client, "/event", **links_of(order, "/event")[0])
    drawing, rest = page.partition('role="group"')[2].split("</svg>")
    for what in (
        "invoice.settled of Invoice/I-2026-2",
        "parcel.packed of Parcel/P-2026-2",
        "order.shipped of Order/2026-2",
    ):
        assert f'aria-label="{what}' in drawing
    assert "reaction Shipping" in drawing
    assert "parcel.packed" in text_of(rest)
    targets = {each["at"] for each in links_of(drawing, "/event")}
    assert len(targets) == 4
    for place in targets:
        assert client.get(f"/event?at={place}").status_code == 200


def test_the_journals_health_is_told(client, shop):
    """Format, size, head, the checkpoints of readers."""
    shown = text_of(get(client, "/journal", count=1))
    assert "sqlite, schema 2" in shown
    assert f"{sqlite_count(shop):,}" in shown
    assert "reaction/Shipping" in shown
    assert "Snapshots" in shown


def sqlite_count(shop) -> int:
    """The number of events, as SQLite counts them."""
    with sqlite3.connect(shop.folder / "shop.db") as database:
        return database.execute("SELECT count(*) FROM events").fetchone()[0]


def test_followers_and_dead_letters_are_told_without_a_cluster(client):
    """What the journal knows of them; what it does not, the page says."""
    shown = text_of(get(client, "/followers"))
    assert "reaction/Shipping" in shown
    assert "reaction/Shipping:begun" not in shown  # a second checkpoint of the same one
    assert "nobody knows where 2026-3 goes" in shown
    assert "--address" in shown
    assert '<form method="post"' not in get(client, "/followers")


def test_live_says_how_to_see_a_cluster(client):
    """Where there is none to look at."""
    assert "--address auto" in text_of(get(client, "/live"))


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/stream?of=Order/none", 404, "There is no such stream"),
        ("/stream?of=None/none", 404, "There is no such stream"),
        ("/stream", 400, "has no 'of'"),
        ("/stream?of=Order", 400, "category/id"),
        ("/stream?of=Order/2026-1&version=-1", 400, "a version is a number"),
        ("/stream?of=Order/2026-1&version=9e9", 400, "a version is a number"),
        ("/stream/moment?of=Order/none", 404, "There is no such stream"),
        ("/event?at=0:99999999", 404, "There is no such event"),
        ("/event?at=7:1", 404, "There is no such event"),
        ("/event?at=x", 400, "a partition is a number"),
        ("/events?before=1,2", 400, "1 partitions"),
        ("/events?before=x", 400, "positions are written"),
        ("/?after=x", 400, "category/id"),
        ("/nowhere", 404, "There is no such page"),
        ("/static/none.css", 404, ""),
    ],
)
def test_an_address_that_leads_nowhere_says_so(client, path, status, says):
    """With the status that it is, and in words."""
    answer = client.get(path)
    assert answer.status_code == status
    assert says in text_of(answer.text)


def test_a_journal_that_is_not_there_yet_is_told_and_then_shown(tmp_path):
    """503, with what to do, and no file made by looking; the same console shows the journal once there is one."""
    path = tmp_path / "later.db"
    url = f"sqlite:///{path}"
    console = Console(source=Source(url, hf_shop.CLASSES), keys=Keys(token=None))

    async def fill() -> None:
        async with Runtime.local(url, placement=Sharded(1)) as runtime:
            await runtime.get(hf_shop.Stock, "Solaris").receive(3)

    with TestClient(app_of(console), base_url="http://localhost") as client:
        for page in ("/", "/events", "/journal", "/stream?of=a/b", "/followers"):
            answer = client.get(page)
            assert answer.status_code == 503, page
            assert "reload this one when the journal is back" in text_of(answer.text)
        assert not list(tmp_path.iterdir())
        asyncio.run(fill())
        assert "on_hand (changed) was 0 3" in text_of(get(client, "/stream", of="Stock/Solaris"))


def test_a_file_that_is_no_journal_is_told(tmp_path):
    """Not a traceback, and not a page that shows nothing."""
    (tmp_path / "note.db").write_text("not a database, and long enough to be taken for one" * 100)
    console = Console(source=Source(f"sqlite:///{tmp_path}/note.db"), keys=Keys(token=None))
    with TestClient(app_of(console), base_url="http://localhost") as client:
        answer = client.get("/")
    assert answer.status_code == 503
    assert "note.db" in answer.text


def test_looking_holds_no_writer_up(tmp_path):
    """While pages are asked for without a pause, each append is acknowledged; and each shows up."""
    url = f"sqlite:///{tmp_path}/busy.db"

    async def scenario() -> None:
        async with Runtime.local(url, placement=Sharded(1)) as runtime:
            stock = runtime.get(hf_shop.Stock, "Solaris")
            await stock.receive(1)
            console = Console(source=Source(url, hf_shop.CLASSES), keys=Keys(token=None))
            with TestClient(app_of(console), base_url="http://localhost") as client:
                for number in range(2, 30):
                    looking = asyncio.to_thread(client.get, "/stream?of=Stock/Solaris")
                    page, on_hand = await asyncio.gather(looking, stock.receive(1))
                    assert (page.status_code, on_hand) == (200, number)
                assert "29 events" in text_of((await asyncio.to_thread(client.get, "/stream?of=Stock/Solaris")).text)

    asyncio.run(scenario())


def test_a_journal_of_partitions_is_shown_as_one(tmp_path):
    """Streams of all partitions in one list; each event by its partition and position."""
    url = f"sqlite:///{tmp_path}/parts.db?partitions=3"

    async def fill() -> None:
        async with Runtime.local(url, placement=Sharded(2)) as runtime:
            await hf_shop.trade(runtime, orders=6)

    asyncio.run(fill())
    console = Console(source=Source(url, hf_shop.CLASSES), keys=Keys(token=None))
    with TestClient(app_of(console), base_url="http://localhost") as client:
        assert "Order 6" in text_of(get(client, "/"))
        page = get(client, "/stream", of="Order/2026-1", version=1)
        event = get(client, "/event", **links_of(page, "/event")[0])
        assert 'aria-label="invoice.issued of Invoice/I-2026-1' in event
        first = get(client, "/events")
        seen = [each["at"] for each in links_of(first, "/event")]
        assert len({each.split(":")[0] for each in seen}) == 3
        assert "Partition" in text_of(get(client, "/journal"))


def test_a_fault_of_the_console_is_a_page_and_in_its_log(client, console, monkeypatch, caplog):
    """Nobody sees a traceback, and whoever mends it finds one."""

    async def broken():
        raise ZeroDivisionError("on purpose <b>")

    monkeypatch.setattr(console.source, "look", broken)
    answer = client.get("/")
    assert answer.status_code == 500
    assert "ZeroDivisionError: on purpose <b>" in text_of(answer.text)
    assert "on purpose <b>" not in answer.text
    assert "Traceback" not in answer.text
    assert caplog.records[-1].exc_info is not None
