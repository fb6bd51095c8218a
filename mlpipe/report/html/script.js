// What a page of figures gains by a script: looking at moments, sorting, the theme, the record as a file.
// Text goes into the page as text only, never as markup.
"use strict";
(() => {
  const written = (id) => document.getElementById(id)?.textContent ?? "null";
  const records = { record: JSON.parse(written("record")), other: JSON.parse(written("other")) };
  const tip = document.getElementById("tip");
  const DASH = "–";

  // Figures as mlpipe/measure/sizes.py writes them.
  const three = (value) => {
    const size = Math.abs(value);
    return value.toFixed(size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
  };
  const duration = (seconds) => {
    if (seconds <= 0) return "0 s";
    for (const [limit, scale, unit] of [[0.9995e-6, 1e9, "ns"], [0.9995e-3, 1e6, "µs"], [0.9995, 1e3, "ms"], [59.95, 1, "s"]])
      if (seconds < limit) return `${three(seconds * scale)} ${unit}`;
    const two = (value) => String(value).padStart(2, "0");
    const all = Math.round(seconds);
    if (all < 3600) return `${Math.floor(all / 60)}:${two(all % 60)} min`;
    const minutes = Math.round(seconds / 60);
    if (minutes < 1440) return `${Math.floor(minutes / 60)}:${two(minutes % 60)} h`;
    const hours = Math.round(seconds / 3600);
    return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  };
  const size = (bytes) => {
    if (Math.abs(bytes) < 1023.5) return `${bytes.toFixed(0)} B`;
    let value = bytes / 1024;
    let unit = 0;
    while (Math.abs(value) >= 1023.5 && unit < 5) { value /= 1024; unit += 1; }
    return `${three(value)} ${"KMGTPE"[unit]}iB`;
  };
  const percent = (share) => {
    if (share <= 0 || share >= 1) return `${(share * 100).toFixed(0)} %`;
    if (share < 0.001) return "<0.1 %";
    const tenths = Math.floor(share * 1000);
    return `${Math.floor(tenths / 10)}.${tenths % 10} %`;
  };

  // What is to be seen at a moment: a heading, the time, and lines of [class of the colour, name, figure].
  const STATES = [["self", "self"], ["compile", "compile"], ["wait_out", "wait out"], ["wait_in", "wait in"]];
  // Threads that run kernels for others come after the stages.
  const laned = (record) => [...record.stages, ...record.thread_facts.filter((thread) => thread.timeline)];
  const running = (record, places, at) => {
    const all = laned(record);
    const stages = places.map((place) => all[place]).filter(Boolean);
    return stages.filter((stage) => (stage.began_s ?? 0) <= at && at <= (stage.ended_s ?? Infinity));
  };
  const ofStage = (stage, at) => {
    const line = stage.timeline ?? {};
    const step = Math.floor(at / line.step_s);
    return STATES.flatMap(([key, name]) => {
      const share = line[key]?.[step];
      return share > 0 ? [[key, name, percent(share)]] : [];
    });
  };
  const stepOf = (stage, at) => {
    const step = stage.timeline?.step_s;
    if (!(step > 0)) return duration(at);
    const from = Math.floor(at / step + 1e-9) * step;
    return `${duration(from)} to ${duration(from + step)}`;
  };
  const laneFacts = (record, picture, at) => {
    const places = picture.dataset.stages.split(" ").filter(Boolean).map(Number);
    const stages = running(record, places, at);
    const name = picture.closest(".row").querySelector(".name").textContent;
    if (!stages.length) return { name, when: duration(at), lines: [], none: "not running" };
    if (picture.classList.contains("thin")) {
      const lines = stages.map((stage) => {
        const [self, compile] = ["self", "compile"].map((key) => stage.timeline?.[key]?.[Math.floor(at / stage.timeline.step_s)] ?? 0);
        return ["busy", stage.name, percent(self + compile)];
      });
      return { name, when: stepOf(stages[0], at), lines };
    }
    const stage = stages[0];
    const later = stage.phase > 0 ? `, pass ${stage.phase + 1}` : "";
    const lines = ofStage(stage, at);
    return { name: `${stage.name}${later}`, when: stepOf(stage, at), lines, none: lines.length ? null : "no time measured" };
  };
  const samplesOf = (record, picture) =>
    picture.dataset.record.includes("profile") ? record.profile.samples : record.process.samples;
  const before = (times, at) => {
    let low = 0;
    let high = times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] <= at) low = middle + 1; else high = middle;
    }
    return Math.max(low - 1, 0);
  };
  const memoryFacts = (record, picture, at) => {
    const samples = samplesOf(record, picture);
    const place = before(samples.t_s, at);
    const series = [["anonymous", "anonymous", "anonymous"], ["flying", "of it in flight", "in_flight"], ["files", "file-backed", "file_backed"], ["resident", "resident", "rss"]];
    const lines = series.flatMap(([colour, name, key]) => {
      const value = samples[key]?.[place];
      return samples[key] ? [[colour, name, typeof value === "number" ? size(value) : DASH]] : [];
    });
    return { name: "memory", when: duration(samples.t_s[place] ?? 0), lines };
  };
  const queueFacts = (record, picture, at) => {
    const samples = record.process.samples;
    const place = before(samples.t_s, at);
    const depth = samples.queues[picture.dataset.queue]?.[place];
    return { name: `queue ${picture.dataset.queue}`, when: duration(samples.t_s[place] ?? 0), lines: [["depth", "waiting", String(depth ?? DASH)]] };
  };
  const factsOf = (picture, at) => {
    const record = records[picture.dataset.record.split(" ")[0]];
    if ("queue" in picture.dataset) return queueFacts(record, picture, at);
    return "memory" in picture.dataset ? memoryFacts(record, picture, at) : laneFacts(record, picture, at);
  };

  const made = (tag, text, class_) => {
    const one = document.createElement(tag);
    if (text !== undefined) one.textContent = text;
    if (class_) one.className = class_;
    return one;
  };
  const swatch = (colour) => {
    const space = "http://www.w3.org/2000/svg";
    const picture = document.createElementNS(space, "svg");
    const shape = document.createElementNS(space, colour === "resident" ? "line" : "rect");
    picture.setAttribute("class", "swatch");
    picture.setAttribute("aria-hidden", "true");
    shape.setAttribute("class", colour === "resident" ? "line resident" : colour);
    const reach = colour === "resident" ? { x1: 0, x2: "100%", y1: "50%", y2: "50%" } : { width: "100%", height: "100%" };
    for (const [name, value] of Object.entries(reach)) shape.setAttribute(name, value);
    picture.append(shape);
    return picture;
  };
  const show = (facts) => {
    const rows = facts.lines.map(([colour, name, figure]) => {
      const row = made("tr");
      const head = made("th");
      head.append(swatch(colour), made("bdi", name));
      row.append(head, made("td", figure));
      return row;
    });
    const table = made("table");
    table.append(...rows);
    tip.replaceChildren(made("b", facts.name), made("span", facts.when, "when"), rows.length ? table : made("span", facts.none ?? ""));
    tip.hidden = false;
  };
  const place = (x, y) => {
    const { width, height } = tip.getBoundingClientRect();
    const right = x + 14 + width > innerWidth ? Math.max(x - width - 14, 4) : x + 14;
    const below = y + 18 + height > innerHeight ? Math.max(y - height - 12, 4) : y + 18;
    tip.style.left = `${right}px`;
    tip.style.top = `${below}px`;
  };
  const spoken = (facts) => [facts.when, ...facts.lines.map(([, name, figure]) => `${name} ${figure}`), facts.none ?? ""].filter(Boolean).join(", ");

  let looked = null;
  const hide = () => {
    tip.hidden = true;
    looked?.chart.classList.remove("looked");
    looked = null;
  };
  const look = (picture, share, x, y) => {
    const chart = picture.closest(".chart");
    if (looked && looked.chart !== chart) looked.chart.classList.remove("looked");
    const at = share * Number(picture.dataset.wall);
    for (const line of chart.querySelectorAll(".cursor")) {
      line.setAttribute("x1", `${share * 100}%`);
      line.setAttribute("x2", `${share * 100}%`);
    }
    chart.classList.add("looked");
    const facts = factsOf(picture, at);
    show(facts);
    const box = picture.getBoundingClientRect();
    place(x ?? box.left + share * box.width, y ?? box.bottom - 14);
    const keyed = x === undefined;
    picture.setAttribute("aria-valuenow", String(Math.round(share * 1000)));
    picture.setAttribute("aria-valuetext", spoken(facts));
    looked = { chart, picture, share, keyed };
  };
  const inside = (value) => Math.min(Math.max(value, 0), 1);
  const stride = (picture) => {
    const record = records[picture.dataset.record.split(" ")[0]];
    const step = laned(record)[Number(picture.dataset.stages?.split(" ")[0])]?.timeline?.step_s;
    return step > 0 ? Math.max(step / Number(picture.dataset.wall), 1e-4) : 0.01;
  };
  // The middle of a step, so that rounding never shows the step beside it.
  const moved = (picture, by) => {
    const one = stride(picture);
    const now = looked?.picture === picture ? looked.share : looked ? looked.share : 0;
    return inside((Math.floor(now / one + 1e-6) + by + 0.5) * one);
  };
  const KEYS = {
    ArrowRight: (picture) => moved(picture, 1), ArrowLeft: (picture) => moved(picture, -1),
    PageUp: (picture) => moved(picture, 10), PageDown: (picture) => moved(picture, -10),
    Home: (picture) => inside(stride(picture) / 2), End: (picture) => inside(1 - stride(picture) / 2),
  };
  for (const picture of document.querySelectorAll("[data-wall][tabindex]")) {
    picture.setAttribute("role", "slider");
    picture.setAttribute("aria-readonly", "true");
    picture.setAttribute("aria-valuemin", "0");
    picture.setAttribute("aria-valuemax", "1000");
    picture.setAttribute("aria-valuenow", "0");
    picture.setAttribute("aria-valuetext", "the beginning");
    const follow = (event) => {
      const box = picture.getBoundingClientRect();
      look(picture, inside((event.clientX - box.left) / box.width), event.clientX, event.clientY);
    };
    picture.addEventListener("pointermove", follow);
    picture.addEventListener("pointerdown", follow);
    picture.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
    picture.addEventListener("pointercancel", hide);
    picture.addEventListener("focus", () => { if (picture.matches(":focus-visible")) look(picture, moved(picture, 0)); });
    picture.addEventListener("blur", hide);
    picture.addEventListener("keydown", (event) => {
      const to = KEYS[event.key];
      if (event.key === "Escape") hide();
      else if (to && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        look(picture, to(picture));
      }
    });
  }
  document.addEventListener("pointerdown", (event) => { if (!event.target.closest("[data-wall][tabindex]")) hide(); });
  // Moving to a lane by keyboard may scroll the page, after which the figures belong elsewhere.
  addEventListener("scroll", () => { if (looked?.keyed) look(looked.picture, looked.share); }, { passive: true });
  for (const hint of document.querySelectorAll(".hint")) hint.hidden = false;

  // Tables: by a heading, the largest first for figures, then the smallest, then as they were. What is missing stays last.
  const key = (row, column) => row.cells[column]?.dataset.value ?? null;
  const sort = (table, column, direction) => {
    const body = table.tBodies[0];
    table.original ??= [...body.rows];
    const figures = table.tHead.rows[0].cells[column].classList.contains("figure");
    const compared = (one, other) => {
      const [a, b] = [key(one, column), key(other, column)];
      if (a === null || b === null) return (a === null) - (b === null);
      return direction * (figures ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true }));
    };
    body.append(...(direction ? [...table.original].sort(compared) : table.original));
  };
  const NEXT = { figure: { none: "descending", descending: "ascending", ascending: "none" }, text: { none: "ascending", ascending: "descending", descending: "none" } };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      button.disabled = false;
      button.addEventListener("click", () => {
        const to = NEXT[head.classList.contains("figure") ? "figure" : "text"][head.getAttribute("aria-sort")];
        for (const each of heads) each.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", to);
        sort(table, column, { none: 0, ascending: 1, descending: -1 }[to]);
      });
    });
  }

  // The theme: the system's, dark, light. Kept for other reports where the browser allows it.
  const theme = document.getElementById("theme");
  const stored = (act) => { try { return act(); } catch { return null; } };
  const paint = (name) => {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    theme.textContent = `Theme: ${name}`;
    theme.setAttribute("aria-label", `Theme: ${name}. Change it`);
  };
  const THEMES = ["auto", "dark", "light"];
  let chosen = stored(() => localStorage.getItem("mlpipe-theme"));
  if (!THEMES.includes(chosen)) chosen = "auto";
  paint(chosen);
  theme.hidden = false;
  theme.addEventListener("click", () => {
    chosen = THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length];
    stored(() => localStorage.setItem("mlpipe-theme", chosen));
    paint(chosen);
  });

  const save = document.getElementById("save");
  save.hidden = false;
  save.addEventListener("click", () => { // as it was written: numbers of JavaScript would round what is above 2**53
    const link = made("a");
    link.href = URL.createObjectURL(new Blob([written("record")], { type: "application/json" }));
    link.download = "record.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });

  window.mlpipeReport = Object.freeze({ duration, size, percent });
})();
