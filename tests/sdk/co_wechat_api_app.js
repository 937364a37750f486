// An app on co-wechat-api, unchanged but for its base URLs: it asks for a token itself, with a secret that is none.

const assert = require('node:assert');
const crypto = require('node:crypto');

const API = require('co-wechat-api');

const { SIDECAR, APPID } = process.env;

const api = new API(APPID, 'no-secret-here');
api.prefix = `${SIDECAR}/cgi-bin/`;
api.snsPrefix = `${SIDECAR}/sns/`;
api.wxaPrefix = `${SIDECAR}/wxa/`;

// One of each call that apps make most; throws on any error that WeChat, or anybody, reports.
async function aDaysWork(day) {
  const followers = (await api.getFollowers()).data.openid;
  assert.strictEqual(followers.length, 2);
  for (const openid of followers) {
    assert.strictEqual((await api.getUser(openid)).openid, openid);
    await api.sendText(openid, `第 ${day} 天：你好 & <goodbye> 🙂`);
    const greeting = { first: { value: '您好', color: '#173177' } };
    assert((await api.sendTemplate(openid, 'template-id', 'https://example.com/?a=1&b=2', '#f00', greeting)).msgid);
  }

  const picture = crypto.randomBytes(200_000);
  const uploaded = await api.uploadMedia(picture, 'image', 'photo.jpg', 'image/jpeg');
  const downloaded = await api.getMedia(uploaded.media_id);
  assert(downloaded.equals(picture), 'the picture came back changed');

  assert((await api.createTmpQRCode(day, 60)).ticket);
  assert((await api.getTicket()).ticket);
  assert.strictEqual((await api.getWXACode('pages/index')).readUInt16BE(0), 0xffd8);
  assert((await api.code2Session(`code-${day}`)).openid);
  await api.createMenu({ button: [{ type: 'view', name: '官网', url: 'https://example.com/' }] });
  await api.getMenu();
}

async function main(days) {
  for (let day = 0; day < days; day += 1) {
    await aDaysWork(day);
  }
  console.log(`${days} days without an error; its token was ${(await api.ensureAccessToken()).accessToken}`);
}

main(Number(process.argv[2])).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
