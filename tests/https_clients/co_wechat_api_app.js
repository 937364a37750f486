// An app on co-wechat-api, as it was before there was a sidecar, but without the secret:
// co_wechat_api_app.js ROUNDS or FILE.

const assert = require('node:assert');
const crypto = require('node:crypto');

const API = require('co-wechat-api');

const { goOn } = require('./rounds.js');

const api = new API('wx0123456789abcdef', 'no-secret-here');

async function aRound(number) {
  const followers = (await api.getFollowers()).data.openid;
  assert.strictEqual(followers.length, 2);
  await api.sendText(followers[0], `第 ${number} 天：你好 & <goodbye> 🙂`);
  const picture = crypto.randomBytes(1_000_000);
  const uploaded = await api.uploadMedia(picture, 'image', 'photo.jpg', 'image/jpeg');
  assert((await api.getMedia(uploaded.media_id)).equals(picture), 'another picture');
  assert.strictEqual((await api.getWXACode('pages/index')).readUInt16BE(0), 0xffd8);
  assert((await api.createTmpQRCode(number, 60)).ticket);
  assert((await api.getTicket()).ticket);
  assert((await api.code2Session(`co-wechat-api-${number}`)).openid);
  // Its URL is written into co-wechat-api.
  await api.getColors();
}

async function main() {
  const rounds = await goOn(aRound);
  console.log(`${rounds} rounds without an error; its token was ${(await api.ensureAccessToken()).accessToken}`);
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
