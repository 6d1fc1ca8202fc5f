// Calls of language models: how many, how fast and how dear, over time and by model, kind and user.

import { get, numbered } from "./api.js";
import { Lines } from "./charts.js";
import { address, Card, figure, Filters, html, List, Loaded, Meter, percent, Status, Table, useLoad, when } from "./view.js";

const DAY = 24 * 3600 * 1000;
const KINDS = ["chat", "guard", "router", "embedding", "persona", "argument", "insight"];
const date = (daysAgo) => new Date(Date.now() - daysAgo * DAY).toISOString().slice(0, 10);
const PERIODS = [["Today", 0, 0], ["Yesterday", 1, 1], ["7 days", 6, 0], ["30 days", 29, 0]];

// The filters of an address as the API takes them. Days are those of UTC.
export const given = (query) =>
  Object.fromEntries([...query].filter(([, value]) => value).map(([name, value]) => [name, name.endsWith("_date") ? `${value}T${name === "end_date" ? "23:59:59" : "00:00:00"}Z` : value]));

// Each day or hour of the period. In some there were no calls.
function filled({ data, period_start_date, period_end_date }, step) {
  const known = Object.fromEntries(data.map((one) => [Date.parse(one.name), one]));
  const rows = [];
  for (let at = step * Math.floor(Date.parse(period_start_date) / step); at <= Math.min(Date.parse(period_end_date), Date.now()); at += step) {
    rows.push({ calls: 0, total_tokens: 0, cost: 0, avg_latency_ms: null, ...known[at], at });
  }
  return rows;
}

// `names` gives the name of each member: a long table keeps the widths of its first rows.
export function Calls({ query, names }) {
  const { nameOf, members = [] } = names.data || {};
  const filters = given(query);
  const { status, tag, ...summed } = filters;
  const days = filters.start_date && filters.end_date ? (new Date(filters.end_date) - new Date(filters.start_date)) / DAY : 30;
  const state = useLoad(async () => {
    const by = (name) => get("/inference-logs/usage", { ...summed, by: name });
    const [summary, time, models, kinds, users] = await Promise.all([get("/inference-logs/summary", summed), by(days <= 2 ? "hour" : "day"), by("model"), by("type"), by("user")]);
    return { summary, time: filled(time, days <= 2 ? DAY / 24 : DAY), models: models.data, kinds: kinds.data, users: users.data };
  }, [query.toString()]);
  const others = Object.fromEntries([...query].filter(([name]) => !name.endsWith("_date")));
  const columns = [
    { name: "When", cell: (one) => when(one.created_at) },
    { name: "Kind", cell: (one) => one.type },
    { name: "Model", cell: (one) => one.model },
    { name: "State", text: true, cell: (one) => html`<${Status} value=${one.status} />${one.error && html`<small>${one.error}</small>`}` },
    { name: "Tokens in / out", numeric: true, cell: (one) => `${figure(one.input_tokens)} / ${figure(one.output_tokens)}` },
    { name: "Took, ms", numeric: true, cell: (one) => figure(Math.round(one.latency_ms)) },
    { name: "User", cell: (one) => nameOf(one.user) },
  ];
  return html`<nav class="actions periods" aria-label="Periods">${PERIODS.map(([name, from, to]) => {
      const dates = { start_date: date(from), end_date: date(to) };
      const chosen = Object.entries(dates).every(([key, value]) => query.get(key) === value);
      return html`<a class="button" aria-current=${chosen ? "true" : undefined} href=${address(["operations", "calls"], { ...others, ...dates })}>${name}</a>`;
    })}</nav>
    <details class="card" open=${Object.keys(others).length > 0}><summary>More filters</summary><${Filters} section="calls" query=${query} fields=${[["start_date", "From", "date"], ["end_date", "To", "date"], ["type", "Kind", KINDS], ["status", "State of single calls", ["success", "error", "blocked", "cancelled"]], ["model", "Model"], ["user", "User", members]]} /></details>
    <${Loaded} state=${names}>${() => html`<${Loaded} state=${state}>${(found) => html`<${Sums} ...${found} nameOf=${nameOf} />`}<//>
    <${Card} title="Log"><${List} label="Log of calls" load=${(_, read) => numbered("/inference-logs", { ...filters, page_size: 100 }, read)} inputs=${[query.toString()]} columns=${columns} empty="No call in this time. Ask something in the playground, or choose a longer time." /><//>`}<//>`;
}

function Sums({ summary, time, models, kinds, users, nameOf }) {
  const cost = models.some((one) => one.cost !== null) ? models.reduce((sum, one) => sum + one.cost, 0) : null;
  const tiles = [
    [figure(summary.total_calls), "calls"],
    [summary.total_calls ? percent(summary.success_rate) : "–", "succeeded"],
    [figure(summary.total_tokens), "tokens"],
    [figure(Math.round(summary.avg_latency_ms)), "ms on average"],
    [cost === null ? "–" : cost.toFixed(2), cost === null ? "cost: set prices under Limits" : "cost"],
  ];
  const series = (name) => [{ name: "", points: time.map((one) => [one.at / 1000, one[name]]) }];
  const charts = [["calls", "Calls", "calls"], ["total_tokens", "Tokens", "tokens"], ...(cost === null ? [] : [["cost", "Cost", "cost"]]), ["avg_latency_ms", "Latency", "milliseconds"]];
  const step = time.length > 1 && time[1].at - time[0].at < DAY ? "hour" : "day";
  return html`<div class="tiles">${tiles.map(([value, name]) => html`<div class="tile"><strong>${value}</strong>${name}</div>`)}</div>
    ${summary.total_calls > 0 &&
    html`<div class="grid wide"><${By} title="By user" rows=${users} cost=${cost} calls=${summary.total_calls} nameOf=${(one) => (one.name === null ? "users of programs" : nameOf(one.name))} />
        <${By} title="By model" rows=${models} cost=${cost} calls=${summary.total_calls} nameOf=${(one) => one.name} />
        <${By} title="By kind" rows=${kinds} cost=${cost} calls=${summary.total_calls} nameOf=${(one) => one.name} /></div>
      <div class="grid">${charts.map(([name, title, unit]) => html`<${Card} key=${name} title=${title}><${Lines} series=${series(name)} x=${`by ${step}, in UTC`} y=${unit} time height=${190} caption=${`${title} of each ${step}.`} /><//>`)}</div>`}`;
}

const By = ({ title, rows, cost, calls, nameOf }) =>
  html`<${Card} title=${title}><${Table} label=${title} rows=${rows} keyOf=${(one) => one.name ?? ""} columns=${[
    { name: title[3].toUpperCase() + title.slice(4), cell: nameOf },
    ...(cost === null ? [] : [{ name: "Cost", numeric: true, cell: (one) => figure(one.cost) }]),
    { name: "Tokens", numeric: true, cell: (one) => figure(one.total_tokens) },
    { name: "Calls", numeric: true, cell: (one) => figure(one.calls) },
    { name: "", cell: (one) => html`<${Meter} value=${cost ? one.cost : one.calls} most=${cost || calls} label=${`Share of ${one.name ?? "others"}`} />` },
  ]} /><//>`;
