/* What the pages do beyond what they do without a script: `/` goes to the search, the slider shows a version without a
   new page, and figures that change are asked for again while somebody can see them. */
"use strict";

const REFRESH_MS = 2000;

document.documentElement.classList.add("scripted");

/* -- `/` goes to the search ------------------------------------------------------------------------------------------ */

document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof Element && event.target.closest("input:not([type=range]), select, textarea");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const search = document.getElementById("q");
  if (!search) return;
  event.preventDefault();
  search.focus();
  search.select();
});

/* Put a piece that the server made in the place of another, and leave the focus on what is now where it was. */
function replace(place, html) {
  const id = place.contains(document.activeElement) ? document.activeElement.id : "";
  place.innerHTML = html;
  const again = id && document.getElementById(id);
  if (again) again.focus({ preventScroll: true });
}

/* Scroll the list of events, and nothing else, to the one that is shown. */
function reveal(place) {
  const list = place.querySelector(".events"), link = list && list.querySelector("[aria-current]");
  if (!link) return;
  const box = link.getBoundingClientRect(), frame = list.getBoundingClientRect();
  if (box.top < frame.top) list.scrollTop += box.top - frame.top - 8;
  else if (box.bottom > frame.bottom) list.scrollTop += box.bottom - frame.bottom + 8;
}

async function piece(address) {
  const answer = await fetch(address, { credentials: "same-origin", headers: { accept: "text/html" } });
  return { ok: answer.ok, html: await answer.text() };
}

/* -- the slider over the versions of a stream --------------------------------------------------------------------- */

class Timeline {
  constructor(form) {
    this.form = form;
    this.slider = form.querySelector("input[type=range]");
    this.shown = form.querySelector("output b");
    this.moment = document.getElementById("moment");
    this.status = document.getElementById("status");
    this.wanted = this.current = Number(this.slider.getAttribute("value"));
    this.busy = false;
    reveal(this.moment);
    form.querySelector("[type=submit]").hidden = true;
    this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
    form.addEventListener("submit", (event) => event.preventDefault());
    document.addEventListener("click", (event) => this.follow(event));
    if (Number(this.slider.value) !== this.current) this.go(Number(this.slider.value));  // moved before this ran
  }

  /* Links to other versions of this stream need no new page either. */
  follow(event) {
    const link = event.target.closest("a[data-version]");
    if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    this.go(Number(link.dataset.version));
  }

  go(version) {
    const max = Number(this.slider.max);
    this.wanted = Math.max(0, Math.min(max, version));
    this.slider.value = String(this.wanted);
    this.slider.setAttribute("aria-valuetext", `version ${this.wanted} of ${max}`);
    this.shown.textContent = this.wanted.toLocaleString("en-GB");
    for (const step of this.form.querySelectorAll("a[data-step]")) this.aim(step, max);
    this.catchUp();
  }

  aim(link, max) {
    const to = { first: 0, last: max, back: this.wanted - 1, on: this.wanted + 1 }[link.dataset.step];
    const there = Math.max(0, Math.min(max, to));
    link.dataset.version = String(there);
    link.href = this.address("/stream", there);
  }

  address(path, version) {
    return `${path}?of=${this.form.dataset.of}&version=${version}`;
  }

  /* One request at a time: a slider that is dragged asks for where it is now, not for each version on the way. */
  async catchUp() {
    if (this.busy) return;
    this.busy = true;
    this.moment.setAttribute("aria-busy", "true");
    try {
      while (this.current !== this.wanted) {
        const version = this.wanted;
        const { ok, html } = await piece(this.address("/stream/moment", version));
        if (!ok) return window.location.assign(this.address("/stream", version));  // its page says what is wrong
        this.current = version;
        if (version === this.wanted) {
          replace(this.moment, html);
          reveal(this.moment);
          history.replaceState(null, "", this.address("/stream", version));
          this.status.textContent = `Version ${version} is shown.`;
        }
      }
    } catch {
      this.status.textContent = "The console does not answer.";
      this.current = NaN;
      this.wanted = NaN;
    } finally {
      this.busy = false;
      this.moment.removeAttribute("aria-busy");
    }
  }
}

const timeline = document.querySelector("form.time");
if (timeline) new Timeline(timeline);

/* -- figures that change ---------------------------------------------------------------------------------------------- */

class Refresh {
  constructor(place) {
    this.place = place;
    this.note = document.getElementById("refresh-note");
    this.stopped = false;
    this.button = document.getElementById("refresh");
    if (this.button) {
      this.button.hidden = false;
      this.button.addEventListener("click", () => this.toggle());
    }
    document.addEventListener("visibilitychange", () => document.hidden || this.look());
    setInterval(() => this.look(), REFRESH_MS);
  }

  toggle() {
    this.stopped = !this.stopped;
    this.button.textContent = this.stopped ? "Go on" : "Pause";
    this.button.setAttribute("aria-pressed", String(this.stopped));
    if (!this.stopped) this.look();
  }

  async look() {
    if (this.stopped || document.hidden || this.looking) return;
    this.looking = true;
    try {
      const { ok, html } = await piece(this.place.dataset.refresh);
      if (ok) replace(this.place, html);
      this.note.textContent = ok ? "" : "The console cannot say at the moment.";
    } catch {
      this.note.textContent = "The console does not answer. Is it still running?";
    } finally {
      this.looking = false;
    }
  }
}

for (const place of document.querySelectorAll("[data-refresh]")) new Refresh(place);

/* The event that a graph is about may be far to the right of its beginning. */
const here = document.querySelector(".graph [aria-current]");
if (here) {
  const graph = here.closest(".graph");
  const box = here.getBoundingClientRect(), frame = graph.getBoundingClientRect();
  graph.scrollLeft += box.left - frame.left - (frame.width - box.width) / 2;
  graph.scrollTop += box.top - frame.top - (frame.height - box.height) / 2;
}
