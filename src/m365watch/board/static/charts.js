// Charts over time: stacked bars or lines, a reading under the pointer, and a brush that narrows the time.
const DAY = 86400;
const EXACT_UP_TO = 6 * 3600;
const DAYS = [1, 2, 7, 14, 28].map((days) => days * DAY);
// Whole numbers: half a record is none.
const STEPS = Array.from({ length: 30 }, (_, place) => [1, 2, 5][place % 3] * 10 ** Math.floor(place / 3));

function colourOf(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim() || "#888";
}

function inUtc(seconds) {
  return uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC");
}

function instant(seconds) {
  return new Date(seconds * 1000).toISOString().slice(0, 16) + "Z";
}

function words(seconds, step) {
  const at = new Date(seconds * 1000).toISOString();
  return step >= DAY ? at.slice(0, 10) : at.slice(0, 16).replace("T", " ");
}

function short(number) {
  if (number >= 1e6) return +(number / 1e6).toPrecision(3) + " M";
  if (number >= 1e4) return +(number / 1e3).toPrecision(3) + " k";
  return number.toLocaleString("en");
}

// Each line's values with those of the lines below it: what is drawn.
function stacked(lines) {
  const sum = new Array(lines[0].values.length).fill(0);
  return lines.map((line) => line.values.map((value, place) => (sum[place] += value)));
}

function tooltip(chart, box) {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  box.append(tip);
  return (plot) => {
    // The bar under the pointer begins left of it, where the nearest instant may be the next one.
    const place = plot.cursor.left < 0 ? -1 : Math.floor((plot.posToVal(plot.cursor.left, "x") - chart.at[0]) / chart.step);
    if (!(place in chart.at)) {
      tip.hidden = true;
      return;
    }
    const rows = chart.lines.filter((line) => line.values[place]);
    tip.replaceChildren();
    const head = document.createElement("b");
    head.textContent = words(chart.at[place], chart.step);
    tip.append(head);
    for (const line of rows) {
      const row = document.createElement("span");
      row.className = `of-${line.colour}`;
      row.textContent = `${line.name} ${short(line.values[place])}`;
      tip.append(row);
    }
    if (!rows.length) tip.append("nothing");
    tip.hidden = false;
    const left = plot.bbox.left / devicePixelRatio + plot.cursor.left;
    const room = box.clientWidth;
    tip.style.left = `${left > room / 2 ? left - tip.offsetWidth - 12 : left + 12}px`;
  };
}

function narrow(plot, chart) {
  const { left, width } = plot.select;
  if (width < 8) return;
  const from = Math.floor(plot.posToVal(left, "x") / 60) * 60;
  const to = Math.ceil(plot.posToVal(left + width, "x") / 60) * 60;
  // As the page counts it: longer spans in whole hours.
  const unit = chart.step > 3600 || to - from > EXACT_UP_TO ? 3600 : 60;
  const start = Math.floor(from / unit) * unit;
  const url = new URL(location.href);
  url.searchParams.delete("range");
  url.searchParams.set("from", instant(start));
  url.searchParams.set("to", instant(Math.max(Math.ceil(to / unit) * unit, start + Math.min(chart.step, 3600))));
  location.assign(url);
}

export function draw(box) {
  const chart = JSON.parse(box.dataset.chart);
  box.plot?.destroy();
  box.replaceChildren();
  const drawn = chart.stacked && chart.lines.length ? stacked(chart.lines) : chart.lines.map((line) => line.values);
  const order = chart.lines.map((_, place) => place);
  if (chart.stacked) order.reverse();
  const bars = uPlot.paths.bars({ size: [0.86, 48, 1], align: 1 });
  const grid = { stroke: colourOf("line"), width: 1 };
  const axis = { stroke: colourOf("muted"), grid, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const read = tooltip(chart, box);
  const isShort = chart.at.length * chart.step < DAY * 3;
  box.plot = new uPlot(
    {
      width: Math.max(box.clientWidth, 100),
      height: box.clientHeight || 200,
      tzDate: inUtc,
      legend: { show: false },
      padding: [8, 20, 0, 0],
      cursor: { y: false, points: { show: !chart.stacked }, drag: { x: true, y: false, setScale: false } },
      scales: {
        x: { range: () => [chart.at[0], chart.at[chart.at.length - 1] + chart.step] },
        y: { range: (_, __, most) => [0, Math.max(most * 1.06, 4)] },
      },
      axes: [
        { ...axis, space: 64, size: isShort ? 42 : 28, ...(isShort ? {} : { incrs: DAYS }), values: [
          [DAY * 28, "{D} {MMM}", null, null, null, null, null, null, 1],
          [DAY, "{D} {MMM}", null, null, null, null, null, null, 1],
          [3600, "{HH}:{mm}", "\n{D} {MMM}", null, null, null, null, null, 1],
          [60, "{HH}:{mm}", "\n{D} {MMM}", null, null, null, null, null, 1],
        ] },
        { ...axis, size: 46, space: 44, incrs: STEPS, values: (_, splits) => splits.map(short) },
      ],
      series: [
        {},
        ...order.map((place) => ({
          label: chart.lines[place].name,
          stroke: colourOf(chart.lines[place].colour),
          fill: chart.stacked ? colourOf(chart.lines[place].colour) : undefined,
          width: chart.stacked ? 0 : 2,
          paths: chart.stacked ? bars : undefined,
          points: { show: false },
        })),
      ],
      hooks: { setCursor: [read], setSelect: [(plot) => narrow(plot, chart)] },
    },
    [chart.at, ...order.map((place) => drawn[place])],
    box,
  );
}

const resized = new ResizeObserver((changes) => {
  for (const { target } of changes) {
    const plot = target.plot;
    if (plot && (Math.abs(plot.width - target.clientWidth) > 1 || Math.abs(plot.height - target.clientHeight) > 1)) {
      plot.setSize({ width: target.clientWidth, height: target.clientHeight });
    }
  }
});

function drawWithin(root) {
  for (const box of root.querySelectorAll(".chart-box")) {
    draw(box);
    resized.observe(box);
  }
}

document.addEventListener("htmx:afterSwap", (swap) => drawWithin(swap.detail.target));
document.addEventListener("theme", () => drawWithin(document));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawWithin(document));
drawWithin(document);
