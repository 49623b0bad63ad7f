"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Theme: the dark style sheet's media attribute; "auto" follows the system, paper is always light.
  const dark = document.getElementById("dark");
  const automatic = dark.media;
  const media = { auto: automatic, light: "not all", dark: "screen" };
  const kept = (() => { try { return localStorage.getItem("nasplug-theme"); } catch { return null; } })();
  const setTheme = (name) => { dark.media = media[name] ?? automatic; };
  setTheme(kept);
  for (const input of document.querySelectorAll("input[name='theme']")) {
    input.checked = input.value === (kept in media ? kept : "auto");
    input.addEventListener("change", () => {
      setTheme(input.value);
      try { localStorage.setItem("nasplug-theme", input.value); } catch { /* a browser that keeps nothing for files */ }
      drawAll();
    });
  }
  for (const hidden of document.querySelectorAll(".theme, .unfold")) hidden.hidden = false;

  // Tables: a header's button sorts by data-v where a cell has it (numbers), by text otherwise; empty cells stay last.
  const key = (row, column) => {
    const cell = row.cells[column];
    if (!("v" in cell.dataset)) return cell.textContent.trim().toLowerCase();
    return cell.dataset.v === "" ? null : Number(cell.dataset.v);
  };
  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const table = head.closest("table");
      const descending = head.getAttribute("aria-sort") === "ascending" ||
        (!head.hasAttribute("aria-sort") && head.dataset.first === "descending");
      const sign = descending ? -1 : 1;
      const rows = [...table.tBodies[0].rows].map((row) => [key(row, head.cellIndex), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return sign * (typeof a === "number" ? a - b : a.localeCompare(b));
      });
      table.tBodies[0].append(...rows.map(([, row]) => row));
      for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    });
  }

  // Curves: the figures arrive complete; the controls swap their data, the theme swaps their colours.
  const charts = read("charts");
  const hidden = new Set();
  const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`)?.value;
  const fade = (colour, alpha) => {
    const full = colour.length === 4 ? colour.replace(/[0-9a-f]/gi, "$&$&") : colour;
    return full + Math.round(alpha * 255).toString(16).padStart(2, "0");
  };

  // An incumbent stays until the next is found: corners of its staircase, leaving out what is not there yet.
  const stairs = (x, y) => {
    const corners = { x: [], y: [] };
    y.forEach((value, k) => {
      if (value === null) return;
      if (corners.x.length) { corners.x.push(x[k]); corners.y.push(corners.y.at(-1)); }
      corners.x.push(x[k]);
      corners.y.push(value);
    });
    return corners;
  };

  // plotly abbreviates the labels between decades ("5" for 0.5): written out, and only where there is room.
  const logTicks = (low, high) => {
    const tickvals = [];
    for (let decade = Math.floor(Math.log10(low)); decade <= Math.log10(high); decade += 1) {
      for (const step of high / low > 100 ? [1] : [1, 2, 5]) tickvals.push(step * 10 ** decade);
    }
    const inside = tickvals.filter((v) => v >= low && v <= high);
    return { tickmode: "array", tickvals: inside, ticktext: inside.map((v) => String(Number(v.toPrecision(1)))) };
  };

  const paper = { small: { width: 330, height: 200 }, large: { width: 1000, height: 260 } };
  let printing = false;
  const draw = (element) => {
    const chart = charts[element.dataset.chart];
    const scale = chart.has_regret ? chosen("scale") : "accuracy";
    const wanted = chosen("axis") ?? "queries";
    const axis = chart.views[wanted] ? wanted : "queries";
    const view = chart.views[axis];
    const quantity = scale === "accuracy" ? "accuracy" : "regret";
    const floor = chart.floor;
    const shown = scale === "log" ? (v) => (v === null ? null : Math.max(v, floor)) : (v) => v;
    const traces = chart.figure.data.map((trace) => {
      const { strategy, part } = trace.meta;
      const lines = view[strategy];
      if (!lines) return { ...trace, visible: false };
      const colour = css(`--s${chart.colours[strategy]}`);
      const visible = !hidden.has(strategy);
      const q = lines[quantity];
      if (part === "band") {
        const [below, above] = [stairs(lines.x, q.low), stairs(lines.x, q.high)];
        return { ...trace, visible, x: [...below.x, ...above.x.reverse()],
          y: [...below.y, ...above.y.reverse()].map(shown), fillcolor: fade(colour, 0.1) };
      }
      return { ...trace, visible, x: lines.x, y: q.median.map(shown), customdata: q.median, line: { ...trace.line, color: colour } };
    });
    const look = { gridcolor: css("--grid"), linecolor: css("--line"), tickcolor: css("--line"), zeroline: false };
    const layout = chart.figure.layout;
    const times = Object.values(view)[0].x;
    const atFloor = scale === "log" && chart.touches;
    Plotly.react(element, traces, {
      ...layout,
      ...(printing ? paper[element.classList.contains("large") ? "large" : "small"] : { autosize: true }),
      font: { ...layout.font, color: css("--soft"), family: getComputedStyle(document.body).fontFamily },
      hoverlabel: { bgcolor: css("--panel"), bordercolor: css("--line"), font: { color: css("--ink"), size: 11 } },
      xaxis: { ...layout.xaxis, ...look, ...(axis === "seconds" ? { type: "log", ...logTicks(times[0], times.at(-1)) } : { type: "linear" }), title: { ...layout.xaxis.title, text: chart.axis_titles[axis] } },
      yaxis: { ...layout.yaxis, ...look, type: scale === "log" ? "log" : "linear",
        title: { ...layout.yaxis.title, text: chart.axis_titles[quantity] },
        ...(scale === "log" ? { range: [Math.log10(floor * 0.75), Math.log10(chart.ceiling * 1.25)],
          ...logTicks(chart.touches ? floor * 2 : floor * 0.75, chart.ceiling * 1.25) } : {}) },
      shapes: atFloor ? [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: floor, y1: floor,
        line: { color: css("--soft"), width: 1, dash: "dot" } }] : [],
      annotations: atFloor ? [{ xref: "paper", x: 0, xanchor: "right", xshift: -3, y: Math.log10(floor), yanchor: "middle",
        showarrow: false, text: "0", font: { size: 11 } }] : [],
    }, { displayModeBar: false, responsive: true, scrollZoom: false });
  };
  // Those that are folded away are drawn when they are unfolded, since plotly must measure them.
  const drawAll = () => {
    for (const element of document.querySelectorAll(".plot")) {
      if (element.closest("details:not([open])") === null) draw(element);
    }
  };

  for (const input of document.querySelectorAll(".controls input")) input.addEventListener("change", drawAll);
  for (const chip of document.querySelectorAll(".chip")) {
    chip.addEventListener("click", () => {
      const on = chip.getAttribute("aria-pressed") === "false";
      chip.setAttribute("aria-pressed", String(on));
      hidden[on ? "delete" : "add"](Number(chip.dataset.strategy));
      for (const mark of document.querySelectorAll(`.scatter [data-strategy="${chip.dataset.strategy}"]`)) {
        mark.style.display = on ? "" : "none";
      }
      drawAll();
    });
  }
  // Benchmarks: unfolded by their links and all together; on paper everything is.
  const folded = [...document.querySelectorAll("details.benchmark")];
  for (const one of folded) {
    one.addEventListener("toggle", () => { if (one.open) one.querySelectorAll(".plot").forEach(draw); });
  }
  for (const button of document.querySelectorAll(".unfold button")) {
    button.addEventListener("click", () => folded.forEach((one) => { one.open = button.dataset.unfold === "true"; }));
  }
  const goTo = () => {
    const wanted = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (wanted?.matches("details")) {
      wanted.open = true;
      wanted.scrollIntoView();
    }
  };
  addEventListener("hashchange", goTo);
  for (const link of document.querySelectorAll("a[href^='#benchmark-']")) link.addEventListener("click", () => setTimeout(goTo));
  let before = null;
  addEventListener("beforeprint", () => {
    before = { media: dark.media, closed: [...document.querySelectorAll("details:not([open])")] };
    dark.media = "not all";
    printing = true;
    for (const one of before.closed) one.open = true;
    drawAll();
  });
  addEventListener("afterprint", () => {
    dark.media = before.media;
    printing = false;
    for (const one of before.closed) one.open = false;
    drawAll();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawAll();
  goTo();
  document.documentElement.dataset.ready = "true";
})();
