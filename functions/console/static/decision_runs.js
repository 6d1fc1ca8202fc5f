// Decisions for all customers of a file: within capacities, for real or as a what-if, and what became of them.

import { useState } from "preact/hooks";
import { all, get, path } from "./api.js";
import { NewRun, Rows, Run, RunList } from "./runs.js";
import { Card, Field, figure, go, html, Loaded, Meter, percent, Table, useLoad } from "./view.js";

const KIND = "decision-runs";
const BASE = ["decisions", "runs"];

export const DecisionRuns = () => html`<${New} />
  <${RunList} kind=${KIND} base=${BASE} empty="No run yet. Begin one above: it decides for each customer of a file as for one."
    describe=${[
      { name: "Kind", cell: (one) => (one.dry_run ? "what if" : "for real") },
      { name: "Capacities", numeric: true, cell: (one) => one.limits.length },
    ]} />`;

function New() {
  const [limits, setLimits] = useState([]);
  const actions = useLoad(() => all("/actions"), []);
  const active = (actions.data || []).filter((one) => one.status === "active");
  const channels = [...new Set(active.map((one) => one.channel).filter(Boolean))];
  const body = async ({ output }) => ({
    ...(output ? { output: { connector_id: output } } : { dry_run: true }),
    limits: limits.map(({ place, capacity, minimum }) => ({ ...place, ...(capacity === "" ? {} : { capacity: Number(capacity) }), minimum: Number(minimum || 0) })),
  });
  const places = [...channels.map((one) => [`on ${one}`, { channel: one }]), ...active.map((one) => [one.name, { action_id: one.id }])];
  return html`<${NewRun} kind=${KIND} base=${BASE} title="New run" button="Decide for all of them" body=${body} optionalOutput>
    <${Rows} label="Capacities" rows=${limits} setRows=${setLimits} blank=${{ place: places[0]?.[1], capacity: "", minimum: "" }}>${(row, change) => html`
      <${Field} label="Of"><select onChange=${(event) => change({ place: places[event.target.value][1] })}>${places.map(([name, place], index) => html`<option value=${index} selected=${JSON.stringify(place) === JSON.stringify(row.place)}>${name}</option>`)}</select><//>
      <${Field} label="At most"><input type="number" min="0" value=${row.capacity} onInput=${(event) => change({ capacity: event.target.value })} /><//>
      <${Field} label="At least"><input type="number" min="0" value=${row.minimum} onInput=${(event) => change({ minimum: event.target.value })} /><//>`}<//><//>`;
}

export const DecisionRun = ({ id, compared }) =>
  html`<${Run} kind=${KIND} base=${BASE} id=${id} title=${(one) => (one.dry_run ? "What-if run" : "Decision run")}>${(run) => html`<${Summary} run=${run} compared=${compared} />`}<//>`;

function Summary({ run, compared }) {
  const state = useLoad(async () => {
    const [found, actions] = await Promise.all([get(path`/decision-runs/${run.id}/summary`, { compare_to: compared }), all("/actions")]);
    return { found, names: Object.fromEntries([...actions.map((one) => [one.id, one.name]), ...found.offers_by_action.map((one) => [one.action_id, one.name])]) };
  }, [run.id, compared]);
  const others = useLoad(() => get("/decision-runs", { limit: 100 }), [run.id]);
  const candidates = (others.data?.data || []).filter((one) => one.status === "succeeded" && one.id !== run.id);
  return html`<${Loaded} state=${state}>${({ found, names }) => {
    const nameOf = (one) => names[one.action_id] || (one.action_id ? `…${one.action_id.slice(-8)}` : `on ${one.channel}`);
    const tiles = [
      [figure(found.customers), "customers"],
      [figure(found.offers), "offers"],
      [figure(found.expected_acceptances, 1), "expected acceptances"],
      [figure(found.expected_value), "expected value"],
      [figure(found.reserved), "reserved contacts"],
    ];
    return html`<div class="tiles">${tiles.map(([value, name]) => html`<div class="tile"><strong>${value}</strong>${name}</div>`)}</div>
      <${Field} label="Compare with"><select value=${compared || ""} onChange=${(event) => go([...BASE, run.id], { compare: event.target.value })}>
        <option value="">no other run</option>${candidates.map((one) => html`<option value=${one.id}>${one.created_at.slice(0, 16).replace("T", " ")}${one.dry_run ? ", what if" : ""}</option>`)}</select><//>
      ${found.difference && html`<${Difference} difference=${found.difference} nameOf=${nameOf} />`}
      <${Card} title="Offers"><${Table} label="Offers" rows=${found.offers_by_action} keyOf=${(one) => `${one.action_id} ${one.channel}`} empty="No customer gets an offer."
        columns=${[
          { name: "Offer", cell: (one) => html`<a href=${`#/decisions/offers/${one.action_id}`}>${one.name}</a>` },
          { name: "Channel", cell: (one) => one.channel || "any" },
          { name: "Customers", numeric: true, cell: (one) => figure(one.offers) },
          { name: "", cell: (one) => html`<${Meter} value=${one.offers} most=${found.customers} label=${`Share of ${one.name}`} />` },
          { name: "Expected acceptances", numeric: true, cell: (one) => figure(one.expected_acceptances, 1) },
          { name: "Expected value", numeric: true, cell: (one) => figure(one.expected_value) },
        ]} /><//>
      ${found.allocation && html`<${Capacity} allocation=${found.allocation} nameOf=${nameOf} />`}
      <div class="grid"><${Card} title="Removed by rules"><${Table} label="Removed by rules" rows=${found.removals} keyOf=${(one) => `${one.action_id} ${one.rule}`} empty="No rule removed an offer."
          columns=${[{ name: "Offer", cell: nameOf }, { name: "Rule", cell: (one) => one.rule.replace("_", " ") }, { name: "Customers", numeric: true, cell: (one) => figure(one.customers) }]} /><//>
        <${Card} title="Without an offer"><${Table} label="Without an offer" rows=${Object.entries(found.without_offer)} keyOf=${([reason]) => reason} empty="Each customer gets an offer."
          columns=${[{ name: "Reason", cell: ([reason]) => reason.replace(/_/g, " ") }, { name: "Customers", numeric: true, cell: ([, count]) => figure(count) }]} />
          ${found.duplicates > 0 && html`<p class="note">${figure(found.duplicates)} rows are about a customer of an earlier row. The first row counts.</p>`}<//></div>`;
  }}<//>`;
}

const Capacity = ({ allocation, nameOf }) =>
  html`<${Card} title="Capacity"><p class="quiet">No other allocation is better by more than ${percent(allocation.gap, 2)}. The price is what one more offer would add to the sum of scores.</p>
    <${Table} label="Capacity" rows=${allocation.limits} keyOf=${(one) => one.action_id || one.channel}
      columns=${[
        { name: "Of", cell: nameOf },
        { name: "Offers", numeric: true, cell: (one) => figure(one.offers) },
        { name: "At most", numeric: true, cell: (one) => figure(one.capacity) },
        { name: "At least", numeric: true, cell: (one) => figure(one.minimum) },
        { name: "", cell: (one) => one.capacity !== null && html`<${Meter} value=${one.offers} most=${one.capacity} label=${`Use of ${nameOf(one)}`} />` },
        { name: "Price", numeric: true, cell: (one) => figure(one.price, 4) },
      ]} /><//>`;

const signed = (value) => (value === null ? "–" : `${value > 0 ? "+" : ""}${figure(value)}`);

const Difference = ({ difference, nameOf }) =>
  html`<${Card} title="Beside the other run">
    <p>${signed(difference.offers)} offers, ${signed(difference.expected_acceptances)} expected acceptances, ${signed(difference.score)} in the sum of scores.</p>
    <${Table} label="Beside the other run" rows=${difference.offers_by_action} keyOf=${(one) => `${one.action_id} ${one.channel}`} empty="Both make the same offers."
      columns=${[{ name: "Offer", cell: nameOf }, { name: "Channel", cell: (one) => one.channel || "any" }, { name: "Offers", numeric: true, cell: (one) => signed(one.offers) }, { name: "Expected value", numeric: true, cell: (one) => signed(one.expected_value) }]} /><//>`;
