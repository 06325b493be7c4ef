// The document of the report as objects, small makers of elements, and the table.
// Whatever comes from a checkpoint becomes text through `shown` and textContent, never markup.
"use strict";

const report = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const field = Object.fromEntries(data.keys.map((key, i) => [key, i]));
  const separator = path => (path.includes("\\") && !path.includes("/") ? "\\" : "/");
  const rows = data.rows.map((row, index) => {
    const root = data.texts[row[field.root]];
    const [backbone, dataset, tags] = row[field.texts].map(i => data.texts[i]);
    return {
      index, backbone, dataset, tags, root,
      name: row[field.name],
      path: root + separator(root) + row[field.name],
      branch: row[field.branch],
      epoch: row[field.epoch],
      step: row[field.step],
      saved: row[field.saved],
      flag: row[field.flag] === 1,
      size: row[field.size],
      parts: data.texts[row[field.parts]],
      values: row[field.values],
      config: data.configs[row[field.config]].map(i => data.pairs[i]),
      about: row[field.about].map(i => data.pairs[i]),
      weights: row[field.weights],
      save: row[field.save],
    };
  });
  return { data, rows, choice: { ...data.answer } };
})();

// Controls, directions and unassigned characters are shown as their code points.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu;
const shown = (text, most = 1000) => {
  const cut = text.length > most ? text.slice(0, most - 1) + "…" : text;
  return cut.replace(HIDDEN, c => "\\u{" + c.codePointAt(0).toString(16) + "}");
};

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const labelled = (text, control) => make("label", {}, text, control);
const tick = (text, checked, change) => {
  const box = make("input", { type: "checkbox", checked });
  box.addEventListener("change", () => change(box.checked));
  return make("label", { className: "tick" }, box, make("span", { textContent: text }));
};
const chooser = (options, value, change) => {
  const select = make("select", {}, ...options.map(([key, text]) =>
    make("option", { value: key, textContent: text, selected: key === value })));
  select.addEventListener("change", () => change(select.value));
  return select;
};
const button = (text, action, label) => {
  const element = make("button", { type: "button", textContent: text });
  if (label) element.setAttribute("aria-label", label);
  element.addEventListener("click", action);
  return element;
};

const metricName = (i, most = 60) => shown(report.data.metrics[i], most);
const isNumber = value => typeof value === "number";
const formatValue = value => {
  if (!isNumber(value)) return value === undefined || value === null ? "" : value.replace("Infinity", "∞");
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return String(value);
  const size = Math.abs(value);
  return size >= 1e-3 && size < 1e4 ? value.toFixed(4) : value.toExponential(3);
};
const formatSize = bytes => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 999.5 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
  return bytes.toFixed(unit === 0 || bytes >= 99.95 ? 0 : 1) + " " + units[unit];
};

let silence = 0;
const say = text => {
  document.getElementById("said").textContent = text;
  clearTimeout(silence);
  silence = setTimeout(() => { document.getElementById("said").textContent = ""; }, 3000);
};
const copy = async text => {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without permission for the clipboard: the older way, from a selected field.
    const before = document.activeElement;
    const field = make("textarea", { value: text });
    document.body.append(field);
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    before?.focus();
    if (!copied) { window.prompt("Copy this:", text); return; }
  }
  say("Copied: " + shown(text, 120));
};
// JSON's text literals are Python's, escapes included. Pasted anywhere, it runs as it stands.
const python = row => `from smartcash_format import load_checkpoint; load_checkpoint(${JSON.stringify(row.path)}, model=model)`;
// A word of a POSIX shell.
const inShell = text => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const copyTools = row => [
  button("Path", () => copy(row.path), "Copy the path of " + shown(row.name, 100)),
  button("Python", () => copy(python(row)), "Copy the line of Python that loads " + shown(row.name, 100)),
];

// Best first by a metric; only finite values rank; ties go to the later, as rows are newest first.
const ranked = (metric, mode) => {
  const sign = mode === "max" ? -1 : 1;
  return report.rows.filter(row => isNumber(row.values[metric]))
    .sort((a, b) => sign * (a.values[metric] - b.values[metric]) || a.index - b.index);
};

const table = (() => {
  const { data, rows } = report;
  const columns = [
    { key: "name", title: "checkpoint", get: row => row.name, long: true, on: true },
    { key: "epoch", title: "epoch", get: row => row.epoch, number: true, on: true },
    { key: "step", title: "step", get: row => row.step, number: true, on: rows.some(row => row.step !== null) },
    ...data.metrics.map((name, i) => ({
      key: "metric" + i, metric: i, title: metricName(i, 40), get: row => row.values[i], number: true, on: i < 4,
    })),
    { key: "size", title: "size", get: row => row.size, show: row => formatSize(row.size), number: true, on: true },
    { key: "saved", title: "saved, UTC", get: row => row.saved, show: row => row.saved.replace("T", " "), on: true },
    { key: "flag", title: "flagged best", get: row => Number(row.flag), show: row => (row.flag ? "yes" : ""), on: false },
    { key: "run", title: "run", get: row => data.branches[row.branch].label, on: data.branches.length > 1 },
    { key: "backbone", title: "backbone", get: row => row.backbone, on: false },
    { key: "dataset", title: "dataset", get: row => row.dataset, on: false },
    { key: "tags", title: "tags", get: row => row.tags, on: rows.some(row => row.tags) },
    { key: "parts", title: "parts", get: row => row.parts, on: false },
  ];
  const searched = rows.map(row =>
    [row.path, row.backbone, row.dataset, row.tags, data.branches[row.branch].label].join("\n").toLowerCase());
  const state = { sort: "saved", down: true, text: "", metric: 0, least: NaN, most: NaN };
  const element = document.getElementById("checkpoints");

  const absent = value => value === null || value === undefined || value === "" || (typeof value === "string" && /^(NaN|-?Infinity)$/.test(value));
  const compare = (a, b) => (isNumber(a) ? a - b : a < b ? -1 : a > b ? 1 : 0);
  const ordered = () => {
    const column = columns.find(each => each.key === state.sort);
    const sign = state.down ? -1 : 1;
    return rows.filter(matches).sort((a, b) => {
      const x = column.get(a), y = column.get(b);
      // What a checkpoint does not say comes last either way.
      if (absent(x) || absent(y)) return absent(x) - absent(y) || a.index - b.index;
      return sign * compare(x, y) || a.index - b.index;
    });
  };
  const matches = row => {
    if (state.text && !searched[row.index].includes(state.text)) return false;
    if (Number.isNaN(state.least) && Number.isNaN(state.most)) return true;
    const value = row.values[state.metric];
    return isNumber(value) && !(value < state.least) && !(value > state.most);
  };

  const cell = (column, row, best) => {
    const value = column.get(row);
    const text = column.show ? column.show(row) : column.number ? formatValue(value) : shown(String(value ?? ""), 200);
    const td = make("td", { textContent: text });
    if (column.number) td.classList.add("number");
    if (column.long) td.classList.add("long");
    if (column.metric !== undefined && value !== undefined && value !== null && !isNumber(value)) td.classList.add("not-finite");
    if (column.metric === report.choice.metric && row.index === best) td.classList.add("first");
    if (column.key === "name" && row.index === best) td.prepend(make("strong", { textContent: report.choice.metric === null && !row.flag ? "★ newest: " : "★ best: " }));
    return td;
  };
  const tools = row => {
    const box = tick("", compareTwo.has(row.index), on => compareTwo.pick(row.index, on));
    box.firstChild.setAttribute("aria-label", "Compare " + shown(row.name, 100));
    box.firstChild.dataset.row = row.index;
    return make("td", {}, make("span", { className: "tools" }, box, ...copyTools(row)));
  };
  const heading = column => {
    const isSorted = state.sort === column.key;
    const th = make("th", { scope: "col" }, button(column.title + (isSorted ? (state.down ? " ▼" : " ▲") : ""), () => {
      state.down = isSorted ? !state.down : Boolean(column.number);
      state.sort = column.key;
      draw();
      element.querySelector(`[data-key="${column.key}"] button`).focus();
    }));
    th.dataset.key = column.key;
    th.setAttribute("aria-sort", isSorted ? (state.down ? "descending" : "ascending") : "none");
    if (column.number) th.classList.add("number");
    return th;
  };
  const draw = () => {
    const on = columns.filter(column => column.on);
    const found = ordered();
    const best = report.choice.row;
    element.replaceChildren(
      make("caption", { className: "quiet", textContent: "Press a heading to sort by it." }),
      make("thead", {}, make("tr", {}, ...on.map(heading), make("th", { scope: "col", textContent: "compare, copy" }))),
      make("tbody", {}, ...found.map(row =>
        make("tr", { className: row.index === best ? "best" : "" }, ...on.map(column => cell(column, row, best)), tools(row)))),
    );
    document.getElementById("table-count").textContent = `${found.length} of ${rows.length} shown`;
  };

  const start = () => {
    const text = make("input", { type: "search", placeholder: "name, tag, dataset, run …" });
    text.addEventListener("input", () => { state.text = text.value.trim().toLowerCase(); draw(); });
    const bound = key => {
      const input = make("input", { type: "number", step: "any" });
      input.addEventListener("input", () => { state[key] = input.valueAsNumber; draw(); });
      return input;
    };
    const ranges = data.metrics.length ? [
      labelled("where metric", chooser(data.metrics.map((_, i) => [String(i), metricName(i)]), "0", value => { state.metric = Number(value); draw(); })),
      labelled("is at least", bound("least")),
      labelled("and at most", bound("most")),
    ] : [];
    const menu = make("details", {}, make("summary", { textContent: "Columns" }),
      make("div", {}, ...columns.map(column => tick(column.title, column.on, on => { column.on = on; draw(); }))));
    document.getElementById("table-tools").append(labelled("Filter by text", text), ...ranges, menu);
    document.getElementById("table").hidden = false;
    draw();
  };
  return { start, draw };
})();
