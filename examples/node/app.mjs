// A small app beside the sidecar: it logs users in, sends them messages and makes mini program codes.
//
// It has no AppSecret and no access_token. The sidecar puts them into its calls.

import { createServer } from 'node:http';
import { text as bodyOf } from 'node:stream/consumers';

const WECHAT = process.env.WECHAT_API_BASE_URL ?? 'http://127.0.0.1:7080';

// What the app answers where it cannot do what it was asked.
class Problem extends Error {
  constructor(status, error, errcode, retryAfter) {
    super(error);
    Object.assign(this, { status, errcode, retryAfter });
  }
}

// POST /login {"code": "…"}: the code is what wx.login gave to the mini program.
async function login(given) {
  const query = new URLSearchParams({ js_code: text(given, 'code'), grant_type: 'authorization_code' });
  const { content } = await callWechat(`/sns/jscode2session?${query}`);
  // The session_key beside it is for this server alone: do not send it to the mini program.
  return asJson({ openid: JSON.parse(content).openid });
}

// POST /notify {"openid": "…", "text": "…"}: a customer service message.
async function notify(given) {
  const message = { touser: text(given, 'openid'), msgtype: 'text', text: { content: text(given, 'text') } };
  await callWechat('/cgi-bin/message/custom/send', message);
  return asJson({ sent: true });
}

// GET /qr?scene=…: a mini program code, as a picture.
async function qr(given) {
  return callWechat('/wxa/getwxacodeunlimit', { scene: text(given, 'scene') });
}

// Sends a GET, or a POST with this body as JSON. Returns the type and the bytes of the reply.
async function callWechat(target, body) {
  const [path] = target.split('?');
  const post = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
  let reply, content;
  try {
    reply = await fetch(WECHAT + target, { ...(body && post), signal: AbortSignal.timeout(40_000) });
    content = Buffer.from(await reply.arrayBuffer());
  } catch (error) {
    console.error(`${path}: ${error.cause ?? error}`);
    throw new Problem(502, 'no reply from the sidecar');
  }
  // An errcode in the body says that a call failed, whatever its status and its type are.
  const answer = content.toString('latin1', 0, 1) === '{' ? JSON.parse(content) : {};
  const errcode = Number(answer.errcode ?? 0);
  if (errcode === 0 && reply.status === 200) return { type: reply.headers.get('content-type'), content };
  console.error(`${path}: HTTP ${reply.status}, errcode ${errcode}: ${answer.errmsg}`);
  const retryAfter = reply.headers.get('retry-after');
  // The code of the login is wrong, or was used before.
  if (errcode === 40029 || errcode === 40163) throw new Problem(401, 'log in again', errcode);
  // The sidecar has sent nothing to WeChat. It says when it is worth another try.
  if (retryAfter) throw new Problem(503, 'try again later', errcode, retryAfter);
  // WeChat refused, or it is unknown what became of the call. So it is not sent again.
  throw new Problem(502, 'the call failed', errcode);
}

function text(given, name) {
  const value = given?.[name];
  if (typeof value !== 'string' || !value) throw new Problem(400, `${name} is missing`);
  return value;
}

function asJson(value) {
  return { type: 'application/json', content: Buffer.from(JSON.stringify(value)) };
}

const ROUTES = { 'POST /login': login, 'POST /notify': notify, 'GET /qr': qr };

async function ask(request) {
  const [path, query] = request.url.split('?');
  const route = ROUTES[`${request.method} ${path}`];
  if (!route) throw new Problem(404, 'not found');
  if (request.method === 'GET') return route(Object.fromEntries(new URLSearchParams(query)));
  let given;
  try {
    given = JSON.parse(await bodyOf(request));
  } catch {
    throw new Problem(400, 'the body is no JSON');
  }
  return route(given);
}

const server = createServer(async (request, response) => {
  const headers = {};
  let status = 200, answer;
  try {
    answer = await ask(request);
  } catch (problem) {
    if (!(problem instanceof Problem)) console.error(problem);
    status = problem.status ?? 500;
    if (problem.retryAfter) headers['Retry-After'] = problem.retryAfter;
    answer = asJson({ error: problem.message, errcode: problem.errcode || undefined });
  }
  Object.assign(headers, { 'Content-Type': answer.type, 'Content-Length': answer.content.length });
  response.writeHead(status, headers).end(answer.content);
});
const host = process.env.HOST ?? '127.0.0.1';
server.listen(Number(process.env.PORT ?? 8080), host, () => {
  console.log(`listening on http://${host}:${server.address().port}`);
});
