// Two checkpoints beside each other, or one alone.
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

  const sheet = (title, headings, lines, none = "No difference.") => {
    const parts = [make("h3", { textContent: title })];
    if (!lines.length) return [...parts, make("p", { className: "quiet", textContent: none })];
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
  const verdict = (one, other) => {
    const [a, b] = [data.weights[one.weights], data.weights[other.weights]];
    if (!a || a !== b) return "Whether the weights are the same cannot be told here.";
    return one.weights === other.weights ? "The same weights, to the last bit." : "Other weights.";
  };
  const command = (one, other) => `smartcash-format diff ${[one, other].map(row => inShell(row.path)).join(" ")}`;
  const layerSheet = (one, other, names) => {
    const title = make("h3", { textContent: "Weights" });
    const said = make("p", { textContent: verdict(one, other) });
    const [a, b] = [one, other].map(row => weights.rows.indexOf(row.index));
    if (one.weights === other.weights) return [title, said];
    if (a < 0 || b < 0) {
      const there = weights.rows.length > 1 ? weights.rows.map(index => rows[index].epoch).join(", ") : "";
      return [title, said,
        make("p", { className: "quiet", textContent: there ? `Which layers changed is in this page for the checkpoints under “How the weights moved” (epochs ${there}). For these two, run:` : "Which layers changed says:" }),
        make("p", {}, make("code", { textContent: shown(command(one, other), 8000) }), " ", button("Copy command", () => copy(command(one, other))))];
    }
    const lines = weights.layers.filter(([, , same]) => same[a] !== same[b]).map(([name, norms]) => {
      const change = 100 * (norms[b] - norms[a]) / Math.abs(norms[a]);
      const percent = isNumber(norms[a]) && isNumber(norms[b]) && Number.isFinite(change) ? `${change < 0 ? "−" : "+"}${Math.abs(change).toPrecision(2)}%` : "";
      return [shown(name, 80), formatValue(norms[a]) || "–", formatValue(norms[b]) || "–", percent];
    });
    const left = weights.layers.length - lines.length;
    const [, ...rest] = sheet("", ["the norm of each that changed", ...names, "change"], lines);
    return [title, said, make("p", { className: "quiet", textContent: `${left} of ${weights.layers.length} modules are the same to the last bit.` }), ...(lines.length ? rest : [])];
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
        ...sheet("Metrics", ["metric", "value"], data.metrics.map((_, i) => [metricName(i), formatValue(row.values[i])]).filter(([, value]) => value), "None was saved."),
        ...sheet("Config", ["setting", "value"], row.config.map(([k, v]) => [shown(k, 200), shown(v, 300)]), "None was saved."));
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
    // What to use beside the newest; one that is alone is shown whole.
    const { row } = report.choice;
    if (row) state.picked = [row, 0];
    else if (rows.length === 1) state.picked = [0, null];
    document.getElementById("compare").hidden = false;
    draw();
  };
  return { start, has, pick };
})();
