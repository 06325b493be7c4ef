// The curves: one uPlot a metric, a line a branch, zoomed together.
"use strict";

const charts = (() => {
  const { data, rows } = report;
  const MOST = 6;
  const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
  // Okabe and Ito's colours, which people with any colour vision tell apart; dashes when they repeat.
  const LIGHT = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#3a9bd1", "#111111"];
  const DARK = ["#56b4e9", "#e69f00", "#2fd6a6", "#e59ac4", "#f0e442", "#ff8a4c", "#f2f2f2"];
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const AXES = {
    epoch: ["epoch", row => row.epoch],
    step: ["step", row => row.step],
    saved: ["order of saving", row => rows.length - row.index],
  };
  const told = key => rows.filter(row => AXES[key][1](row) !== null);
  const axes = Object.keys(AXES).filter(key => told(key).length);
  // Where several were saved in an epoch, steps tell them apart, or nothing but their order does.
  const apart = key => new Set(told(key).map(row => `${row.branch} ${AXES[key][1](row)}`)).size;
  const widest = axes.reduce((best, key) => (apart(key) > apart(best) ? key : best), axes[0]);
  const state = { axis: widest, shown: new Set(data.metrics.map((_, i) => i).slice(0, MOST)), plots: [], hidden: new Set(), range: null, printing: false };

  const theme = () => {
    const isDark = dark.matches && !state.printing;
    return {
      colours: isDark ? DARK : LIGHT,
      text: isDark ? "#e6e9ed" : "#1b1f24", grid: isDark ? "#2b323b" : "#e3e7eb", page: isDark ? "#0f1318" : "#ffffff",
    };
  };

  // One branch's points by x, oldest first; a later save of the same x replaces the earlier. A
  // branch begins at the point that it came from, so that it is seen to leave there.
  const line = (branch, metric) => {
    const own = rows.filter(row => row.branch === branch).reverse();
    const fork = data.branches[branch].fork;
    const points = new Map();
    const add = row => {
      const x = AXES[state.axis][1](row);
      if (x !== null && row.values[metric] !== undefined && row.values[metric] !== null) points.set(x, row);
    };
    if (fork !== null && own.some(row => row.values[metric] !== undefined && row.values[metric] !== null)) add(rows[fork]);
    own.forEach(add);
    return points;
  };

  const build = metric => {
    const lines = data.branches.map((_, branch) => ({ branch, points: line(branch, metric) }))
      .filter(each => each.points.size && !state.hidden.has(each.branch));
    const xs = [...new Set(lines.flatMap(each => [...each.points.keys()]))].sort((a, b) => a - b);
    const gaps = new Map();
    const columns = lines.map(({ points }) => xs.map(x => {
      const row = points.get(x);
      if (!row) return undefined; // another branch's x: the line goes on over it
      const value = row.values[metric];
      if (isNumber(value)) return value;
      gaps.set(row, value);
      return null; // a gap, named below the chart
    }));
    return { lines, xs, columns, gaps: [...gaps] };
  };

  const marks = (metric, built, colours) => plot => {
    const { ctx } = plot;
    const { left, top, width, height } = plot.bbox;
    const ratio = window.devicePixelRatio || 1;
    const inside = x => x >= left - 1 && x <= left + width + 1;
    ctx.save();
    ctx.font = `${11 * ratio}px sans-serif`;
    ctx.textAlign = "center";
    ctx.fillStyle = ctx.strokeStyle = colours.text;
    for (const [row, value] of built.gaps) {
      const x = plot.valToPos(AXES[state.axis][1](row), "x", true);
      if (!inside(x)) continue;
      ctx.setLineDash([3 * ratio, 3 * ratio]);
      ctx.beginPath(); ctx.moveTo(x, top + 14 * ratio); ctx.lineTo(x, top + height); ctx.stroke();
      ctx.fillText(value, x, top + 11 * ratio);
    }
    const best = rows[report.choice.row];
    const value = best?.values[metric];
    const at = best && AXES[state.axis][1](best);
    if (isNumber(value) && at !== null) {
      const x = plot.valToPos(at, "x", true), y = plot.valToPos(value, "y", true);
      if (inside(x)) star(ctx, x, y, 8 * ratio, colours);
    }
    ctx.restore();
  };
  const star = (ctx, x, y, size, colours) => {
    ctx.setLineDash([]);
    ctx.beginPath();
    for (let i = 0; i < 10; i += 1) {
      const length = i % 2 ? size * 0.45 : size;
      ctx.lineTo(x + length * Math.sin(i * Math.PI / 5), y - length * Math.cos(i * Math.PI / 5));
    }
    ctx.closePath();
    ctx.lineWidth = size / 4; ctx.strokeStyle = colours.page; ctx.stroke();
    ctx.fillStyle = colours.text; ctx.fill();
  };

  // Every chart shows the same range: all of it, or what one of them was zoomed to.
  let zooming = false;
  const show = (from, to) => {
    if (zooming) return;
    zooming = true;
    for (const plot of state.plots) plot.setScale("x", { min: from, max: to });
    zooming = false;
  };
  const whole = () => {
    const xs = state.plots.flatMap(plot => plot.data[0]);
    const first = xs.reduce((a, b) => Math.min(a, b)), last = xs.reduce((a, b) => Math.max(a, b));
    // A point alone stands in the middle: a range without a width shows nothing.
    return first < last ? [first, last] : [first - 1, last + 1];
  };
  const showRange = () => { if (state.plots.length) show(...(state.range ?? whole())); };
  const zoomed = (from, to) => {
    if (zooming) return;
    state.range = [from, to];
    showRange();
  };
  // By a factor around the middle, or along by a part of what is seen; never beyond the whole.
  const move = (factor, along = 0) => {
    if (!state.plots.length) return;
    const [first, last] = whole();
    const [from, to] = state.range ?? [first, last];
    const width = Math.min((to - from) * factor, last - first);
    const start = Math.min(Math.max((from + to - width) / 2 + along * width, first), last - width);
    state.range = width < last - first ? [start, start + width] : null;
    showRange();
  };
  const showAll = () => { state.range = null; showRange(); };

  const described = (metric, built) => {
    const values = built.columns.flat().filter(isNumber);
    const name = metricName(metric);
    if (!values.length) return `${name}: no finite value`;
    const least = values.reduce((a, b) => Math.min(a, b)), most = values.reduce((a, b) => Math.max(a, b));
    return `${name} over ${AXES[state.axis][0]}: ${built.lines.length} lines, ${values.length} points from `
      + `${formatValue(least)} to ${formatValue(most)}. The table below has every value.`;
  };

  const gapList = gaps => make("ul", { className: "quiet" }, ...gaps.slice(0, 5).map(([row, value]) =>
    make("li", { textContent: `${formatValue(value)} at ${state.axis === "step" ? `step ${row.step}` : `epoch ${row.epoch}`} (${shown(data.branches[row.branch].label, 60)})` })),
    ...(gaps.length > 5 ? [make("li", { textContent: `and ${gaps.length - 5} more that are no numbers` })] : []));

  const one = metric => {
    const built = build(metric);
    const colours = theme();
    const box = make("div", { className: "chart" }, make("h3", { textContent: metricName(metric) }));
    const canvas = make("div");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", described(metric, built));
    box.append(canvas);
    if (built.gaps.length) box.append(gapList(built.gaps));
    document.getElementById("charts").append(box);
    if (!built.columns.flat().some(isNumber)) {
      canvas.append(make("p", { className: "quiet", textContent: "No finite value." }));
      return;
    }
    const axis = { stroke: colours.text, grid: { stroke: colours.grid, width: 1 }, ticks: { stroke: colours.grid, width: 1 } };
    const plot = new uPlot({
      width: canvas.clientWidth, height: 240,
      cursor: { sync: { key: "report" }, drag: { x: true, y: false }, bind: { dblclick: () => () => { showAll(); } } },
      scales: { x: { time: false } },
      axes: [
        { ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 1e7, 1e8, 1e9] },
        { ...axis, size: 62, values: (_, ticks) => ticks.map(tick => Number(tick.toPrecision(6)).toString()) },
      ],
      series: [
        { label: AXES[state.axis][0] },
        ...built.lines.map(({ branch }) => ({
          label: shown(data.branches[branch].label, 80),
          stroke: colours.colours[branch % colours.colours.length],
          dash: DASHES[Math.floor(branch / colours.colours.length) % DASHES.length],
          width: 2,
          // Each is a saved checkpoint; many stand small on their line.
          points: { show: true, size: built.xs.length <= 120 ? 6 : 4, fill: built.xs.length <= 120 ? colours.page : colours.colours[branch % colours.colours.length] },
          value: (_, value) => formatValue(value) || "–",
        })),
      ],
      hooks: {
        draw: [marks(metric, built, colours)],
        setScale: [(plot, key) => { if (key === "x") zoomed(plot.scales.x.min, plot.scales.x.max); }],
      },
    }, [built.xs, ...built.columns], canvas);
    state.plots.push(plot);
    plot.report = canvas;
  };

  const draw = () => {
    state.plots.forEach(plot => plot.destroy());
    state.plots = [];
    document.getElementById("charts").replaceChildren();
    zooming = true; // each new one sets its own scale
    [...state.shown].sort((a, b) => a - b).forEach(one);
    queueMicrotask(() => { zooming = false; showRange(); });
  };

  const start = () => {
    if (!data.metrics.length) return;
    document.getElementById("curves").hidden = false;
    const menu = make("details", {}, make("summary", { textContent: "Metrics" }),
      make("div", {}, ...data.metrics.map((_, i) => tick(metricName(i), state.shown.has(i), on => {
        if (on) state.shown.add(i); else state.shown.delete(i);
        draw();
      }))));
    const runs = make("details", {}, make("summary", { textContent: "Runs" }),
      make("div", {}, ...data.branches.map((branch, i) => tick(shown(branch.label, 100), true, on => {
        if (on) state.hidden.delete(i); else state.hidden.add(i);
        draw();
      }))));
    document.getElementById("curve-tools").append(
      labelled("over", chooser(axes.map(key => [key, AXES[key][0]]), state.axis, key => { state.axis = key; state.range = null; draw(); })),
      menu, ...(data.branches.length > 1 ? [runs] : []),
      button("Zoom in", () => move(0.5)), button("Zoom out", () => move(2)),
      button("←", () => move(1, -0.5), "Show what is before"), button("→", () => move(1, 0.5), "Show what comes after"),
      button("Show all", showAll),
      make("span", { className: "quiet", textContent: "Drag over a curve to zoom, double-click to show all. ★ is what to use." }),
    );
    draw();
    dark.addEventListener("change", draw);
    window.addEventListener("beforeprint", () => { state.printing = true; draw(); });
    window.addEventListener("afterprint", () => { state.printing = false; draw(); });
    let width = document.body.clientWidth;
    window.addEventListener("resize", () => {
      if (document.body.clientWidth === width) return;
      width = document.body.clientWidth;
      state.plots.forEach(plot => plot.setSize({ width: plot.report.clientWidth, height: 240 }));
    });
  };
  return { start, draw, state };
})();
