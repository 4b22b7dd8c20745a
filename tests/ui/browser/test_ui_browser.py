"""The console as a person uses it, in Chromium: with a mouse, with a keyboard alone, on a telephone, in the dark."""

import re

import hf_browser
import pytest
from axe_playwright_python.sync_playwright import Axe
from hf_shop import HOSTILE_IDS, LONG_EVENTS, SCRIPT
from playwright.sync_api import expect

DARK, SMALL = {"color_scheme": "dark"}, {"viewport": {"width": 360, "height": 740}}
NO_SCRIPT = {"java_script_enabled": False}
PAGES = {
    "streams": ("/", {}),
    "found": ("/", {"q": "2026-1"}),
    "hostile streams": ("/", {"category": "Hostile"}),
    "stream": ("/stream", {"of": "Order/2026-2", "version": 4}),
    "stream without class": ("/stream", {"of": "Meter/hall", "version": 50_000}),
    "damaged": ("/stream", {"of": "Ledger/torn", "version": 5}),
    "hostile": ("/stream", {"of": f"Hostile/{SCRIPT}"}),
    "events": ("/events", {}),
    "event": ("/event", {"at": "0:22"}),
    "live": ("/live", {}),
    "followers": ("/followers", {}),
    "journal": ("/journal", {"count": 1}),
}
each_page = pytest.mark.parametrize("name", PAGES)


def slider(page):
    return page.get_by_role("slider", name="Version")


def overflow(page) -> int:
    """How far the page itself scrolls sideways."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def test_a_search_leads_to_an_aggregate(visit):
    """`/` goes to the search, Enter finds, a click opens its timeline."""
    page = visit.go("/")
    page.keyboard.press("/")
    expect(page.get_by_label("Search streams")).to_be_focused()
    page.keyboard.type("2026-2")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="2026-2", exact=True).click()
    expect(page).to_have_title("Order/2026-2 · Holdfast")
    expect(page.get_by_role("heading", name="State at version 5")).to_be_visible()


def test_a_category_filters_the_streams(visit):
    """A click on it leaves its streams alone."""
    page = visit.go("/")
    page.get_by_role("navigation", name="Categories").get_by_role("link", name="Stock").click()
    expect(page.get_by_role("row")).to_have_count(6)
    expect(page.get_by_role("link", name="Invisible Cities")).to_be_visible()


def test_the_slider_moves_by_keyboard_and_the_state_follows(visit):
    """Arrow keys, Home and End; no new page, no focus lost, and the address is that of what is shown."""
    page = visit.go("/stream", of="Order/2026-2")
    page.evaluate("window.same = true")
    slider(page).focus()
    for key, version, status in (
        ("ArrowLeft", 4, "paid"),
        ("ArrowLeft", 3, "reserved"),
        ("Home", 0, "new"),
        ("ArrowRight", 1, "placed"),
        ("End", 5, "shipped"),
    ):
        page.keyboard.press(key)
        expect(page.get_by_role("heading", name=f"State at version {version}")).to_be_visible()
        expect(page.locator(".state tr", has_text="status").locator("td")).to_contain_text(status)
        expect(slider(page)).to_be_focused()
        expect(page).to_have_url(re.compile(rf"version={version}$"))
    expect(slider(page)).to_have_attribute("aria-valuetext", "version 5 of 5")
    assert page.evaluate("window.same")


def test_what_an_event_changed_is_shown(visit):
    """Before and after, in the table and in the state itself."""
    page = visit.go("/stream", of="Order/2026-2", version=4)
    changed = page.locator(".diff tr", has_text="status")
    expect(changed.locator("del")).to_have_text("reserved")
    expect(changed.locator("ins")).to_have_text("paid")
    row = page.locator(".state tr.changed", has_text="status")
    expect(row.locator("del")).to_contain_text("reserved")


def test_a_version_of_the_list_is_shown_without_a_new_page(visit):
    """And the focus stays on it, for the keyboard to go on from there."""
    page = visit.go("/stream", of="Order/2026-2")
    page.evaluate("window.same = true")
    page.locator("#v-2").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="State at version 2")).to_be_visible()
    expect(page.locator("#v-2")).to_be_focused()
    expect(slider(page)).to_have_value("2")
    assert page.evaluate("window.same")


def test_a_slider_that_is_dragged_over_100_000_versions_ends_where_it_was_left(visit):
    """Of all that it passes, what counts is the last; few are asked for."""
    page = visit.go("/stream", of="Meter/hall", version=1)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    box = slider(page).bounding_box()
    page.mouse.move(box["x"] + 10, box["y"] + box["height"] / 2)
    page.mouse.down()
    for step in range(60):
        page.mouse.move(box["x"] + 10 + step * (box["width"] - 12) / 59, box["y"] + box["height"] / 2)
    page.mouse.up()
    slider(page).focus()
    page.keyboard.press("End")
    expect(page.get_by_role("heading", name=f"State at version {LONG_EVENTS:,}")).to_be_visible()
    expect(page.locator("#moment")).to_contain_text(f"{LONG_EVENTS - 1}")
    assert len(asked) <= 61


@pytest.mark.parametrize("visit", [NO_SCRIPT], indirect=True)
def test_everything_is_reached_without_a_script(chromium, entrance, visit):
    """Versions by links and by the form; the graph, the pages."""
    page = visit.go("/stream", of="Order/2026-2", version=3)
    page.get_by_role("link", name="One version back").click()
    expect(page.get_by_role("heading", name="State at version 2")).to_be_visible()
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("heading", name="State at version 2")).to_be_visible()
    page.get_by_role("link", name="Cause and effect").click()
    page.locator("svg").get_by_role("link", name=re.compile("invoice.issued")).click()
    expect(page).to_have_title(re.compile("invoice.issued"))


def test_the_graph_is_walked_by_mouse_and_by_keyboard(visit):
    """From what was paid to its effects, and back to the cause; each step a page with its own drawing."""
    page = visit.go("/stream", of="Order/2026-2", version=4)
    page.get_by_role("link", name="Cause and effect").click()
    graph = page.get_by_role("region", name="Cause and effect, drawn")
    expect(graph.get_by_role("link")).to_have_count(4)
    graph.get_by_role("link", name=re.compile("parcel.packed")).click()
    expect(page).to_have_title(re.compile("parcel.packed"))
    page.get_by_role("link", name="order.paid of Order/2026-2").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_title(re.compile("order.paid"))
    page.get_by_text("The same as a list").click()
    expect(page.locator(".tree").get_by_role("link", name="invoice.settled")).to_be_visible()


def test_the_first_stop_of_the_keyboard_skips_to_the_content(visit):
    """And the focus can be seen wherever it is."""
    page = visit.go("/")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    for _ in range(12):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", page.evaluate("document.activeElement.outerHTML")


@pytest.mark.parametrize("id", HOSTILE_IDS)
def test_a_hostile_stream_is_text_and_nothing_else(visit, id):
    """From the list to its timeline and its event: no dialog, no script, no element that is not the console's."""
    page = visit.go("/", category="Hostile", q=id[:40])
    link = page.locator("table a").first
    link.click()
    expect(page.get_by_role("heading", name="Events")).to_be_visible()
    assert page.evaluate("new URLSearchParams(location.search).get('of')") == f"Hostile/{id}" or len(id) > 40
    slider(page).focus()
    page.keyboard.press("Home")
    expect(page.get_by_role("heading", name="State at version 0")).to_be_visible()
    page.keyboard.press("End")
    page.get_by_role("link", name="Cause and effect").click()
    expect(page.get_by_role("heading", name="Fields")).to_be_visible()
    assert page.locator("img, iframe, object, embed, b b, script:not([src])").count() == 0


@each_page
@pytest.mark.parametrize("visit", [{}, DARK, SMALL], ids=["light", "dark", "small"], indirect=True)
def test_no_page_has_a_serious_fault_of_accessibility(visit, name):
    """By axe-core's rules for WCAG 2.2 AA, contrast among them."""
    path, query = PAGES[name]
    page = visit.go(path, **query)
    found = Axe().run(
        page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    )
    bad = [v for v in found.response["violations"] if v["impact"] in ("serious", "critical", "moderate")]
    assert bad == [], "\n".join(f"{v['id']}: {v['help']}: {[n['html'][:160] for n in v['nodes'][:3]]}" for v in bad)


@each_page
@pytest.mark.parametrize("visit", [SMALL], ids=["small"], indirect=True)
def test_no_page_scrolls_sideways_on_a_small_screen(visit, name):
    """At 360 pixels; wide tables scroll in a frame of their own."""
    path, query = PAGES[name]
    assert overflow(visit.go(path, **query)) <= 0


def test_light_and_dark_follow_the_system(chromium, entrance):
    """The ground is light in one and dark in the other; the text the other way round."""
    seen = {}
    for scheme in ("light", "dark"):
        with hf_browser.visiting(chromium, entrance, color_scheme=scheme) as visit:
            ground, ink = visit.page.evaluate(
                "['background-color', 'color'].map(name => getComputedStyle(document.body).getPropertyValue(name))"
            )
            seen[scheme] = [sum(map(int, re.findall(r"\d+", each)[:3])) for each in (ground, ink)]
    assert seen["light"][0] > 600 > 200 > seen["light"][1]
    assert seen["dark"][0] < 200 < 600 < seen["dark"][1]


@pytest.mark.parametrize("visit", [{"reduced_motion": "reduce"}], indirect=True)
def test_nothing_moves_for_whoever_asked_for_that(visit):
    """No transition of any element lasts."""
    page = visit.go("/stream", of="Order/2026-2")
    lasting = (
        "[...document.querySelectorAll('*')].filter(e => parseFloat(getComputedStyle(e).transitionDuration) > 0).length"
    )
    assert page.evaluate(lasting) == 0


def test_a_strange_script_would_not_run(visit):
    """Should markup ever slip through, the content policy stops it: neither inline scripts nor foreign ones run."""
    page = visit.go("/")
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.slipped = true";
        document.body.append(script);
        const image = document.createElement("div");
        image.innerHTML = '<img src="http://127.0.0.1:9/x.png" onerror="window.slipped = true">';
        document.body.append(image);
    }""")
    page.wait_for_function("document.images.length > 0 && document.images[0].complete")
    assert page.evaluate("window.slipped") is None
    assert any("Content Security Policy" in each for each in visit.complaints)
    visit.complaints.clear()
    visit.abroad.clear()  # asked for, and refused before it left


def test_nobody_enters_without_the_token(chromium, entrance):
    """Another browser that finds the port sees nothing; and the token is not left in the address of who has it."""
    context = chromium.new_context()
    page = context.new_page()
    answer = page.goto(entrance.partition("?")[0])
    assert answer.status == 401
    expect(page.get_by_role("heading", name="Not without the token")).to_be_visible()
    page.goto(entrance)
    expect(page.get_by_role("heading", name="Streams")).to_be_visible()
    assert "token" not in page.url
    assert page.evaluate("document.cookie") == ""
    context.close()


def test_a_link_from_another_site_still_leads_in(chromium, entrance):
    """A strict cookie is not sent along with a visit that another site began; the page that exchanges the token goes on
    by itself, so that visit is the console's own."""
    context = chromium.new_context()
    page = context.new_page()
    page.route(
        "http://mail.example/**",
        lambda route: route.fulfill(body=f'<a href="{entrance}">the console</a>', content_type="text/html"),
    )
    page.goto("http://mail.example/")
    page.get_by_role("link").click()
    expect(page.get_by_role("heading", name="Streams")).to_be_visible()
    context.close()


def test_live_figures_come_by_themselves_and_can_be_paused(chromium, at_work):
    """Rates appear without a new page; a pause stops them, and one who looks away is not asked for."""
    with hf_browser.visiting(chromium, at_work) as visit:
        page = visit.go("/live")
        page.evaluate("window.same = true")
        hosts = page.get_by_role("group", name="Hosts")
        expect(hosts.get_by_role("row", name=re.compile(r"Order#\d+ \d+ [1-9]"))).not_to_have_count(0, timeout=15_000)
        expect(page.get_by_role("link", name="Order/2026-1", exact=True)).to_be_visible()
        page.get_by_role("button", name="Pause").click()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.clock.install()
        page.clock.run_for(10_000)
        assert asked == []
        page.get_by_role("button", name="Go on").click()
        with page.expect_response(re.compile("/live/now")):
            pass
        assert page.evaluate("window.same")
        visit.check()


def test_an_aggregate_is_sent_out_of_memory_from_its_page(chromium, at_work):
    """Where changes are allowed: one button, and the page says what came of it."""
    with hf_browser.visiting(chromium, at_work) as visit:
        page = visit.go("/stream", of="Stock/Solaris")
        page.get_by_role("button", name="Send it out of memory").click()
        expect(page.get_by_role("status").filter(has_text="left memory")).to_be_visible()
        visit.check()


def test_followers_show_their_lag_and_letters(chromium, at_work):
    """A projection and a reaction, by phase and lag; and what was set aside, with a button to replay it."""
    with hf_browser.visiting(chromium, at_work) as visit:
        page = visit.go("/followers")
        expect(page.get_by_role("row", name=re.compile("Sales@1"))).to_be_visible()
        letters = page.get_by_role("group", name=re.compile("Dead letters of"))
        expect(letters).to_contain_text("nobody knows where 2026-3 goes")
        page.get_by_role("button", name=re.compile("Replay order.paid")).click()
        expect(page.get_by_role("heading", name="It failed again")).to_be_visible()
        assert [each for each in visit.complaints if "409" not in each] == []
