// An app on one of Node's HTTP clients: app.js fetch|https|axios|undici, and ROUNDS or FILE.

const assert = require('node:assert');
const crypto = require('node:crypto');
const https = require('node:https');

const { goOn } = require('./rounds.js');

const BASE = 'https://api.weixin.qq.com';
const APPID = 'wx0123456789abcdef';
const SECRET = 'no-secret-here';

// Each takes method, URL, headers and body, and gives status and body.
const clients = {
  async fetch(method, url, headers, body) {
    const reply = await fetch(url, { method, headers, body });
    return [reply.status, Buffer.from(await reply.arrayBuffer())];
  },

  https(method, url, headers, body) {
    return new Promise((resolve, reject) => {
      const request = https.request(url, { method, headers, agent }, (reply) => {
        const chunks = [];
        reply.on('data', (chunk) => chunks.push(chunk));
        reply.on('end', () => resolve([reply.statusCode, Buffer.concat(chunks)]));
        reply.on('error', reject);
      });
      request.on('error', reject);
      request.end(body);
    });
  },

  async axios(method, url, headers, body) {
    const axios = require('axios');
    const options = { data: body, responseType: 'arraybuffer', validateStatus: () => true };
    const reply = await axios({ method, url, headers, ...options });
    return [reply.status, reply.data];
  },

  async undici(method, url, headers, body) {
    const reply = await require('undici').request(url, { method, headers, body });
    return [reply.statusCode, Buffer.from(await reply.body.arrayBuffer())];
  },
};
const agent = new https.Agent({ keepAlive: true });

const name = process.argv[2];

async function send(...request) {
  try {
    return await clients[name](...request);
  } catch (error) {
    error.gotNoReply = true;
    throw error;
  }
}

// The reply as bytes, unless it says that the call failed.
async function ask(target, body, type = 'application/json') {
  const headers = body === undefined ? {} : { 'content-type': type };
  const [status, reply] = await send(body === undefined ? 'GET' : 'POST', BASE + target, headers, body);
  assert.strictEqual(status, 200, reply.toString());
  if (reply[0] === 0x7b) assert(!JSON.parse(reply).errcode, reply.toString());
  return reply;
}

async function aRound(token, number) {
  assert.strictEqual(JSON.parse(await ask(`/cgi-bin/user/get?access_token=${token}`)).count, 2);
  const message = JSON.stringify({ touser: 'o1', text: `第 ${number} 天` });
  await ask(`/cgi-bin/message/custom/send?access_token=${token}`, message);

  const picture = Buffer.concat([Buffer.from([0xff, 0xd8]), crypto.randomBytes(1_000_000)]);
  const head = '--border\r\nContent-Disposition: form-data; name="media"; filename="photo.jpg"\r\n\r\n';
  const form = Buffer.concat([Buffer.from(head), picture, Buffer.from('\r\n--border--\r\n')]);
  const upload = `/cgi-bin/media/upload?access_token=${token}&type=image`;
  const { media_id: media } = JSON.parse(await ask(upload, form, 'multipart/form-data; boundary=border'));
  const again = await ask(`/cgi-bin/media/get?access_token=${token}&media_id=${media}`);
  assert(again.equals(picture), 'another picture');

  const code = await ask(`/wxa/getwxacodeunlimit?access_token=${token}`, '{"scene":"a=1"}');
  assert.strictEqual(code.readUInt16BE(0), 0xffd8);
  assert(JSON.parse(await ask(`/cgi-bin/ticket/getticket?access_token=${token}&type=jsapi`)).ticket);
  const login = `appid=${APPID}&secret=${SECRET}&js_code=node-${name}-${number}&grant_type=authorization_code`;
  assert(JSON.parse(await ask(`/sns/jscode2session?${login}`)).openid);
}

async function main() {
  const credential = `grant_type=client_credential&appid=${APPID}&secret=${SECRET}`;
  const { access_token: token } = JSON.parse(await ask(`/cgi-bin/token?${credential}`));
  const rounds = await goOn((number) => aRound(token, number), (error) => error.gotNoReply);
  console.log(`${rounds} rounds without an error; its token was ${token}`);
  agent.destroy();
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
