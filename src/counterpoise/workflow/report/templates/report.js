"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const root = document.documentElement;

  // The theme of the system, until the reader selects another one.
  const button = document.getElementById("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const storage = { get() { try { return localStorage.getItem("counterpoise-theme"); } catch { return null; } },
                   set(v) { try { localStorage.setItem("counterpoise-theme", v); } catch { /* a page opened from a file may have no storage */ } } };
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => { button.textContent = dark() ? "Light theme" : "Dark theme"; };
  if (["light", "dark"].includes(storage.get())) root.dataset.theme = storage.get();
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; storage.set(root.dataset.theme); name(); });
  system.addEventListener("change", name);
  name();

  // The tooltip contains text nodes only, so that a name never becomes markup.
  const tip = document.getElementById("tip");
  const showTip = (handler, event, item, value) => {
    if (value === null || value === undefined || value === "") { tip.hidden = true; return; }
    tip.replaceChildren();
    for (const [key, text] of Object.entries(value)) {
      const row = document.createElement("div");
      const label = document.createElement("span");
      const content = document.createElement("bdi");
      label.textContent = key;
      content.textContent = String(text);
      row.append(label, content);
      tip.append(row);
    }
    tip.hidden = false;
    const margin = 14;
    const box = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + margin, document.documentElement.clientWidth - box.width - 6);
    const below = event.clientY + margin + box.height < window.innerHeight;
    tip.style.left = `${Math.max(6, x)}px`;
    tip.style.top = `${below ? event.clientY + margin : Math.max(6, event.clientY - box.height - margin)}px`;
  };
  window.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  if (!window.vegaEmbed) { root.dataset.ready = "yes"; return; }
  const config = read("vega-config");
  const specs = new Map();
  const views = new Map();
  const latest = new Map();
  const NARROW_LABEL = 180; // pixels of a label on a narrow screen
  let focus = "";

  const draw = async (id, choice) => {
    const place = document.querySelector(`.plot[data-figure="${id}"]`);
    const narrow = place.clientWidth < 560;
    const configuration = { ...config, axisY: { ...config.axisY, labelLimit: narrow ? NARROW_LABEL : config.axisY.labelLimit } };
    const request = (latest.get(id) || 0) + 1;
    latest.set(id, request);
    const spec = structuredClone(specs.get(id)[choice]);
    if (narrow) limitLabels(spec);
    const drawn = await vegaEmbed(place, spec, {
      mode: "vega-lite", renderer: "svg", ast: true, actions: false, config: configuration, defaultStyle: false, tooltip: showTip,
    });
    if (latest.get(id) !== request) { drawn.finalize(); return; }
    views.get(id)?.finalize();
    views.set(id, drawn);
    setFocus(drawn);
    showKey(id, choice);
    place.dataset.drawn = String(choice);
  };
  const limitLabels = (node) => {
    if (node === null || typeof node !== "object") return;
    if (typeof node.labelLimit === "number") node.labelLimit = Math.min(node.labelLimit, NARROW_LABEL);
    Object.values(node).forEach(limitLabels);
  };
  // The key shows the strategies that are in the chart.
  const showKey = (id, choice) => {
    const shown = document.querySelector(`select[data-figure="${id}"]`)?.options[choice].dataset.strategies;
    const names = shown ? JSON.parse(shown) : null;
    for (const one of document.querySelectorAll(`#${id} .key button`)) {
      one.hidden = names !== null && !names.includes(one.dataset.strategy);
    }
  };
  const setFocus = (drawn) => {
    if (drawn.spec.params?.some((p) => p.name === "focus")) drawn.view.signal("focus", focus).run();
  };

  for (const place of document.querySelectorAll(".plot")) {
    const id = place.dataset.figure;
    specs.set(id, read(`${id}-specs`));
  }
  const drawAll = async () => {
    for (const id of specs.keys()) {
      const select = document.querySelector(`select[data-figure="${id}"]`);
      await draw(id, select ? Number(select.value) : 0);
    }
    root.dataset.ready = "yes";
  };
  drawAll();

  for (const select of document.querySelectorAll("select[data-figure]")) {
    select.addEventListener("change", () => draw(select.dataset.figure, Number(select.value)));
  }
  for (const one of document.querySelectorAll(".key button")) {
    one.addEventListener("click", () => {
      focus = focus === one.dataset.strategy ? "" : one.dataset.strategy;
      for (const other of document.querySelectorAll(".key button")) {
        other.setAttribute("aria-pressed", String(other.dataset.strategy === focus));
      }
      views.forEach(setFocus);
    });
  }
  // A saved figure has the colours of the light theme instead of the page's CSS variables.
  for (const save of document.querySelectorAll(".save")) {
    save.hidden = false;
    save.addEventListener("click", async () => {
      const drawn = views.get(save.dataset.figure);
      if (!drawn) return;
      const svg = (await drawn.view.toSVG()).replace(/var\(--[a-z0-9]+, (#[0-9a-f]{6})\)/g, "$1");
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
      link.download = `${save.dataset.figure}.svg`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }
})();
