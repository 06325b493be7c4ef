// The answer, and the start of everything.
"use strict";

const answerBox = (() => {
  const { data, rows, choice } = report;
  const ahead = (best, other, who) => {
    const value = other.values[choice.metric];
    const step = other.epoch === best.epoch && other.step !== null ? `, step ${other.step}` : "";
    const where = `${who} (epoch ${other.epoch}${step})`;
    if (!isNumber(value)) return `For ${where} it is ${formatValue(value) || "not known"}.`;
    const distance = Math.abs(best.values[choice.metric] - value);
    const percent = 100 * distance / Math.abs(value);
    const share = !value ? "" : percent < 0.1 ? ", less than 0.1%" : `, ${percent.toFixed(1)}%`;
    return distance ? `${formatValue(distance)} ahead of ${where}${share}.` : `Level with ${where}.`;
  };
  const sentences = order => {
    const [best] = order;
    // A copy of the best is neither the next best nor a newer one.
    const next = order.find(row => row.save !== best.save);
    const end = choice.mode === "max" ? "larger" : "smaller";
    const said = [`${metricName(choice.metric)} ${formatValue(best.values[choice.metric])}; ${end} is ${choice.taken ? "taken as better: its name does not say" : "better"}.`];
    if (next) said.push(ahead(best, next, "the next best"));
    said.push(best.save === rows[0].save ? "It is also the newest." : ahead(best, rows[0], "the newest"));
    if (order.length < rows.length) said.push(`${order.length} of ${rows.length} checkpoints have a number in it.`);
    return said.join(" ");
  };
  // Where nothing says which end is good, larger is taken until the reader says it.
  const choose = (metric, said) => {
    const mode = said ?? "max";
    const order = ranked(metric, mode);
    if (!order.length) say("No checkpoint has a number in it.");
    else {
      Object.assign(choice, { metric, mode, taken: !said, row: order[0].index });
      document.getElementById("answer-name").textContent = shown(order[0].name);
      document.getElementById("answer-path").textContent = shown(order[0].path, 5000);
      document.getElementById("answer-words").textContent = sentences(order);
      table.draw();
      charts.draw();
    }
    by.value = choice.metric === null ? "" : String(choice.metric);
    better.value = choice.mode ?? "max";
    better.disabled = choice.metric === null;
  };
  const none = choice.metric === null ? [["", "not by a metric"]] : [];
  const by = chooser([...none, ...data.metrics.map((_, i) => [String(i), metricName(i)])], choice.metric === null ? "" : String(choice.metric),
    value => { if (value !== "") choose(Number(value), data.modes[Number(value)]); });
  const better = chooser([["max", "larger"], ["min", "smaller"]], choice.mode, value => choose(choice.metric, value));

  const start = () => {
    const chosen = () => rows[choice.row];
    document.getElementById("answer-tools").append(
      ...(data.metrics.length ? [labelled("best by", by), labelled("better is", better)] : []),
      button("Copy path", () => copy(chosen().path), "Copy the path of the best"),
      button("Copy Python", () => copy(python(chosen())), "Copy the line of Python that loads the best"),
    );
    by.id = "best-by";
    better.disabled = choice.metric === null;
  };
  return { start };
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
  // What the table below the heat map says stands over its cells too.
  const facts = document.querySelector(".facts");
  document.querySelector(".heat:not(.facts)")?.addEventListener("pointerover", event => {
    const cell = event.target.closest("td");
    const [norm, most, bad] = cell ? facts.rows[cell.parentNode.rowIndex].cells[cell.cellIndex].textContent.split(" / ") : [];
    if (norm) cell.title = `norm ${norm}, largest ${most}${bad ? `, ${bad}` : ""}`;
  });
  // On paper nothing can be opened.
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("main > section > details:not([open])")];
    opened.forEach(each => { each.open = true; });
  });
  window.addEventListener("afterprint", () => opened.forEach(each => { each.open = false; }));
  if (rows.length) {
    answerBox.start();
    charts.start();
    compareTwo.start();
    table.start();
  }
  // When everything could be used, in milliseconds since the page was asked for.
  document.documentElement.dataset.ready = performance.now().toFixed();
})();
