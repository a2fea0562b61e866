// Written by import_openapi: `operation` says what is sent where, this sends it.
const given = (field) => parameters[field.argument];
const text = (value) => (typeof value === "string" ? value : typeof value === "object" ? JSON.stringify(value) : String(value));
const members = (value) => Object.entries(value).filter(([, member]) => member !== undefined);
const isSet = (name) => typeof env[name] === "string" && env[name] !== "";
const setting = (name) => {
  if (!isSet(name)) throw new Error(`the secret ${name} is not set: set it, then call again`);
  return env[name];
};
const sent = [];
const secret = (name) => {
  const value = setting(name);
  // What is that short is found in any text, and is no secret.
  if (value.length > 3) sent.push(value);
  return value;
};
// An API may quote what it was sent: its errors and redirects, the query; some answers, every header.
const hidden = (told) => {
  const asQuery = (value) => new URLSearchParams([["", value]]).toString().slice(1);
  const forms = sent.flatMap((value) => [value, encodeURIComponent(value), asQuery(value), JSON.stringify(value).slice(1, -1)]);
  if (forms.length === 0) return told;
  const patterns = forms.sort((a, b) => b.length - a.length).map((form) => form.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return told.replace(new RegExp(patterns.join("|"), "gi"), "***");
};

const list = (value) => (Array.isArray(value) ? value : [value]).map((item) => encodeURIComponent(text(item))).join(",");
const inPath = (part) => {
  const value = list(given(part));
  if (value === "") throw new Error(`${part.argument} is empty, which a path cannot say`);
  return value;
};
const path = operation.path.map((part) => (typeof part === "string" ? part : inPath(part))).join("");
const url = new URL(operation.base + path);
// A value that is only dots would climb out of its place.
if (url.pathname !== new URL(operation.base).pathname.replace(/\/$/, "") + path) throw new Error("'.' and '..' cannot be sent in a path");

const query = (field, value) => {
  if (field.style === "json") return [[field.name, JSON.stringify(value)]];
  if (Array.isArray(value)) return field.explode ? value.map((item) => [field.name, text(item)]) : [[field.name, value.map(text).join(field.separator)]];
  if (typeof value !== "object" || value === null) return [[field.name, text(value)]];
  if (field.style === "deepObject") return members(value).map(([name, member]) => [`${field.name}[${name}]`, text(member)]);
  return field.explode ? members(value).map(([name, member]) => [name, text(member)]) : [[field.name, members(value).flatMap(([name, member]) => [name, text(member)]).join(",")]];
};
const headers = new Headers({ accept: "application/json, text/*;q=0.9, */*;q=0.5", "user-agent": "metamcp" });
const cookies = [];
for (const field of operation.fields) {
  const value = given(field);
  if (value === undefined) continue;
  if (field.in === "query") for (const [name, member] of query(field, value)) url.searchParams.append(name, member);
  else if (field.in === "header") headers.set(field.name, Array.isArray(value) ? value.map(text).join(",") : text(value));
  else cookies.push(`${field.name}=${encodeURIComponent(text(value))}`);
}
const usesKeys = !operation.optional || operation.keys.every((key) => isSet(key.secret) && (key.username === undefined || isSet(key.username)));
for (const key of usesKeys ? operation.keys : []) {
  if (key.kind === "bearer") headers.set("authorization", `Bearer ${secret(key.secret)}`);
  else if (key.kind === "basic") {
    const bytes = new TextEncoder().encode(`${setting(key.username)}:${secret(key.secret)}`);
    const pair = btoa(String.fromCharCode(...bytes));
    sent.push(pair);
    headers.set("authorization", `Basic ${pair}`);
  } else if (key.kind === "header") headers.set(key.name, secret(key.secret));
  else if (key.kind === "query") url.searchParams.append(key.name, secret(key.secret));
  else cookies.push(`${key.name}=${encodeURIComponent(secret(key.secret))}`);
}
if (cookies.length > 0) headers.set("cookie", cookies.join("; "));

let body;
const content = operation.body ? given(operation.body) : undefined;
if (content !== undefined) {
  const { kind, mediaType } = operation.body;
  const pairs = () => members(content).flatMap(([name, member]) => (Array.isArray(member) ? member.map((item) => [name, text(item)]) : [[name, text(member)]]));
  if (kind === "json") body = JSON.stringify(content);
  else if (kind === "text") body = text(content);
  else if (kind === "form") body = new URLSearchParams(pairs());
  else {
    body = new FormData();
    for (const [name, member] of pairs()) body.append(name, member);
  }
  if (kind === "json" || kind === "text") headers.set("content-type", mediaType);
}

// A redirect could take the secrets to another host.
const response = await fetch(url, { method: operation.method, headers, body, redirect: "manual", signal: ctx.signal });
const type = (response.headers.get("content-type") ?? "").split(";")[0].trim().toLowerCase();
const isJson = type === "application/json" || type.endsWith("+json");
if (response.status >= 300 && response.status < 400) {
  const location = response.headers.get("location") ?? "";
  const to = URL.canParse(location, url) ? new URL(location, url) : url;
  throw new Error(`HTTP ${response.status}: a redirect to ${hidden(`${to.protocol}//${to.host}${to.pathname}`)}, which is not followed`);
}
if (!response.ok) throw new Error(`HTTP ${response.status} ${hidden(response.statusText)}: ${hidden(await response.text()).slice(0, 2000)}`);
if (type.startsWith("image/") || type.startsWith("audio/")) {
  return { content: [{ type: type.slice(0, 5), data: await response.arrayBuffer(), mimeType: type }] };
}
if (type !== "" && !isJson && !type.startsWith("text/") && !/xml|javascript|yaml/.test(type)) {
  return { content: [{ type: "resource", resource: { uri: operation.base, mimeType: type, blob: await response.arrayBuffer() } }] };
}
const answer = await response.text();
// As text: read as JSON, it could look like a result of MCP, and its large numbers would become others.
return answer === "" ? `done (HTTP ${response.status})` : hidden(answer);
