"""Who is let in, from where, and what a browser may do with the answers."""

from urllib.parse import quote

import hf_shop
import pytest
from starlette.testclient import TestClient

from holdfast.runtime.console import Console, Keys, Source, app_of
from holdfast.runtime.console.guard import HEADERS

HERE = "http://127.0.0.1:8765"


@pytest.fixture
def guarded(shop) -> Console:
    """A console as `holdfast ui` starts it: with a token."""
    return Console(source=Source(shop.url, hf_shop.CLASSES))


@pytest.fixture
def stranger(guarded):
    """Somebody who has not entered."""
    with TestClient(app_of(guarded), base_url=HERE, follow_redirects=False) as client:
        yield client


@pytest.fixture
def changing(shop):
    """One that may change things, for whoever reaches it."""
    console = Console(source=Source(shop.url), keys=Keys(token=None), allow_changes=True)
    with TestClient(app_of(console), base_url=HERE, follow_redirects=False) as client:
        yield client, console.keys.form


@pytest.mark.parametrize("path", ["/", "/stream?of=Order/2026-1", "/events", "/live/now", "/nowhere", "/journal"])
def test_nobody_sees_a_page_without_the_token(stranger, path):
    """No page, and no hint whether there is one, without the cookie that the token is exchanged for."""
    answer = stranger.get(path)
    assert answer.status_code == 401
    assert "2026-1" not in answer.text
    assert "sqlite" not in answer.text


@pytest.mark.parametrize("wrong", ["", "x", "é", "%00", "a" * 10_000])
def test_a_wrong_token_lets_nobody_in(stranger, wrong):
    """Whatever is sent in place of the token, no cookie comes back."""
    answer = stranger.get(f"/?token={wrong}")
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("wrong", ["", "x", "é", '"', "a=b; c"])
def test_a_wrong_cookie_lets_nobody_in(stranger, wrong):
    """Nor does a cookie of another start, or of nobody."""
    headers = {"cookie": f"holdfast_console_8765={wrong}".encode()}
    assert stranger.get("/", headers=headers).status_code == 401


def test_the_token_is_exchanged_for_a_cookie_and_leaves_the_address(stranger, guarded):
    """The cookie is kept from scripts and other sites; the page goes on without the token, to where it was to go."""
    of = "Hostile/a?b=c&d#e"
    answer = stranger.get(f"/stream?of={quote(of, safe='')}&version=1&token={guarded.keys.token}")
    cookie = answer.headers["set-cookie"].lower()
    assert answer.status_code == 200
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert guarded.keys.token not in cookie
    assert guarded.keys.token not in answer.text
    assert 'content="0;url=/stream?of=Hostile%2Fa%3Fb%3Dc%26d%23e&amp;version=1"' in answer.text
    assert stranger.get("/").status_code == 200


def test_entering_never_leads_to_another_site(stranger, guarded):
    """An address that reads as another host's after the token has gone is one of this origin all the same."""
    answer = stranger.get(f"{HERE}//evil.example/?token={guarded.keys.token}")
    assert 'content="0;url=/evil.example/"' in answer.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200),
        ("localhost", 200),
        ("LOCALHOST:9", 200),
        ("[::1]:8765", 200),
        ("10.1.2.3", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:8765", 421),
        ("", 421),
        ("[::1", 421),
        ("evil.example@127.0.0.1", 200),
        ("127.0.0.1@evil.example", 421),
    ],
)
def test_a_name_that_was_made_to_point_here_is_turned_away(client, host, status):
    """Numbers and `localhost` are this machine whatever a name server says; every other name is somebody's."""
    assert client.get("/static/console.css", headers={"host": host}).status_code == status


def test_a_name_given_at_the_start_is_answered(shop):
    """Whoever starts it under a name of his own reaches it by that."""
    console = Console(source=Source(shop.url), keys=Keys(token=None), names=("Desk.example",))
    with TestClient(app_of(console), base_url="http://desk.example:80") as client:
        assert client.get("/").status_code == 200


@pytest.mark.parametrize("path", ["/", "/nowhere", "/static/console.js", "/static/none", "/stream?of=x", "/passivate"])
def test_every_answer_carries_the_headers(client, path):
    """Good ones and bad ones, pages and files: no script but the console's own, in nobody's frame, nothing sniffed."""
    answer = client.get(path)
    for name, wanted in HEADERS.items():
        assert answer.headers[name] == wanted
    assert "unsafe" not in answer.headers["content-security-policy"]


def test_pages_hold_no_inline_script_or_style(client):
    """What the policy forbids, no page relies on."""
    for path in ("/", "/stream?of=Order/2026-2", "/events", "/event?at=0:8", "/live", "/followers", "/journal", "/x"):
        page = client.get(path).text
        assert page.count("<script") == page.count('<script src="/static/console.js" defer></script>') == 1
        assert " style=" not in page
        assert "<style" not in page
        assert " onclick" not in page
        assert "javascript:" not in page


@pytest.mark.parametrize("path", ["/passivate", "/rebuild", "/replay", "/", "/stream"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_a_console_that_only_looks_takes_no_change(client, path, method):
    """Unless it was started for changes, nothing but reading is answered."""
    assert client.request(method, path).status_code == 405


def test_a_change_needs_the_token_of_the_form(changing):
    """Another site can send a form; it cannot know what this console's forms carry."""
    client, token = changing
    for sent in ({}, {"form_token": ""}, {"form_token": "x"}, {"form_token": "é"}):
        assert client.post("/passivate", data={"of": "Order/2026-1", **sent}).status_code == 403
    answer = client.post("/passivate", data={"of": "Order/2026-1", "form_token": token})
    assert answer.status_code == 409  # it was taken, and there is no cluster to do it in
    assert "--address" in answer.text


@pytest.mark.parametrize(
    "headers", [{"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}]
)
def test_a_change_from_another_origin_is_refused(changing, headers):
    """Even with the right token."""
    client, token = changing
    data = {"of": "Order/2026-1", "form_token": token}
    assert client.post("/passivate", data=data, headers=headers).status_code == 403


def test_a_form_without_end_is_cut(changing):
    """Nobody fills this process's memory."""
    client, token = changing
    assert client.post("/passivate", data={"form_token": token, "of": "x" * 100_000}).status_code == 413


def test_files_are_served_from_their_folder_alone(client):
    """No address leads out of the folder of static files."""
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/%2fetc/passwd"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "def " not in answer.text


def test_each_start_has_secrets_of_its_own():
    """Nothing of an earlier start is of use, and none of them is shown by accident."""
    keys = [Keys() for _ in range(3)]
    secrets = {each for key in keys for each in (key.token, key.session, key.form)}
    assert len(secrets) == 9
    assert not any(secret in repr(keys) for secret in secrets if secret)
