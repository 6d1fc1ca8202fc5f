// A playground: the space's language models with guard, router and experts.

import { useRef, useState } from "preact/hooks";
import { events, get, path, post, put, send } from "../api.js";
import { Card, Field, Form, go, html, List, Loaded, Page, Problem, SectionPage, Table, useLoad, useTask, when } from "../view.js";

export default function Chats({ parts }) {
  const [section = "talk", id] = parts;
  const bar = html`<${SectionPage} page="chats" current=${section} />`;
  if (section === "history") return html`${bar}<${History} />`;
  if (section === "experts") return id ? html`<${Expert} id=${id} />` : html`${bar}<${Experts} />`;
  return html`${bar}<${Open} key=${id} id=${id} />`;
}

function Open({ id }) {
  const state = useLoad(async () => {
    const models = await get("/models");
    return { models: models.data || models, chat: id ? await get(path`/chats/${id}`) : null };
  }, [id]);
  return html`<${Loaded} state=${state}>${({ models, chat }) => html`<${Talk} models=${models} chat=${chat} />`}<//>`;
}

const textOf = (content) => (typeof content === "string" ? content : (content || []).map((part) => part.text || `[${part.type}]`).join("\n"));

function Talk({ models, chat }) {
  const [messages, setMessages] = useState(chat?.messages || []);
  const [chatId, setChatId] = useState(chat?.id || null);
  const [question, setQuestion] = useState("");
  const [answer, setAnswer] = useState(null);
  const [reports, setReports] = useState(null);
  const [options, setOptions] = useState({ model: "", guard_enabled: true, router_enabled: false, max_tokens: 200 });
  const stop = useRef(null);
  const [ask, asking, problem] = useTask(async () => {
    const asked = { role: "user", content: question };
    setMessages([...messages, asked]);
    setQuestion("");
    setReports(null);
    setAnswer("");
    stop.current = new AbortController();
    let text = "";
    try {
      const body = { ...options, model: options.model || undefined, id: chatId || undefined, messages: chatId ? [asked] : [...messages, asked], stream: true };
      for await (const event of events(await send("POST", "/chats", { body, signal: stop.current.signal }))) {
        if (event.error) throw new Error(event.error.message || event.error);
        if (event.id) setChatId(event.id);
        text += event.choices?.[0]?.delta?.content || "";
        setAnswer(text);
        if (event.guard || event.router) setReports((old) => ({ ...old, ...(event.guard ? { guard: event.guard } : {}), ...(event.router ? { router: event.router } : {}) }));
      }
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    } finally {
      setAnswer(null);
      if (text) setMessages((old) => [...old, { role: "assistant", content: text }]);
    }
  });
  const onKey = (event) => {
    if (event.key === "Enter" && !event.shiftKey && question.trim() && !asking) {
      event.preventDefault();
      ask();
    }
  };
  const option = (name, label) =>
    html`<label class="check"><input type="checkbox" checked=${options[name]} onChange=${(event) => setOptions({ ...options, [name]: event.target.checked })} /> ${label}</label>`;
  return html`<div class="grid">
    <${Card} title=${chat?.name || "Conversation"} actions=${html`<button class="small" onClick=${() => go(["chats"])}>New chat</button>`}>
      ${chat && !messages.length && html`<p class="quiet">No message of this chat is stored: what the guard stops is not.</p>`}
      <div class="messages" aria-live="polite">
        ${messages.map((one) => html`<div class=${`message ${one.role}`}><span class="hidden">${one.role}: </span>${textOf(one.content)}</div>`)}
        ${answer !== null && html`<div class="message">${answer || "…"}</div>`}
      </div>
      <${Problem} error=${problem} />
      <${Field} label="Your message" hint="Enter sends, Shift and Enter begin a new line."><textarea value=${question} onInput=${(event) => setQuestion(event.target.value)} onKeyDown=${onKey}></textarea><//>
      <div class="actions"><button class="primary" disabled=${!question.trim() || asking} onClick=${ask}>Send</button>
        ${asking && html`<button onClick=${() => stop.current?.abort()}>Stop</button>`}</div>
    <//>
    <div>
      <${Card} title="Settings">
        <${Field} label="Model"><select value=${options.model} onChange=${(event) => setOptions({ ...options, model: event.target.value })}>
          <option value="">the space's default</option>${models.map((one) => html`<option value=${one.id}>${one.id}</option>`)}</select><//>
        <${Field} label="At most this many tokens"><input type="number" min="1" value=${options.max_tokens} onInput=${(event) => setOptions({ ...options, max_tokens: Number(event.target.value) || undefined })} /><//>
        ${option("guard_enabled", "Guard: check what goes in and out")}
        ${option("router_enabled", "Router: choose an expert")}
      <//>
      <${Card} title="What guard and router did">
        ${reports
          ? html`<p><strong>Guard</strong> ${reports.guard?.enabled ? (reports.guard.flagged ? `stopped the ${reports.guard.stage}: ${reports.guard.categories.join(", ")}` : "found nothing") : "is off"}. <span class="quiet">${reports.guard?.reasoning || ""}</span></p>
              <p><strong>Router</strong> ${reports.router?.enabled ? (reports.router.expert_name ? `chose ${reports.router.expert_name}, version ${reports.router.expert_version}` : `chose nobody${reports.router.fallback ? `: ${reports.router.fallback}` : ""}`) : "is off"}. <span class="quiet">${reports.router?.reasoning || ""}</span></p>`
          : html`<p class="quiet">It appears with the answer.</p>`}
      <//>
    </div>
  </div>`;
}

function History() {
  const [name, setName] = useState("");
  const columns = [
    { name: "Chat", cell: (one) => html`<a href=${`#/chats/talk/${one.id}`}>${one.name || one.id}</a>` },
    { name: "Tags", cell: (one) => one.tags.join(", ") },
    { name: "Changed", cell: (one) => when(one.updated_at) },
  ];
  return html`<${Field} label="Name contains"><input value=${name} onChange=${(event) => setName(event.target.value)} /><//>
    <${List} label="Chats" load=${(after) => get("/chats", { limit: 100, after, name })} inputs=${[name]} columns=${columns} empty=${name ? "No chat has such a name." : html`No chat yet. Begin one in the <a href="#/chats">playground</a>.`} />`;
}

function Experts() {
  const [round, setRound] = useState(0);
  const columns = [
    { name: "Expert", cell: (one) => html`<a href=${`#/chats/experts/${one.id}`}>${one.name}</a><small>${one.description}</small>` },
    { name: "Version", numeric: true, cell: (one) => one.version_number },
    { name: "Tools", numeric: true, cell: (one) => one.tools.length },
    { name: "Files", numeric: true, cell: (one) => one.file_context.length },
    { name: "Changed", cell: (one) => when(one.updated_at) },
  ];
  const make = async (values, form) => {
    await post("/experts", values);
    form.reset();
    setRound(round + 1);
  };
  return html`<${List} label="Experts" load=${(after) => get("/experts", { limit: 100, after })} inputs=${[round]} columns=${columns} empty="No expert yet. Make one below: the router sends it the questions that its description fits." />
    <details class="card"><summary>New expert</summary><${ExpertForm} submit=${make} button="Make the expert" expert=${{}} /></details>`;
}

const ExpertForm = ({ expert, submit, button }) =>
  html`<${Form} submit=${submit} button=${button}><div class="row">
      <${Field} label="Name"><input name="name" required defaultValue=${expert.name} /><//>
      <${Field} label="Description" hint="The router chooses by it."><input name="description" required defaultValue=${expert.description} /><//></div>
    <${Field} label="Context" hint="What the language model is told with each question."><textarea name="context">${expert.context}</textarea><//><//>`;

function Expert({ id }) {
  const state = useLoad(async () => ({ expert: await get(path`/experts/${id}`), versions: (await get(path`/experts/${id}/versions`, { limit: 100 })).data }), [id]);
  const columns = [
    { name: "Version", numeric: true, cell: (one) => one.version_number },
    { name: "Name", cell: (one) => html`<strong>${one.name}</strong><small>${one.description}</small>` },
    { name: "Context", cell: (one) => (one.context || "").slice(0, 300) },
    { name: "Made", cell: (one) => when(one.created_at) },
  ];
  return html`<${Loaded} state=${state}>${({ expert, versions }) => html`<${Page} title=${expert.name} lead=${expert.description} actions=${html`<a class="button" href="#/chats/experts">All experts</a>`} />
    <${Card} title=${`Version ${expert.version_number}`}><${ExpertForm} key=${expert.version_number} expert=${expert} button="Save as the next version"
      submit=${async (values) => { await put(path`/experts/${id}`, { context: null, ...values }); state.reload(); }} /><//>
    <${Card} title="Versions"><${Table} label="Versions" columns=${columns} rows=${versions} keyOf=${(one) => one.version_number} /><//>`}<//>`;
}
