// Decisions for all customers of a file: within capacities, for real or as a what-if, and what became of them.

import { useState } from "preact/hooks";
import { all, get, path } from "./api.js";
import { channelsOf, limitText } from "./policy.js";
import { nameOfRun, NewRun, Rows, Run, RunList } from "./runs.js";
import { Card, Field, figure, go, html, idEnd, Loaded, Meter, Pair, percent, Plain, signed, Table, useLoad, words } from "./view.js";

const KIND = "decision-runs";
const BASE = ["decisions", "runs"];
// What a what-if may change of an offer.
const CHANGEABLE = ["status", "priority", "channel", "model_id", "conditions", "value"];

export const DecisionRuns = () => html`<p class="actions"><a class="button primary" href="#/decisions/runs/what-if">What if?</a><span class="quiet">Compare a run with other weights, values, rules or offers.</span></p>
  <${New} />
  <${RunList} kind=${KIND} base=${BASE} empty="No run yet. Begin one above: it decides for each customer of a file as for one."
    describe=${[
      { name: "Kind", cell: (one) => (one.dry_run ? "what if" : "for real") },
      { name: "Capacities", numeric: true, cell: (one) => one.limits.length },
    ]} />`;

function New() {
  const [limits, setLimits] = useState([]);
  const actions = useLoad(() => all("/actions"), []);
  const active = (actions.data || []).filter((one) => one.status === "active");
  const body = async ({ output }) => ({
    ...(output ? { output: { connector_id: output } } : { dry_run: true }),
    limits: limitsFrom(limits),
  });
  return html`<${NewRun} kind=${KIND} base=${BASE} title="New run" button="Decide for all of them" body=${body} optionalOutput>
    <${Capacities} places=${placesOf(active)} rows=${limits} setRows=${setLimits} /><//>`;
}

// What a capacity may be of: a channel or an offer.
export const placesOf = (active) => [...channelsOf(active).map((one) => [`on ${one}`, { channel: one }]), ...active.map((one) => [one.name, { action_id: one.id }])];

export const limitsFrom = (rows) => rows.map(({ place, capacity, minimum }) => ({ ...place, ...(capacity === "" ? {} : { capacity: Number(capacity) }), minimum: Number(minimum || 0) }));

export const Capacities = ({ places, rows, setRows }) =>
  html`<${Rows} label="Capacities, in offers" rows=${rows} setRows=${setRows} blank=${{ place: places[0]?.[1], capacity: "", minimum: "" }}>${(row, change) => html`
      <${Field} label="Of"><select onChange=${(event) => change({ place: places[event.target.value][1] })}>${places.map(([name, place], index) => html`<option value=${index} selected=${JSON.stringify(place) === JSON.stringify(row.place)}>${name}</option>`)}</select><//>
      <${Field} label="At most"><input type="number" min="0" value=${row.capacity} onInput=${(event) => change({ capacity: event.target.value })} /><//>
      <${Field} label="At least"><input type="number" min="0" value=${row.minimum} onInput=${(event) => change({ minimum: event.target.value })} /><//>`}<//>`;

export const DecisionRun = ({ id, compared }) =>
  html`<${Run} kind=${KIND} base=${BASE} id=${id} title=${(one) => (one.dry_run ? "What-if run" : "Decision run")}
    more=${(one) => one.status === "succeeded" && html`<a class="button primary" href=${`#/decisions/runs/what-if?run=${one.id}`}>What if?</a>`}>${(run) => html`<${Summary} run=${run} compared=${compared} />`}<//>`;

function Summary({ run, compared }) {
  const state = useLoad(async () => {
    const [found, actions] = await Promise.all([get(path`/decision-runs/${run.id}/summary`, { compare_to: compared }), all("/actions")]);
    return { found, names: Object.fromEntries([...actions.map((one) => [one.id, one.name]), ...found.offers_by_action.map((one) => [one.action_id, one.name])]) };
  }, [run.id, compared]);
  const others = useLoad(() => get("/decision-runs", { limit: 100 }), [run.id]);
  const candidates = (others.data?.data || []).filter((one) => one.status === "succeeded" && one.id !== run.id);
  return html`<${Loaded} state=${state}>${({ found, names }) => {
    const nameOf = (one) => names[one.action_id] || (one.action_id ? idEnd(one.action_id) : `on ${one.channel}`);
    const tiles = [
      [figure(found.customers), "customers"],
      [figure(found.offers), "offers"],
      [figure(found.expected_acceptances, 1), "expected acceptances"],
      ...(found.expected_value === null ? [] : [[figure(found.expected_value), "expected value"]]),
      [figure(found.reserved), "reserved contacts"],
    ];
    return html`<${Overrides} run=${run} names=${names} /><div class="tiles">${tiles.map(([value, name]) => html`<div class="tile"><strong>${value}</strong>${name}</div>`)}</div>
      <${Field} label="Compare with"><select value=${compared || ""} onChange=${(event) => go([...BASE, run.id], { compare: event.target.value })}>
        <option value="">no other run</option>${candidates.map((one) => html`<option value=${one.id}>${nameOfRun(one)}</option>`)}</select><//>
      ${found.difference && html`<${Difference} found=${found} nameOf=${nameOf} />`}
      <${Card} title="Offers"><${Table} label="Offers" rows=${found.offers_by_action} keyOf=${(one) => `${one.action_id} ${one.channel}`} empty="No customer gets an offer."
        columns=${[
          { name: "Offer", cell: (one) => html`<a href=${`#/decisions/offers/${one.action_id}`}>${one.name}</a>` },
          { name: "Channel", cell: (one) => one.channel || "any" },
          { name: "Customers", numeric: true, cell: (one) => figure(one.offers) },
          { name: "", cell: (one) => html`<${Meter} value=${one.offers} most=${found.customers} label=${`Share of ${one.name}`} />` },
          { name: "Expected acceptances", numeric: true, cell: (one) => figure(one.expected_acceptances, 1) },
          ...(found.expected_value === null ? [] : [{ name: "Expected value", numeric: true, cell: (one) => figure(one.expected_value) }]),
        ]} /><//>
      ${found.allocation && html`<${Capacity} allocation=${found.allocation} nameOf=${nameOf} />`}
      <div class="grid"><${Card} title="Removed by rules"><${Table} label="Removed by rules" rows=${found.removals} keyOf=${(one) => `${one.action_id} ${one.rule}`} empty="No rule removed an offer."
          columns=${[{ name: "Offer", cell: nameOf }, { name: "Rule", cell: (one) => words(one.rule) }, { name: "Customers", numeric: true, cell: (one) => figure(one.customers) }]} /><//>
        <${Card} title="Without an offer"><${Table} label="Without an offer" rows=${Object.entries(found.without_offer)} keyOf=${([reason]) => reason} empty="Each customer gets an offer."
          columns=${[{ name: "Reason", cell: ([reason]) => words(reason) }, { name: "Customers", numeric: true, cell: ([, count]) => figure(count) }]} />
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
        { name: "Price", numeric: true, cell: (one) => figure(one.price) },
      ]} /><//>`;

function Difference({ found, nameOf }) {
  const { difference } = found;
  const offersOf = (one) => found.offers_by_action.find((each) => each.action_id === one.action_id && each.channel === one.channel)?.offers || 0;
  const most = Math.max(...difference.offers_by_action.flatMap((one) => [offersOf(one), offersOf(one) - one.offers]));
  const same = difference.customers ? html`<p class="note">The runs are about different numbers of customers: ${signed(difference.customers)}.</p>` : "";
  const columns = [
    { name: "Offer", cell: nameOf },
    { name: "Channel", cell: (one) => one.channel || "any" },
    { name: "Other run", numeric: true, cell: (one) => figure(offersOf(one) - one.offers) },
    { name: "This run", numeric: true, cell: (one) => figure(offersOf(one)) },
    { name: "Difference", numeric: true, cell: (one) => html`<strong>${signed(one.offers)}</strong>` },
    { name: `Offers, from 0 to ${figure(most)}`, cell: (one) => html`<${Pair} before=${offersOf(one) - one.offers} now=${offersOf(one)} most=${most} />` },
    ...(difference.expected_value === null ? [] : [{ name: "Expected value", numeric: true, cell: (one) => signed(one.expected_value) }]),
  ];
  const values = difference.expected_value === null ? "" : ` ${signed(difference.expected_value)} in expected value,`;
  return html`<${Card} title="Beside the other run">
    <p><strong>${signed(difference.offers)} offers, ${signed(difference.expected_acceptances, 1)} expected acceptances,${values} ${signed(difference.score, 1)} in the sum of scores.</strong></p>${same}
    <p class="quiet legend"><span class="swatch before"></span> other run <span class="swatch now"></span> this run</p>
    <${Table} label="Beside the other run" rows=${difference.offers_by_action} keyOf=${(one) => `${one.action_id} ${one.channel}`} empty="Both make the same offers." columns=${columns} />
    ${Object.values(difference.removals).some(Boolean) && html`<p class="quiet">Removed by rules: ${Object.entries(difference.removals).filter(([, count]) => count).map(([rule, count]) => `${signed(count)} by ${words(rule)}`).join(", ")}.</p>`}<//>`;
}

// What was otherwise in a run.
function Overrides({ run, names }) {
  const { policy, actions = [] } = run.overrides || {};
  const rows = [
    ...Object.entries(policy || {}).filter(([, value]) => value !== null).map(([name, value]) => ["Policy", words(name), name === "contact_limits" ? value.map((one) => limitText(one, names)) : value]),
    ...actions.flatMap((one) => CHANGEABLE.filter((name) => one[name] !== null && one[name] !== undefined).map((name) => [names[one.action_id] || idEnd(one.action_id), words(name === "model_id" ? "model" : name), name === "value" ? `${one.value.amount} ${one.value.currency}` : name === "priority" ? words(one.priority) : one[name]])),
  ];
  return rows.length > 0 && html`<${Card} title="What was otherwise"><${Table} label="What was otherwise" rows=${rows} keyOf=${(row) => row.slice(0, 2).join(" ")}
    columns=${[{ name: "Of", cell: ([of]) => of }, { name: "What", cell: ([, name]) => name }, { name: "Value", cell: ([, , value]) => html`<${Plain} value=${value} />` }]} /><//>`;
}
