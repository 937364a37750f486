// fetch, which keeps its connections.
const base = "https://api.weixin.qq.com/cgi-bin";
const send = { method: "POST", body: JSON.stringify({ touser: "oFollower", msgtype: "text", text: { content: "你好" } }) };
const pause = (time) => new Promise((done) => setTimeout(done, time));

for (let well = 0; ; await pause(50)) {
  try {
    const list = await (await fetch(`${base}/user/get?access_token=any-text`)).json();
    const sent = await (await fetch(`${base}/message/custom/send?access_token=any-text`, send)).json();
    if (list.errcode || sent.errcode) throw new Error(JSON.stringify([list, sent]));
    if (++well % 3 === 1) console.log(`ok ${well}`);
  } catch (problem) {
    console.log(`fail ${problem} ${problem.cause}`);
    await pause(200);
  }
}
