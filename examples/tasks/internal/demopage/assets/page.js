// Shows two tenants side by side. All texts of tenants go through textContent: none is ever read as HTML.

const shown = 5; // rows of a list

const tenants = [];

// call sends a request with a tenant's key, and returns the status and the body.
async function call(tenant, path, { method = "GET", body, headers = {} } = {}) {
  const answer = await fetch(path, {
    method,
    headers: { "X-API-Key": tenant.key, ...(body && { "Content-Type": "application/json" }), ...headers },
    body: body && JSON.stringify(body),
    cache: "no-store",
  });
  const json = (answer.headers.get("Content-Type") ?? "").includes("json");
  return { status: answer.status, request: answer.headers.get("X-Request-Id"), body: json ? await answer.json() : null };
}

async function get(tenant, path) {
  const answer = await call(tenant, path);
  if (answer.status !== 200) throw new Error(answer.body?.detail ?? `the server has answered ${answer.status}`);
  return answer.body;
}

function element(name, text, className) {
  const e = document.createElement(name);
  e.textContent = text;
  if (className) e.className = className;
  return e;
}

const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const at = (text) => time.format(new Date(text));
const short = (id) => id.slice(0, 8);

// build draws the section of a tenant.
function build(tenant) {
  const section = document.querySelector("#tenant").content.firstElementChild.cloneNode(true);
  const find = (selector) => section.querySelector(selector);
  const id = (name) => `${tenant.id}-${name}`;
  tenant.find = find;
  section.id = tenant.id;
  section.setAttribute("aria-labelledby", id("name"));
  find("h2").id = id("name");
  find("h2").textContent = tenant.name;
  find("label").htmlFor = find("input").id = id("title");
  find("label").textContent = `New task of ${tenant.name}`;
  find(".primary").setAttribute("aria-label", `Create a task of ${tenant.name}`);
  find(".attack").textContent = `Try to read it as ${tenant.other.name}`;
  find("[data-step=apart] b").textContent = `${tenant.other.name} sees nothing of it`;
  find("form").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(() => create(tenant));
  });
  find(".attack").addEventListener("click", () => attempt(() => attack(tenant)));
  document.querySelector("#tenants").append(section);
}

// create makes a task, and follows it from then on.
async function create(tenant) {
  const input = tenant.find("input");
  const title = input.value.trim();
  if (!title) return input.focus();
  const answer = await call(tenant, "/v1/tasks", {
    method: "POST",
    body: { project_id: tenant.project, title },
    headers: { "Idempotency-Key": crypto.randomUUID() },
  });
  if (answer.status !== 201) throw new Error(answer.body?.detail ?? `the server has answered ${answer.status}`);
  input.value = "";
  tenant.story = { task: answer.body, request: answer.request, steps: {} };
  for (const step of tenant.find(".steps").children) mark(step, "waiting", "waiting");
  tenant.find(".title").textContent = answer.body.title;
  tenant.find(".refusal").hidden = true;
  tenant.find(".attack").disabled = false;
  tenant.say(`Task created for ${tenant.name}`);
  await refresh();
}

// attack asks for the task with the key of the other tenant.
async function attack(tenant) {
  const { task } = tenant.story;
  const answer = await call(tenant.other, `/v1/tasks/${task.id}`);
  const refusal = tenant.find(".refusal");
  const refused = answer.status === 404;
  refusal.classList.toggle("wrong", !refused);
  refusal.replaceChildren(
    element("code", `GET /v1/tasks/${task.id}`),
    element("b", refused ? `${answer.status}: ${answer.body.detail}` : `${answer.status}: ${tenant.other.name} has read it`),
    element("span", refused ? `${tenant.other.name} gets the answer that an id gets which does not exist.` : "The tenants are not apart."),
  );
  refusal.hidden = false;
}

function mark(step, state, text) {
  step.className = state;
  const span = step.querySelector("span");
  if (span.textContent !== text) span.textContent = text;
}

// load gets what a tenant sees, as the tenant.
async function load(tenant) {
  const [tasks, audit, deliveries, demo] = await Promise.all([
    get(tenant, `/v1/tasks?sort=-created_at&page=1&limit=${shown}`),
    get(tenant, `/v1/audit?filter=table:eq:tasks&limit=${shown}`),
    get(tenant, `/v1/webhooks/deliveries?limit=${shown}`),
    get(tenant, "/demo/state"),
  ]);
  tenant.seen = { tasks, audit, deliveries, demo };
}

// follow shows how far the story of the newest task is.
function follow(tenant) {
  const { story, seen, other } = tenant;
  if (!story || story.over) return;
  const { task } = story;
  const step = (name, state, text) => {
    mark(tenant.find(`[data-step=${name}]`), state, text);
    story.steps[name] = state === "done";
  };
  if (seen.tasks.items.some((t) => t.id === task.id)) {
    step("row", "done", `tasks ${short(task.id)}…, with the tenant filled in by the plugin`);
  }
  const change = seen.audit.items.find((c) => c.key?.id === task.id && c.operation === "INSERT");
  if (change) step("audit", "done", `${change.operation} by ${change.actor.slice(0, 12)}…, request ${story.request.slice(0, 6)}…`);

  const message = seen.demo.received.find((m) => m.task === task.id);
  const delivery = message && seen.deliveries.items.find((d) => d.event_id === message.id);
  const jobs = seen.demo.jobs.filter((j) => j.event === message?.id).reverse(); // the oldest first
  if (jobs.length) {
    const over = jobs.length > 1 && jobs.every((j) => j.state === "completed");
    step("job", over ? "done" : "waiting", jobs.map((j) => `${j.kind}: ${j.state}`).join(", "));
  }
  if (delivery && message) {
    const good = delivery.status === "delivered" && message.verified;
    const text = `${message.type} ${delivery.status} at ${at(message.at)}, signature ${message.verified ? "verified" : "wrong"}`;
    step("webhook", good ? "done" : message.verified ? "waiting" : "wrong", text);
  }
  const leak = JSON.stringify(other.seen).includes(task.id);
  const places = "tasks, audit trail, jobs and webhooks";
  if (leak) {
    step("apart", "wrong", `It is in its ${places}.`);
    tenant.say(`${other.name} sees the task`);
  } else if (["row", "audit", "job", "webhook"].every((name) => story.steps[name])) {
    step("apart", "done", `It is not in its ${places}.`);
    tenant.say(`Webhook delivered. ${other.name} sees nothing of the task`);
  }
  story.over = leak || story.steps.apart;
}

function list(tenant, name, rows) {
  const ul = tenant.find(`[data-list=${name}] ul`);
  const items = rows.map(([text, more]) => {
    const li = element("li", "");
    li.append(element("span", text), element("span", more));
    return li;
  });
  if (!items.length) items.push(element("li", "None yet."));
  if (items.map((i) => i.textContent).join("\n") !== [...ul.children].map((i) => i.textContent).join("\n")) ul.replaceChildren(...items);
}

function draw(tenant) {
  const { tasks, audit, demo } = tenant.seen;
  tenant.find(".facts").textContent = `${tasks.total} ${tasks.total === 1 ? "task" : "tasks"}`;
  list(tenant, "tasks", tasks.items.map((t) => [t.title, `${t.status}, ${at(t.created_at)}`]));
  list(tenant, "audit", audit.items.map((c) => [`${c.operation} ${c.table} ${short(c.key.id)}…`, at(c.at)]));
  list(tenant, "received", demo.received.slice(0, shown).map((m) => [m.type, `${m.verified ? "verified" : "wrong signature"}, ${at(m.at)}`]));
  follow(tenant);
}

async function refresh() {
  await Promise.all(tenants.map(load));
  tenants.forEach(draw);
}

// attempt runs what the user has asked for, and shows what goes wrong.
async function attempt(work) {
  const trouble = document.querySelector("#trouble");
  try {
    await work();
    trouble.hidden = true;
  } catch (error) {
    trouble.textContent = `That did not work: ${error.message}`;
    trouble.hidden = false;
  }
}

// poll asks again and again, more often while a story goes on, and not while the page is hidden.
async function poll() {
  if (!document.hidden) await attempt(refresh);
  setTimeout(poll, tenants.some((t) => t.story && !t.story.over) ? 300 : 3000);
}

await attempt(async () => {
  const answer = await fetch("/demo/tenants");
  if (!answer.ok) throw new Error(`the server has answered ${answer.status}`);
  tenants.push(...(await answer.json()));
  tenants.forEach((tenant, i) => (tenant.other = tenants[1 - i]));
  tenants.forEach(build);
  for (const tenant of tenants) {
    const said = tenant.find(".said");
    tenant.say = (text) => (said.textContent = text);
    tenant.project = (await get(tenant, "/v1/projects?limit=1")).items[0].id;
  }
  poll();
});
