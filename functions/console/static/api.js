// Calls the API with the session's token and space.

import { base, freshToken, session, signOut } from "./session.js";

export class ApiError extends Error {
  constructor(status, body) {
    super(body.error || `The API responded with status ${status}.`);
    Object.assign(this, { status, code: body.code, details: body.details || [], requestId: body.request_id });
  }
}

export async function send(method, path, { query = {}, body, signal, headers = {} } = {}) {
  const url = new URL(path.replace(/^\//, ""), base);
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one !== undefined && one !== null && one !== "") url.searchParams.append(name, one);
  }
  const token = await freshToken();
  if (!token) {
    signOut();
    throw new ApiError(401, { error: "Your sign-in has expired. Sign in again." });
  }
  const response = await fetch(url, {
    method,
    signal,
    headers: {
      Authorization: `Bearer ${token}`,
      ...(session.spaceId ? { "X-Space-Id": session.spaceId } : {}),
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      ...headers,
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (!response.ok) {
    const text = await response.text();
    let answer;
    try {
      answer = JSON.parse(text);
    } catch {
      answer = { error: text.slice(0, 500) };
    }
    throw new ApiError(response.status, answer);
  }
  return response;
}

export async function call(method, path, options) {
  const response = await send(method, path, options);
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

export const get = (path, query) => call("GET", path, { query });
export const post = (path, body) => call("POST", path, { body });
export const put = (path, body) => call("PUT", path, { body });
export const del = (path) => call("DELETE", path);

// Keeps an HTML file of the API as a download: a link alone would send no token.
export async function download(filePath, name) {
  const response = await send("GET", filePath);
  const address = URL.createObjectURL(new Blob([await response.text()], { type: "text/html" }));
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  // The browser reads the address after the click.
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

// The path of an item. Ids and names from the API may hold any character.
export const path = (strings, ...parts) =>
  strings.reduce((done, text, index) => done + encodeURIComponent(parts[index - 1]) + text);

// Reads all rows of a list that pages by `after`, at most `most`.
export async function all(listPath, query = {}, most = 1000) {
  const rows = [];
  let after;
  do {
    const page = await get(listPath, { ...query, limit: 100, after });
    rows.push(...page.data);
    after = page.has_more ? page.next_after || page.data.at(-1)?.id : null;
  } while (after && rows.length < most);
  return rows;
}

// Reads the page of a numbered list that follows the rows read before.
export async function numbered(listPath, query, read) {
  const size = query.page_size || query.pageSize;
  const response = await send("GET", listPath, { query: { ...query, page: 1 + Math.floor(read / size) } });
  const found = await response.json();
  if (!Array.isArray(found)) return found;
  const more = response.headers.get("X-Has-More") === "true";
  return { data: found, count: Number(response.headers.get("X-Total-Count")), has_more: more };
}

// Yields the JSON of each server-sent event of a response.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    waiting += value || "";
    const parts = waiting.split(/\r?\n\r?\n/);
    waiting = done ? "" : parts.pop();
    for (const part of parts) {
      const data = part.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()).join("\n");
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
    if (done) return;
  }
}

// Uploads a file with a presigned form, and reports the share that is sent.
export function uploadForm(upload, file, onProgress) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    Object.entries(upload.fields).forEach(([name, value]) => form.append(name, value));
    form.append("file", file);
    const request = new XMLHttpRequest();
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () =>
      request.status < 400 ? resolve() : reject(new Error(`The upload of ${file.name} was refused (${request.status}).`));
    request.onerror = () =>
      reject(new Error(`The upload of ${file.name} failed. Check the connection, and that the bucket allows this origin.`));
    request.open("POST", upload.url);
    request.send(form);
  });
}
