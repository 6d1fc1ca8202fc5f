// Line charts by uPlot, and the curves of an evaluation.

import { useEffect, useRef } from "preact/hooks";
import { figure, html } from "./view.js";

const COLOURS = {
  light: ["#1d5fd0", "#c2410c", "#12703a", "#7c3aed", "#a1651a", "#0e7490"],
  dark: ["#8ab4ff", "#ffb088", "#6fd79b", "#c4a5ff", "#e8c27a", "#7ddcf0"],
};

// Draws series of {name, points: [[x, y], …]} with x in ascending order. The caption says the same in words.
export function Lines({ series, x, y, caption, height = 260, range, time = false }) {
  const frame = useRef();
  useEffect(() => {
    let plot;
    let observer;
    let closed = false;
    import("uplot").then(({ default: uPlot }) => {
      if (closed || !frame.current) return;
      const style = getComputedStyle(document.documentElement);
      const colours = COLOURS[matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"];
      const [text, line] = ["--quiet", "--line"].map((name) => resolved(style, name));
      const axis = (label) => ({ label, labelSize: 22, stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } });
      const options = {
        width: frame.current.clientWidth,
        height,
        scales: { x: { time, ...(range ? { range } : {}) }, ...(range ? { y: { range } } : {}) },
        // The numbers of the vertical axis get the room that they need.
        axes: [axis(x), { ...axis(y), values: (_, ticks) => ticks.map((tick) => figure(tick)), size: (_, values) => 16 + 7 * Math.max(4, ...(values || []).map((value) => value.length)) }],
        legend: { show: series.length > 1 || !time },
        ...(time ? { tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC") } : {}),
        series: [
          // The legend has values while the mouse is on the chart.
          { label: x, ...(time ? {} : { value: legend }) },
          ...series.map((one, index) => ({ label: one.name, value: legend, stroke: colours[index % colours.length], width: 2, spanGaps: true, dash: one.dash, points: { show: one.marks || one.points.filter(([, value]) => value !== null).length < 3 } })),
        ],
      };
      plot = new uPlot(options, uPlot.join(series.map((one) => table(one.points))), frame.current);
      observer = new ResizeObserver(() => frame.current && plot.setSize({ width: frame.current.clientWidth, height }));
      observer.observe(frame.current);
    });
    return () => {
      closed = true;
      observer?.disconnect();
      plot?.destroy();
    };
  }, [JSON.stringify(series)]);
  return html`<figure class="chart"><div ref=${frame}></div><figcaption>${caption}</figcaption></figure>`;
}

const legend = (_, value) => (value === null || value === undefined ? "" : figure(value));

// The colour of a variable, in a form that a canvas knows: light-dark() is one for style sheets only.
function resolved(style, name) {
  const probe = document.createElement("span");
  probe.style.color = style.getPropertyValue(name);
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

// uPlot needs different x values, but a ROC curve also rises where x stays.
function table(points) {
  let last = -Infinity;
  const xs = points.map(([value]) => (last = value > last ? value : last + 1e-9));
  return [xs, points.map(([, value]) => value)];
}

// ---- Curves of an evaluation, from its points {threshold, true_positive_rate, false_positive_rate} and its rows.

const counts = (result) => ({ positives: result.positives, negatives: result.rows - result.positives });

export function confusion(result, point) {
  const { positives, negatives } = counts(result);
  const truePositives = Math.round(point.true_positive_rate * positives);
  const falsePositives = Math.round(point.false_positive_rate * negatives);
  return {
    truePositives,
    falsePositives,
    falseNegatives: positives - truePositives,
    trueNegatives: negatives - falsePositives,
    precision: truePositives + falsePositives ? truePositives / (truePositives + falsePositives) : null,
    recall: positives ? truePositives / positives : null,
    share: (truePositives + falsePositives) / result.rows,
  };
}

const byX = (points) => points.sort((one, other) => one[0] - other[0] || one[1] - other[1]);

export const CURVES = {
  roc: {
    name: "ROC",
    x: "False positive rate",
    y: "True positive rate",
    points: (result) => byX(result.curve.map((point) => [point.false_positive_rate, point.true_positive_rate])),
    range: [0, 1],
    caption: "The nearer to the upper left corner, the better the model tells both classes apart.",
  },
  precision: {
    name: "Precision and recall",
    x: "Recall",
    y: "Precision",
    points: (result) =>
      byX(result.curve.map((point) => confusion(result, point)).filter((one) => one.precision !== null).map((one) => [one.recall, one.precision])),
    range: [0, 1],
    caption: "Of the customers that the model selects, how many are right, for each share of the right ones found.",
  },
  ks: {
    name: "KS",
    x: "Share of all customers, best first",
    y: "Distance of both classes",
    points: (result) => byX(result.curve.map((point) => [confusion(result, point).share, point.true_positive_rate - point.false_positive_rate])),
    caption: "The highest point is the Kolmogorov–Smirnov statistic.",
  },
  gain: {
    name: "Gain",
    x: "Share of all customers, best first",
    y: "Share of the positives found",
    points: (result) => byX(result.curve.map((point) => [confusion(result, point).share, point.true_positive_rate])),
    range: [0, 1],
    caption: "How many of the positives you reach when you contact only the best share of the customers.",
  },
  lift: {
    name: "Lift",
    x: "Share of all customers, best first",
    y: "Times better than chance",
    points: (result) =>
      byX(
        result.curve
          .map((point) => [confusion(result, point).share, point.true_positive_rate])
          .filter(([share]) => share > 0.005)
          .map(([share, rate]) => [share, rate / share]),
      ),
    caption: "1 is a choice by chance. The first half per cent of customers is left out, because so few rows say little.",
  },
};

// ---- Calibration, from a reliability table {mean_probability, positive_rate, …}.

export function Reliability({ measured, raw }) {
  const points = (found) => byX(found.bins.map((bin) => [bin.mean_probability, bin.positive_rate]));
  const series = [
    { name: raw ? "calibrated" : "model", points: points(measured), marks: true },
    ...(raw ? [{ name: "without calibration", points: points(raw), marks: true }] : []),
    { name: "exact", points: [[0, 0], [1, 1]], dash: [4, 4] },
  ];
  const figures = (found) => `error (ECE) ${figure(found.expected_error, 4)}, Brier score ${figure(found.brier, 4)}, slope ${figure(found.slope, 3)}`;
  const caption = `On the diagonal, a probability means what it says. ${raw ? `Calibrated: ${figures(measured)}. Without: ${figures(raw)}.` : `${figures(measured)[0].toUpperCase()}${figures(measured).slice(1)}.`}`;
  return html`<${Lines} series=${series} x="Mean probability" y="Share of positive rows" range=${[0, 1]} caption=${caption} />`;
}
