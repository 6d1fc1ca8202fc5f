// The experiment of the space: its arms, and what each has brought.

import { useState } from "preact/hooks";
import { get, put } from "./api.js";
import { Rows } from "./runs.js";
import { isOwner } from "./session.js";
import { Card, Field, figure, Form, html, Interval, Loaded, percent, Table, useLoad, when } from "./view.js";

const points = (value) => (value === null ? "–" : `${value > 0 ? "+" : ""}${(100 * value).toFixed(1)} points`);

export function Experiment() {
  const state = useLoad(async () => {
    const [experiment, uplift, aliases] = await Promise.all([get("/insights/experiments"), get("/insights/uplift"), get("/checkpoints/aliases")]);
    return { experiment, uplift, aliases: aliases.data.map((one) => one.id) };
  }, []);
  return html`<${Loaded} state=${state}>${({ experiment, uplift, aliases }) => html`<${Uplift} uplift=${uplift} />
    ${isOwner() ? html`<${Arms} key=${experiment.updated_at} experiment=${experiment} aliases=${aliases} onDone=${state.reload} />` : html`<p class="quiet">Owners of the space begin and end experiments.</p>`}`}<//>`;
}

function Uplift({ uplift }) {
  const ends = uplift.arms.flatMap((one) => [one.uplift_low, one.uplift_high]).filter((value) => value !== null);
  const widest = Math.max(0.01, ...ends.map(Math.abs));
  const columns = [
    { name: "Arm", cell: (one) => html`<strong>${one.arm}</strong>${one.arm === uplift.baseline ? html`<small>the others are compared with it</small>` : ""}` },
    { name: "Share", numeric: true, cell: (one) => `${Number(one.percentage)} %` },
    { name: "Customers", numeric: true, cell: (one) => figure(one.customers) },
    { name: "Accepted", numeric: true, cell: (one) => figure(one.conversions) },
    { name: "Rate", cell: (one) => (one.rate === null ? "–" : html`${percent(one.rate)}<${Interval} value=${one.rate} low=${one.low} high=${one.high} /><small>${percent(one.low)} to ${percent(one.high)}</small>`) },
    { name: "Uplift", cell: (one) => (one.uplift === null ? "–" : html`${points(one.uplift)}<${Interval} value=${one.uplift} low=${one.uplift_low} high=${one.uplift_high} from=${-widest} to=${widest} /><small>${points(one.uplift_low)} to ${points(one.uplift_high)}</small>`) },
    { name: "", cell: (one) => one.is_significant !== null && (one.is_significant ? "more than chance" : "may be chance") },
  ];
  return html`<${Card} title="What each arm has brought">
    ${uplift.sample_ratio.mismatch && html`<p class="problem">The customers do not fit the shares of the arms, more than chance explains. The uplift means nothing then: look for customers who are left out of one arm.</p>`}
    <${Table} label="Uplift" columns=${columns} rows=${uplift.arms} keyOf=${(one) => one.arm} empty="No experiment runs. Begin one below: a control arm without offers shows what offers add." /><//>`;
}

const sameArms = (one, other) => JSON.stringify(one.map(shareOf)) === JSON.stringify(other.map(shareOf));
const shareOf = ({ name, percentage, control, checkpoint }) => [name, Number(percentage), Boolean(control), checkpoint || null];

function Arms({ experiment, aliases, onDone }) {
  const [arms, setArms] = useState(experiment.arms);
  const sum = arms.reduce((total, arm) => total + Number(arm.percentage || 0), 0);
  const submit = async ({ explore }) => {
    await put("/insights/experiments", { arms: arms.map((arm) => Object.fromEntries(Object.entries(arm).filter(([, value]) => value !== null && value !== ""))), explore: explore === "on", ...(experiment.salt ? { salt: experiment.salt } : {}) });
    onDone();
  };
  return html`<${Card} title="Arms"><p class="quiet">Other arms begin a new experiment. No arm ends it.</p>
    <${Form} submit=${submit} button="Save" confirm=${() => experiment.arms.length > 0 && !sameArms(arms, experiment.arms) && "Other arms end this experiment and begin a new one, whose results count from zero. Save them?"}><${Rows} label="Arms" rows=${arms} setRows=${setArms} blank=${{ name: "", percentage: Math.max(0, 100 - sum), control: false }}>${(arm, change) => html`
        <${Field} label="Name"><input required value=${arm.name} onInput=${(event) => change({ name: event.target.value })} /><//>
        <${Field} label="Share in %"><input type="number" min="0.01" max="100" step="0.01" required value=${arm.percentage} onInput=${(event) => change({ percentage: event.target.value })} /><//>
        <${Field} label="Decides"><select value=${arm.control ? "control" : arm.checkpoint || ""} onChange=${({ target }) => change(target.value === "control" ? { control: true, checkpoint: null } : { control: false, checkpoint: target.value || null })}>
          <option value="">as usual</option><option value="control">without offers (control)</option>
          ${[...new Set([...aliases, ...(arm.checkpoint ? [arm.checkpoint] : [])])].map((one) => html`<option value=${one}>by the model ${one}</option>`)}</select><//>`}<//>
      <p class=${arms.length && sum !== 100 ? "note" : "quiet"}>The shares add up to ${figure(sum)} %.</p>
      <label class="check"><input type="checkbox" name="explore" defaultChecked=${experiment.explore} /> Try new offers: draw the propensity of offers without a model</label><//>
    ${experiment.updated_at && html`<p class="quiet">Changed ${when(experiment.updated_at)}.</p>`}<//>`;
}
