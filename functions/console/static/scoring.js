// Scores of all rows of files by one model.

import { get } from "./api.js";
import { NewRun, Run, RunList } from "./runs.js";
import { Field, html, useLoad } from "./view.js";

const KIND = "predictions";
const BASE = ["models", "scoring"];

export function Scoring() {
  const models = useLoad(async () => {
    const [aliases, checkpoints] = await Promise.all([get("/checkpoints/aliases"), get("/checkpoints", { limit: 100 })]);
    return [...aliases.data.map((one) => [one.id, one.id]), ...checkpoints.data.map((one) => [one.id, one.name])];
  }, []);
  const body = async ({ output, checkpoint_id, contributions }) => ({ output: { connector_id: output }, checkpoint_id, contributions: contributions === "on" });
  return html`<${NewRun} kind=${KIND} base=${BASE} title="Score a file" button="Score all rows" body=${body}
      field=${html`<${Field} label="By the model"><select name="checkpoint_id" required>${(models.data || []).map(([id, name]) => html`<option value=${id}>${name}</option>`)}</select><//>`}>
      <label class="check"><input type="checkbox" name="contributions" /> Also what each column adds</label><//>
    <${RunList} kind=${KIND} base=${BASE} empty="No file has been scored yet. Score one above." describe=${[{ name: "Model", cell: (one) => one.model }]} />`;
}

export const ScoringRun = ({ id }) => html`<${Run} kind=${KIND} base=${BASE} id=${id} title=${(one) => `Scores by ${one.model}`}>${() => null}<//>`;
