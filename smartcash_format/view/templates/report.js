// The answer, the comparison of two, and the start of everything.
"use strict";

const compareTwo = (() => {
  const { data, rows } = report;
  // Of two checkpoints the first and the second; null where none is chosen.
  const state = { picked: [null, null] };
  const selects = [];

  const has = index => state.picked.includes(index);
  const pick = (index, on) => {
    if (!on) state.picked = state.picked.map(each => (each === index ? null : each));
    else if (state.picked[0] === null) state.picked[0] = index;
    else if (state.picked[1] === null) state.picked[1] = index;
    else state.picked = [state.picked[1], index];
    draw();
    say(state.picked.includes(null) ? "Choose another one to compare with." : "Compared above the table.");
  };

  const sheet = (title, headings, lines) => {
    const parts = [make("h3", { textContent: title })];
    if (!lines.length) return [...parts, make("p", { className: "quiet", textContent: "No difference." })];
    parts.push(make("table", { className: "sheet" },
      make("thead", {}, make("tr", {}, ...headings.map(text => make("th", { scope: "col", textContent: text })))),
      make("tbody", {}, ...lines.map(cells => make("tr", {}, ...cells.map((text, i) =>
        (i ? make("td", { textContent: text }) : make("th", { scope: "row", textContent: text }))))))));
    return parts;
  };
  const differences = (before, after) => {
    const a = new Map(before), b = new Map(after);
    return [...new Set([...a.keys(), ...b.keys()])].filter(key => a.get(key) !== b.get(key))
      .map(key => [shown(key, 200), shown(a.get(key) ?? "–", 300), shown(b.get(key) ?? "–", 300)]);
  };
  const metricLines = (one, other) => data.metrics.map((_, i) => {
    const a = one.values[i], b = other.values[i];
    const change = isNumber(a) && isNumber(b) ? (b - a >= 0 ? "+" : "−") + formatValue(Math.abs(b - a)) : "";
    return a === b ? null : [metricName(i), formatValue(a) || "–", formatValue(b) || "–", change];
  }).filter(Boolean);
  const weights = JSON.parse(document.getElementById("weights-data").textContent);
  const layerSheet = (one, other, names) => {
    const [a, b] = [one, other].map(row => weights.rows.indexOf(row.index));
    if (a < 0 || b < 0) return [];
    const lines = weights.layers.filter(([, , same]) => same[a] !== same[b]).map(([name, norms]) => {
      const change = 100 * (norms[b] - norms[a]) / Math.abs(norms[a]);
      return [shown(name, 80), norms[a] ?? "–", norms[b] ?? "–", Number.isFinite(change) && norms[a] !== null && norms[b] !== null ? `${change < 0 ? "−" : "+"}${Math.abs(change).toPrecision(2)}%` : ""];
    });
    const [first, ...rest] = sheet("Weights: the norm of each module that changed", ["module", ...names, "change"], lines);
    const left = weights.layers.length - lines.length;
    return [first, make("p", { className: "quiet", textContent: `${left} of ${weights.layers.length} modules are the same to the last bit.` }), ...(lines.length ? rest : [])];
  };
  const facts = row => [
    ["epoch", String(row.epoch)], ["step", String(row.step ?? "–")], ["saved, UTC", row.saved.replace("T", " ")],
    ["run", data.branches[row.branch].label], ["backbone", row.backbone], ["dataset", row.dataset], ["tags", row.tags],
    ["parts", row.parts], ["size", formatSize(row.size)], ...row.about,
  ];

  const draw = () => {
    state.picked.forEach((index, i) => { selects[i].value = index === null ? "" : String(index); });
    document.querySelectorAll("#checkpoints input[data-row]").forEach(box => { box.checked = has(Number(box.dataset.row)); });
    const result = document.getElementById("compare-result");
    const [one, other] = state.picked.map(index => (index === null ? null : rows[index]));
    if (!one && !other) return result.replaceChildren(make("p", { className: "quiet", textContent: "Choose two here, or tick them in the table. One alone is shown whole." }));
    if (!one || !other) {
      const row = one ?? other;
      return result.replaceChildren(
        make("p", {}, make("code", { textContent: shown(row.path, 5000) })),
        ...sheet("What it is", ["", "value"], facts(row).filter(([, value]) => value).map(([k, v]) => [shown(k, 200), shown(v, 300)])),
        ...sheet("Metrics", ["metric", "value"], data.metrics.map((_, i) => [metricName(i), formatValue(row.values[i])]).filter(([, value]) => value)),
        ...sheet("Config", ["setting", "value"], row.config.map(([k, v]) => [shown(k, 200), shown(v, 300)])));
    }
    const names = [shown(one.name, 80), shown(other.name, 80)];
    return result.replaceChildren(
      ...sheet("Metrics", ["metric", ...names, "change"], metricLines(one, other)),
      ...sheet("Config", ["setting", ...names], differences(one.config, other.config)),
      ...layerSheet(one, other, names),
      ...sheet("What they are", ["", ...names], differences(facts(one), facts(other))));
  };

  const start = () => {
    const options = [["", "–"], ...rows.map(row => [String(row.index), `${row.index === report.choice.row ? "★ " : ""}epoch ${row.epoch}: ${shown(row.name, 60)}`])];
    ["First", "Second"].forEach((text, i) => {
      selects[i] = chooser(options, "", value => { state.picked[i] = value === "" ? null : Number(value); draw(); });
      document.getElementById("compare-tools").append(labelled(text, selects[i]));
    });
    if (rows.length > 1 && report.choice.row !== null && report.choice.row !== 0) state.picked = [report.choice.row, 0];
    document.getElementById("compare").hidden = false;
    draw();
  };
  return { start, has, pick };
})();

const answerBox = (() => {
  const { data, rows, choice } = report;
  const ahead = (best, other, who) => {
    const value = other.values[choice.metric];
    const where = `${who} (epoch ${other.epoch})`;
    if (!isNumber(value)) return `For ${where} it is ${formatValue(value) || "not known"}.`;
    const distance = Math.abs(best.values[choice.metric] - value);
    return distance ? `${formatValue(distance)} ahead of ${where}${value ? `, ${(100 * distance / Math.abs(value)).toFixed(1)}%` : ""}.` : `Level with ${where}.`;
  };
  const sentences = order => {
    const [best, next] = order;
    const said = [`${metricName(choice.metric)} ${formatValue(best.values[choice.metric])}; ${choice.mode === "max" ? "larger" : "smaller"} is better.`];
    if (next) said.push(ahead(best, next, "the next best"));
    said.push(best.index === 0 ? "It is also the newest." : ahead(best, rows[0], "the newest"));
    return said.join(" ");
  };
  const tools = () => {
    const controls = choice.row === null ? [] : copyTools(rows[choice.row]);
    if (data.metrics.length) {
      const first = choice.metric === null ? [["", "not by a metric"]] : [];
      controls.unshift(
        labelled("best by", chooser([...first, ...data.metrics.map((_, i) => [String(i), metricName(i)])], choice.metric === null ? "" : String(choice.metric),
          value => { if (value !== "") choose(Number(value), data.modes[Number(value)]); })),
        labelled("better is", chooser([["max", "larger"], ["min", "smaller"]], choice.mode, value => choose(choice.metric, value))));
      controls[0].lastChild.id = "best-by";
      controls[1].lastChild.disabled = choice.metric === null;
    }
    document.getElementById("answer-tools").replaceChildren(...controls);
  };
  const choose = (metric, mode) => {
    const order = ranked(metric, mode);
    if (!order.length) { say("No checkpoint has a number in it."); tools(); return; }
    Object.assign(choice, { metric, mode, row: order[0].index });
    document.getElementById("answer-name").textContent = shown(order[0].name);
    document.getElementById("answer-path").textContent = shown(order[0].path, 5000);
    document.getElementById("answer-words").textContent = sentences(order);
    tools();
    document.getElementById("best-by").focus();
    table.draw();
    charts.draw();
  };
  return { start: tools };
})();

(() => {
  const { data, rows } = report;
  if (data.left_out) Object.assign(document.getElementById("left-out"), { textContent: data.left_out, hidden: false });
  if (data.broken.length) {
    document.getElementById("broken").hidden = false;
    document.getElementById("broken-list").append(...data.broken.map(([path, reason]) =>
      make("li", {}, make("code", { textContent: shown(path) }), " ", shown(reason, 400))));
    if (data.broken_count > data.broken.length) {
      document.getElementById("broken-list").append(make("li", { textContent: `and ${data.broken_count - data.broken.length} more` }));
    }
  }
  if (rows.length) {
    answerBox.start();
    charts.start();
    compareTwo.start();
    table.start();
  }
  document.documentElement.dataset.ready = "yes";
})();
