// An app on node-easywechat, as it was before there was a sidecar, but without the secret:
// node_easywechat_app.js ROUNDS or FILE.

const assert = require('node:assert');
const crypto = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const FormData = require('form-data');
const { MiniApp } = require('node-easywechat');

const { goOn } = require('./rounds.js');

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'easywechat-'));
const app = new MiniApp({ app_id: 'wx0123456789abcdef', secret: 'no-secret-here', file_cache: { path: folder } });
const client = app.getClient();

async function ask(method, target, options) {
  const reply = (await client.request(method, target, options)).toObject();
  assert(!reply.errcode, JSON.stringify(reply));
  return reply;
}

async function bytes(method, target, options) {
  return Buffer.from((await client.request(method, target, { ...options, responseType: 'arraybuffer' })).getContent());
}

async function aRound(number) {
  assert.strictEqual((await ask('GET', '/cgi-bin/user/get')).count, 2);
  await ask('POST', '/cgi-bin/message/custom/send', { json: { touser: 'o1', text: `第 ${number} 天` } });
  const picture = crypto.randomBytes(1_000_000);
  const formData = new FormData();
  formData.append('media', picture, { filename: 'photo.jpg', contentType: 'image/jpeg' });
  const { media_id: media } = await ask('POST', '/cgi-bin/media/upload', { params: { type: 'image' }, formData });
  const again = await bytes('GET', '/cgi-bin/media/get', { params: { media_id: media } });
  assert(again.equals(picture), 'another picture');
  const code = await bytes('POST', '/wxa/getwxacodeunlimit', { json: { scene: 'a=1' } });
  assert.strictEqual(code.readUInt16BE(0), 0xffd8);
  assert((await ask('GET', '/cgi-bin/ticket/getticket', { params: { type: 'jsapi' } })).ticket);
  assert((await app.getUtils().codeToSession(`easywechat-${number}`)).openid);
}

async function main() {
  const rounds = await goOn(aRound);
  console.log(`${rounds} rounds without an error; its token was ${await app.getAccessToken().getToken()}`);
}

main()
  .catch((error) => {
    console.error(error);
    process.exitCode = 1;
  })
  .finally(() => fs.rmSync(folder, { recursive: true }));
