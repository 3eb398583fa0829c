// The live list, the keys, and the viewer. No library, no build step; works without it as plain pages.
"use strict";
const root = document.body.dataset.root;
const $ = (id) => document.getElementById(id);
const typing = (event) => /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && !/^(radio|checkbox|range)$/.test(event.target.type);

// --- the list -----------------------------------------------------------------------------------------------------
const rows = $("rows");
if (rows) {
  const form = $("filters");
  let revision = Number(rows.firstElementChild.dataset.revision);
  const query = () => new URLSearchParams(new FormData(form)).toString();
  let latest = 0, due;
  const reload = async () => {
    const mine = ++latest, focused = document.activeElement?.closest(".study")?.id;
    const answer = await fetch(`${root}/rows?${query()}`, { headers: { Accept: "text/plain" } });
    if (answer.status === 401) { location.assign(`${root}/sign-in`); return; }
    if (!answer.ok || mine !== latest) return;
    rows.innerHTML = await answer.text();
    const list = rows.firstElementChild;
    revision = Number(list.dataset.revision);
    for (const [name, count] of Object.entries(JSON.parse(list.dataset.counts))) {
      const place = document.querySelector(`[data-count="${CSS.escape(name)}"]`);
      if (place) place.textContent = count;
    }
    if (focused) $(focused)?.firstElementChild.focus({ preventScroll: true });
  };
  form.addEventListener("change", (event) => { if (event.target.name === "show") { history.replaceState(null, "", `?${query()}`); reload(); } });
  form.addEventListener("submit", (event) => { event.preventDefault(); history.replaceState(null, "", `?${query()}`); reload(); });
  let pause;
  $("q").addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(() => { history.replaceState(null, "", `?${query()}`); reload(); }, 250); });

  for (const name of ["sound", "notify"]) {
    const box = $(name);
    box.checked = localStorage.getItem(name) === "on";
    box.addEventListener("change", async () => {
      if (name === "notify" && box.checked && (!("Notification" in window) || (await Notification.requestPermission()) !== "granted")) box.checked = false;
      localStorage.setItem(name, box.checked ? "on" : "off");
      if (name === "sound" && box.checked) chime();
    });
  }
  const chime = () => {
    const audio = new AudioContext();
    for (const [at, pitch] of [[0, 660], [0.18, 880]]) {
      const tone = audio.createOscillator(), level = audio.createGain();
      tone.frequency.value = pitch;
      level.gain.setValueAtTime(0.0001, audio.currentTime + at);
      level.gain.exponentialRampToValueAtTime(0.08, audio.currentTime + at + 0.02);
      level.gain.exponentialRampToValueAtTime(0.0001, audio.currentTime + at + 0.3);
      tone.connect(level).connect(audio.destination);
      tone.start(audio.currentTime + at);
      tone.stop(audio.currentTime + at + 0.32);
    }
    setTimeout(() => audio.close(), 1000);
  };
  const source = new EventSource(`${root}/events`);
  const live = (on) => { $("live").textContent = on ? document.body.dataset.live : document.body.dataset.notLive; $("live").classList.toggle("off", !on); };
  source.addEventListener("open", () => live(true));
  source.addEventListener("error", () => live(false));
  source.addEventListener("message", async (event) => {
    live(true);
    const news = JSON.parse(event.data);
    clearTimeout(due);
    if (news.stat.length) await reload();
    else if (news.revision !== revision) due = setTimeout(reload, 500 + 1500 * Math.random()); // not all pages at once
    if (news.stat.length) {
      for (const job of news.stat) $(`job-${job}`)?.classList.add("fresh");
      $("news").textContent = `${document.body.dataset.newStat} (${news.stat.length})`;
      if ($("sound").checked) chime();
      if ($("notify").checked && Notification.permission === "granted") new Notification(document.body.dataset.newStat);
    }
  });
  setInterval(() => {
    const now = Date.now() / 1000;
    for (const place of rows.querySelectorAll("time[data-since]")) {
      const s = Math.max(0, now - Number(place.dataset.since));
      place.textContent = s < 100 ? `${Math.round(s)} s` : s < 6000 ? `${Math.round(s / 60)} min` : s < 360000 ? `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")}` : `${Math.round(s / 86400)} d`;
    }
  }, 5000);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && event.target === $("q")) { $("q").blur(); return; }
    if (typing(event)) return;
    const links = [...rows.querySelectorAll(".study a")], at = links.indexOf(document.activeElement);
    if (event.key === "j" || event.key === "ArrowDown") { links[Math.min(at + 1, links.length - 1)]?.focus(); event.preventDefault(); }
    else if (event.key === "k" || event.key === "ArrowUp") { links[Math.max(at - 1, 0)]?.focus(); event.preventDefault(); }
    else if (event.key === "/") { $("q").focus(); event.preventDefault(); }
  });
}

// --- one study ----------------------------------------------------------------------------------------------------
const viewer = $("viewer");
if (viewer) {
  const count = Number(viewer.dataset.slices), keys = viewer.dataset.keys.split(",").filter(Boolean).map(Number);
  const state = { number: keys.length ? keys[Math.floor(keys.length / 2)] : Math.ceil(count / 2), window: "brain", map: keys.length > 0 };
  const job = `${root}/study/${viewer.dataset.job}`;
  const address = (n) => (state.map && keys.includes(n) ? `${job}/map/${n}` : `${job}/slice/${n}?window=${state.window}`);
  const show = () => {
    $("picture").src = address(state.number);
    $("picture").alt = `${state.number} / ${count}`;
    $("slice").value = state.number;
    $("number").textContent = `${state.number} / ${count}`;
    for (const button of viewer.querySelectorAll("[data-window]")) button.setAttribute("aria-pressed", String(button.dataset.window === state.window));
    $("map")?.setAttribute("aria-pressed", String(state.map));
    for (const n of [state.number - 1, state.number + 1]) if (n >= 1 && n <= count) new Image().src = address(n);
  };
  const go = (n) => { state.number = Math.min(count, Math.max(1, n)); show(); };
  $("slice").addEventListener("input", () => go(Number($("slice").value)));
  let rolled = 0;
  viewer.addEventListener("wheel", (event) => {
    event.preventDefault();
    rolled += event.deltaY;
    if (Math.abs(rolled) >= 40) { go(state.number - Math.sign(rolled)); rolled = 0; }
  }, { passive: false });
  viewer.addEventListener("click", (event) => {
    const { window: w, go: n } = event.target.dataset;
    if (w) { state.window = w; state.map = false; show(); }
    if (n) { state.map = true; go(Number(n)); }
    if (event.target.id === "map") { state.map = !state.map; show(); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event)) return;
    const next = keys.find((n) => n > state.number), before = keys.filter((n) => n < state.number).pop();
    const acts = {
      ArrowUp: () => go(state.number + 1), ArrowDown: () => go(state.number - 1), k: () => go(state.number + 1), j: () => go(state.number - 1),
      PageUp: () => go(state.number + 5), PageDown: () => go(state.number - 5), Home: () => go(1), End: () => go(count),
      1: () => { state.window = "brain"; state.map = false; show(); }, 2: () => { state.window = "subdural"; state.map = false; show(); }, 3: () => { state.window = "bone"; state.map = false; show(); },
      m: () => { state.map = !state.map; show(); }, n: () => next && go(next), p: () => before && go(before), u: () => location.assign(`${root}/`),
    };
    if (acts[event.key] && event.target.type !== "range") { event.preventDefault(); acts[event.key](); }
  });
  show();
}
