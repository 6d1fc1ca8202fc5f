// The queue of arguments that wait for a person. Every step has a key.

import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import { get, numbered, path, post, put } from "../api.js";
import { Button, Card, Empty, Facts, Field, html, List, Loaded, Page, Plain, Problem, SectionPage, Status, useLoad, useTask, when } from "../view.js";

const STATES = ["waiting_review", "reviewing", "success", "failed"];
const NAMES = { waiting_review: "Waiting", reviewing: "In review", success: "Approved", failed: "Rejected" };

const ReviewState = ({ status }) => html`<${Status} value=${status} text=${NAMES[status]} />`;

export default function Review({ parts, query }) {
  const [section = "queue", id] = parts;
  if (section === "argument" && id) return html`<${Single} id=${id} />`;
  return html`<${SectionPage} page="review" current=${section} lead="Read the text beside the facts, and decide whether a customer may see it." />
    ${section === "all" ? html`<${All} status=${query.get("status") || ""} />` : html`<${Queue} />`}`;
}

// Returns the next argument, which is then kept for this user, or null if none waits.
async function takeNext() {
  try {
    return await post("/arguments/queue/next");
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

function Queue() {
  const [current, setCurrent] = useState(undefined);
  const [done, setDone] = useState(0);
  const [next, , problem] = useTask(async () => setCurrent(await takeNext()));
  useEffect(() => void next(), []);
  const decided = async () => {
    setDone((count) => count + 1);
    await next();
  };
  if (current === undefined) return html`<${Problem} error=${problem} />${!problem && html`<p class="quiet" role="status">Loading …</p>`}${problem && html`<button onClick=${next}>Try again</button>`}`;
  if (!current) return html`<${Empty}>Nothing waits for review.${done ? ` You have decided ${done}.` : ""} New arguments appear here when a language model has written them. <button onClick=${next}>Look again</button><//>`;
  return html`<${Problem} error=${problem} /><${Argument} key=${current.id} argument=${current} onDecided=${decided} inQueue=${true} />`;
}

function Single({ id }) {
  const state = useLoad(() => get(path`/arguments/${id}`), [id]);
  return html`<${Page} title="Argument" actions=${html`<a class="button" href="#/review/all">All arguments</a>`} />
    <${Loaded} state=${state}>${(one) => html`<${Argument} key=${one.updated_at} argument=${one} onDecided=${state.reload} />`}<//>`;
}

function Argument({ argument: given, onDecided, inQueue }) {
  const [argument, setArgument] = useState(given);
  const [editing, setEditing] = useState(false);
  const [text, setText] = useState(given.argument);
  const [comment, setComment] = useState("");
  const [decide, deciding, problem] = useTask(async (status) => {
    await put(path`/arguments/${argument.id}`, { review: { status, ...(comment ? { comment } : {}) } });
    await onDecided();
  });
  const [save, saving, unsaved] = useTask(async () => {
    setArgument(await put(path`/arguments/${argument.id}`, { argument: text }));
    setEditing(false);
  });
  const [skip, , unskipped] = useTask(async () => {
    await post(path`/arguments/${argument.id}/release`);
    await onDecided();
  });
  // Not useEffect, which waits for a frame: a key right after the last letter would send the text without it.
  useLayoutEffect(() => {
    const onKey = (event) => {
      const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
      if (event.key === "Escape") setEditing(false);
      if (typing || event.ctrlKey || event.metaKey || event.altKey || deciding) return;
      const act = { a: () => decide("success"), r: () => decide("failed"), e: () => setEditing(true), c: () => document.getElementById("comment")?.focus(), n: inQueue && skip }[event.key];
      if (act) {
        event.preventDefault();
        act();
      }
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  });
  return html`<div class="grid">
    <${Card} title=${argument.product.name} actions=${html`<${ReviewState} status=${argument.review.status} />`}>
      ${editing
        ? html`<textarea aria-label="Text of the argument" value=${text} onInput=${(event) => setText(event.target.value)}></textarea>
            <div class="actions"><button class="primary" onClick=${save} disabled=${saving}>Save</button><button onClick=${() => setEditing(false)}>Cancel</button></div>`
        : html`<p class="argument"><${Marked} text=${argument.argument} claims=${argument.claims} /></p>`}
      <p class="quiet">${argument.claims.length ? `${argument.claims.length - argument.unsupported_claims} of ${argument.claims.length} claims are supported by the facts.` : "The text claims nothing that could be checked."}</p>
      <${Problem} error=${problem || unsaved || unskipped} />
      <div class="actions">
        <button class="primary" onClick=${() => decide("success")} disabled=${deciding}>Approve <kbd>a</kbd></button>
        <button class="danger" onClick=${() => decide("failed")} disabled=${deciding}>Reject <kbd>r</kbd></button>
        <button onClick=${() => setEditing(true)}>Edit <kbd>e</kbd></button>
        ${inQueue && html`<button onClick=${skip}>Next <kbd>n</kbd></button>`}
      </div>
      <${Field} label="Comment (c)" hint="It is stored with your decision."><input id="comment" value=${comment} onInput=${(event) => setComment(event.target.value)} /><//>
    <//>
    <${Card} title="Facts">
      <${Facts} label="Facts of the client" names=${["Field", "Value"]} rows=${Object.entries(argument.client).map(([name, value]) => [name, html`<${Plain} value=${value} />`])} />
      <h3>Insight</h3><p>${argument.insight_spec.insight}</p>
      <h3>Product</h3><p>${argument.product.description || argument.product.name}</p>
      <h3>Claims</h3>
      ${argument.claims.length ? html`<ul>${argument.claims.map((claim) => html`<li><${Status} value=${claim.support} /> ${claim.text}
        <small>${claim.fields.length ? `from ${claim.fields.join(", ")}` : ""}${claim.missing.length ? ` not found: ${claim.missing.join(", ")}` : ""}</small></li>`)}</ul>` : html`<p class="quiet">None.</p>`}
    <//>
    <${Comments} id=${argument.id} />
  </div>`;
}

// The text with its claims coloured. Parts that are no claim stay plain.
function Marked({ text, claims }) {
  const parts = [];
  let rest = text;
  for (const claim of claims) {
    const at = rest.indexOf(claim.text);
    if (at < 0) continue;
    parts.push(rest.slice(0, at), html`<mark class=${claim.support} title=${claim.support}>${claim.text}</mark>`);
    rest = rest.slice(at + claim.text.length);
  }
  return html`${parts}${rest}`;
}

function Comments({ id }) {
  const state = useLoad(() => get(path`/arguments/${id}/comments`, { limit: 50 }), [id]);
  const [text, setText] = useState("");
  const send = async () => {
    await post(path`/arguments/${id}/comments`, { text });
    setText("");
    state.reload();
  };
  return html`<${Card} title="Discussion">
    <${Loaded} state=${state}>${(page) => (page.data.length ? html`<ul>${page.data.map((one) => html`<li>${one.text}<small>${when(one.created_at)}</small></li>`)}</ul>` : html`<p class="quiet">Nobody has said anything yet.</p>`)}<//>
    <${Field} label="Add to the discussion"><input value=${text} onInput=${(event) => setText(event.target.value)} /><//>
    <${Button} task=${send} disabled=${!text.trim()}>Send<//><//>`;
}

function All({ status }) {
  const columns = [
    { name: "Product", cell: (one) => html`<a href=${`#/review/argument/${one.id}`}>${one.product.name}</a><small>${one.argument.slice(0, 120)}</small>` },
    { name: "Review", cell: (one) => html`<${ReviewState} status=${one.review.status} />` },
    { name: "Unsupported claims", numeric: true, cell: (one) => one.unsupported_claims },
    { name: "Model", cell: (one) => one.model },
    { name: "Made", cell: (one) => when(one.created_at) },
  ];
  return html`<${Field} label="State"><select value=${status} onChange=${(event) => (location.hash = `#/review/all?status=${event.target.value}`)}>
      <option value="">all</option>${STATES.map((one) => html`<option value=${one}>${NAMES[one]}</option>`)}</select><//>
    <${List} label="Arguments" load=${(_, read) => numbered("/arguments", { status, page_size: 100 }, read)} inputs=${[status]} columns=${columns} empty="No argument yet. Decide for a customer, and let a language model write one." />`;
}
