// The states of a sidecar that the page is shown in. Each scene makes a status.json that has all of its accounts.

export const PAGE_SIZE = 20;

/** Numbers from 0 to 1 that are the same in each run. */
function dice(seed) {
    return () => {
        seed = (seed * 1664525 + 1013904223) >>> 0;
        return seed / 2 ** 32;
    };
}

const minutes = make => Array.from({ length: 60 }, (_, i) => make(i));

function errcode(code, counts) {
    return { errcode: String(code), counts, sum: counts.reduce((a, b) => a + b, 0) };
}

/** An hour of about `rate` calls a second. `failing(i)` is the part of minute `i` that fails. */
function traffic(seed, rate, { failing = () => 0, codes = [], slow = () => 1, since = 0 } = {}) {
    const random = dice(seed);
    const calls = minutes(i => {
        const wave = 1 + 0.35 * Math.sin(i / 9 + seed) + 0.25 * (random() - 0.5);
        const part = i === 59 ? 0.52 : 1;
        return i < since ? 0 : Math.round(rate * 60 * wave * part);
    });
    const failed = calls.map((n, i) => Math.round(n * failing(i)));
    const errcodes = codes.map(([code, counts]) => errcode(code, counts(random)));
    const p50 = minutes(i => (calls[i] ? 0.06 * slow(i) * (1 + 0.3 * random()) : null));
    return {
        current_seconds: 31,
        calls,
        failed,
        with_errcode: minutes(i => Math.min(calls[i] - failed[i], errcodes.reduce((sum, code) => sum + code.counts[i], 0))),
        p50_seconds: p50,
        p99_seconds: p50.map((v, i) => (v === null ? null : v * (3 + 2 * random()) * (i === 41 ? 2.1 : 1))),
        errcodes,
    };
}

function account(n, change = {}) {
    const id = n === 0 ? 'wx0123456789abcdef' : 'wx' + (0x51c0de0000 + n * 7919).toString(16).padStart(16, '0');
    return {
        appid: id, name: n === 0 ? 'shop' : `shop-${n}`, api: 'wechat', default: n === 0,
        token: { age_seconds: 3010 + n, expires_seconds: 4190, renews_seconds: 3890 }, token_error: null, retry_seconds: null,
        token_source: 'wechat_stable',
        fetches: {
            day: 13, day_limit: 500,
            recent: [
                { seconds_ago: 3010, cause: 'renewal', outcome: 'new' },
                { seconds_ago: 9910, cause: 'renewal', outcome: 'new' },
                { seconds_ago: 12400, cause: 'refusal', outcome: 'shared' },
                { seconds_ago: 16810, cause: 'missing', outcome: 'errcode' },
            ],
        },
        store_answers: null,
        tickets: { jsapi: { expires_seconds: 1260, last_error: null } },
        replays: { accepted: 3, refused: 0, failed: 0 }, replays_skipped: {},
        quotas: n % 2 ? [] : [{
            endpoint: '/cgi-bin/message/custom/send', hits: [{ errcode: 45009, count: 164, seconds_ago: 340, rid: '658cff8e-7783352d-44cb33e5' }],
            reading: { seconds_ago: 61.5, daily_limit: 100000, used: 100000, remain: 0, rate_limit: { call_count: 1000, refresh_second: 60 }, component_rate_limit: null },
        }],
        problems_open: 0, traffic: traffic(n + 1, 12),
        ...change,
    };
}

// The words of the kinds that the scenes have.
const words = {
    ip_rejected: {
        en: ['the IP of calls is rejected', 'add the IP in the account\'s console (WeChat: 开发接口管理 → IP白名单; WeCom: 应用 → 企业可信IP), or send calls from one that is listed (see --egress-proxy)'],
        zh: ['调用的 IP 被拒绝', '在账号的后台加入该 IP（微信：开发接口管理 → IP白名单；企业微信：应用 → 企业可信IP），或者从已加入的 IP 发出调用（见 --egress-proxy）'],
    },
    unreachable: {
        en: ['WeChat cannot be reached', 'look at what the cause names: DNS, the egress proxy, the firewall or a NetworkPolicy; nothing of these calls was sent'],
        zh: ['无法连接微信', '按原因检查：DNS、出口代理、防火墙或 NetworkPolicy；这些调用都没有发出'],
    },
    token_request_failed: {
        en: ['no new token', 'the cause says whether WeChat refuses or cannot be reached; a token in hand goes on until it expires, and the sidecar tries again by itself'],
        zh: ['token 请求没有得到 token', '原因会说明是微信拒绝还是无法连接；手里的 token 可用到过期，边车会自己重试'],
    },
    calls_quota: {
        en: ['a quota of calls is used up', 'the app calls this endpoint too often: call it less; a daily quota begins again at midnight in Beijing, and a limit per minute after a minute'],
        zh: ['调用的配额已用完', '应用调用该接口过于频繁：减少调用；每日配额在北京时间零点重新计算，每分钟的限制一分钟后解除'],
    },
    busy: {
        en: ['WeChat answers that it is busy', 'the fault is WeChat\'s: the app may try again later, if acting twice does no harm; the sidecar sends no such call again'],
        zh: ['微信返回系统繁忙', '问题在微信一侧：如果重复执行没有害处，应用可以稍后重试；边车不会重发这种调用'],
    },
    token_revoked: {
        en: ['the token is revoked again and again before it expires', 'another service probably fetches tokens of this account with /cgi-bin/token or force_refresh: move it behind a sidecar, or to stable_token; the sidecar replaces the token each time'],
        zh: ['token 在过期之前一再失效', '很可能有其他服务用 /cgi-bin/token 或 force_refresh 获取该账号的 token：让它改用边车或 stable_token；每次边车都会更换 token'],
    },
    store_away: {
        en: ['the store of shared tokens is away', 'look at the store and at the network to it; tokens in hand go on, and a few are fetched without it'],
        zh: ['共享存储没有响应', '检查共享存储和到它的网络；手里的 token 继续使用，没有存储时也可以获取少量 token'],
    },
    log_dropped: {
        en: ['lines of the log are missing', 'the reader of stdout is too slow: look at the log shipper, or log less (see --log-level)'],
        zh: ['日志有缺失', '读 stdout 的一方太慢：检查日志采集，或减少日志（见 --log-level）'],
    },
};

function problem(lang, kind, change = {}) {
    const [title, advice] = words[kind][lang];
    return {
        kind, account: 'wx0123456789abcdef', open: true, since_seconds: 75, ended_seconds: null, count: 12,
        endpoints: ['/cgi-bin/user/get'], errcode: null, rid: null, title, cause: null, advice, link: null, ...change,
    };
}

const ipRejected = (lang, change) => problem(lang, 'ip_rejected', {
    errcode: 40164, rid: '658cff8e-7783352d-44cb33e5', since_seconds: 252, count: 31,
    endpoints: ['/cgi-bin/user/get', '/cgi-bin/message/template/send'],
    cause: 'calls come from 203.0.113.30, which is not on the account\'s whitelist (errcode 40164)',
    link: 'https://developers.weixin.qq.com/doc/offiaccount/Getting_Started/Global_Return_Code.html', ...change,
});

function status(change) {
    const { process, ...rest } = change;
    return {
        version: '0.1.0', commit: '8892a62', now: Date.now() / 1000, uptime_seconds: 266400.5,
        ready: true, not_ready_because: null, problems: [], problems_open: 0,
        process: {
            connections: { app: 12, upstream: 4 }, max_connections: { app: 4096, upstream: 1024 },
            held_bytes: 18432, held_limit_bytes: 67108864, memory_bytes: 11534336, open_files: 44, max_open_files: 1048576,
            workers: 2, log_lines_dropped: 0, configuration: { read_at_seconds_ago: 266400.5, rejected: null }, ...process,
        },
        traffic: traffic(1, 12), accounts: [], ...rest,
    };
}

const empty = {
    current_seconds: 9, calls: minutes(() => 0), failed: minutes(() => 0), with_errcode: minutes(() => 0), p50_seconds: minutes(() => null),
    p99_seconds: minutes(() => null), errcodes: [],
};

const few = (from, most) => random => minutes(i => (i >= from ? Math.round(most * random()) : 0));

function calm(lang) {
    const over = problem(lang, 'busy', {
        open: false, errcode: -1, since_seconds: 1900, ended_seconds: 1610, count: 7, account: 'wx0123456789abcdef',
        rid: '658cff02-1183352d-44cb33e5', endpoints: ['/cgi-bin/message/custom/send'], cause: 'WeChat answered errcode -1 to 7 calls',
    });
    const mine = traffic(3, 12, { codes: [[-1, () => minutes(i => ([28, 29, 30].includes(i) ? 2 : 0))]] });
    return status({ problems: [over], accounts: [account(0, { traffic: mine })], traffic: mine });
}

/** Calm but for one problem: a few calls come from another IP. */
function one(lang) {
    const status = calm(lang);
    const codes = [[40164, () => minutes(i => [4, 7, 6, 8, 6][i - 55] ?? 0)], [-1, () => minutes(i => ([28, 29, 30].includes(i) ? 2 : 0))]];
    const mine = traffic(3, 12, { codes });
    status.problems.unshift(ipRejected(lang));
    status.problems_open = status.accounts[0].problems_open = 1;
    status.accounts[0].traffic = status.traffic = mine;
    return status;
}

function outage(lang) {
    const cause = 'no connection to api.weixin.qq.com:443: connect timed out after 5 s (2 addresses tried)';
    const failing = i => (i >= 47 ? 0.85 : 0);
    const slow = i => (i >= 47 ? 18 : 1);
    const bad = traffic(5, 20, { failing, slow, codes: [[45009, few(20, 9)], [-1, few(46, 30)], [48001, few(3, 2)]] });
    const wecom = account(2, {
        appid: 'ww8f2c1a9b7d6e5f40', name: 'office', api: 'wecom', token: null, token_source: 'wecom', problems_open: 2,
        token_error: 'no new token: ' + cause, retry_seconds: 41, store_answers: false,
        traffic: traffic(8, 2, { failing: i => (i >= 47 ? 1 : 0) }), replays: {}, tickets: {},
    });
    const shop = account(0, {
        problems_open: 3, traffic: bad, store_answers: false,
        token: { age_seconds: 7120, expires_seconds: 80, renews_seconds: 0 }, token_error: 'no new token: ' + cause, retry_seconds: 12,
        fetches: {
            day: 431, day_limit: 500,
            recent: [
                { seconds_ago: 18, cause: 'renewal', outcome: 'failed' }, { seconds_ago: 64, cause: 'renewal', outcome: 'failed' },
                { seconds_ago: 190, cause: 'refusal', outcome: 'errcode' }, { seconds_ago: 7120, cause: 'renewal', outcome: 'new' },
            ],
        },
        replays: { accepted: 41, refused: 2, failed: 9 }, replays_skipped: { not_held: 1, no_token: 14 },
        tickets: { jsapi: { expires_seconds: 300, last_error: 'no connection to api.weixin.qq.com:443' }, wx_card: { expires_seconds: 4000, last_error: null } },
    });
    const problems = [
        problem(lang, 'log_dropped', { account: null, since_seconds: 31, count: 1200, endpoints: [], cause: '1,200 lines were dropped' }),
        problem(lang, 'unreachable', { since_seconds: 780, count: 8412, cause, endpoints: ['/cgi-bin/message/template/send', '/cgi-bin/user/get', '/wxa/getwxacodeunlimit'], errcode: 990502 }),
        problem(lang, 'unreachable', { account: 'ww8f2c1a9b7d6e5f40', since_seconds: 742, count: 311, cause, endpoints: ['/cgi-bin/message/send'], errcode: 990502 }),
        problem(lang, 'token_request_failed', { account: 'ww8f2c1a9b7d6e5f40', since_seconds: 700, count: 9, cause, endpoints: [] }),
        problem(lang, 'store_away', { since_seconds: 790, count: 88, cause: 'redis.default.svc:6379: connection refused', endpoints: [] }),
        problem(lang, 'calls_quota', { since_seconds: 2400, count: 164, errcode: 45009, rid: '658cff8e-7783352d-44cb33e5', cause: 'errcode 45009: reach max api daily quota limit', endpoints: ['/wxa/getwxacodeunlimit'], link: 'https://developers.weixin.qq.com/' }),
        ipRejected(lang, { open: false, since_seconds: 3300, ended_seconds: 2900 }),
        problem(lang, 'busy', { open: false, errcode: -1, since_seconds: 3500, ended_seconds: 3390, count: 1 }),
    ];
    return status({
        ready: false, not_ready_because: 'no access_token for office (ww8f2c1a9b7d6e5f40): ' + cause, problems, problems_open: 6,
        accounts: [wecom, shop, account(3)], traffic: bad,
        process: { log_lines_dropped: 1200, connections: { app: 4030, upstream: 0 }, held_bytes: 66000000, configuration: { read_at_seconds_ago: 90000, rejected: 'line 14: the account \'shop\' has no secret' } },
    });
}

function many(lang, count) {
    const accounts = Array.from({ length: count }, (_, n) => account(n, {
        api: n % 9 === 5 ? 'wecom' : 'wechat', traffic: traffic(n + 2, n % 4 ? 0.4 * (n % 7) : 6), name: n % 6 === 4 ? null : n ? `shop-${n}` : 'shop',
        token: { age_seconds: 300 * (n % 22) + 40, expires_seconds: 7160 - 300 * (n % 22), renews_seconds: 6860 - 300 * (n % 22) },
    }));
    Object.assign(accounts[0], { problems_open: 1, traffic: traffic(1, 6, { codes: [[40164, few(51, 20)]] }) });
    Object.assign(accounts[1], { problems_open: 1, token: null, token_error: 'errcode 40125: invalid appsecret', retry_seconds: 300, traffic: traffic(9, 1, { failing: i => (i > 30 ? 1 : 0) }) });
    const all = traffic(4, count * 1.4, { failing: i => (i > 50 ? 0.02 : 0), codes: [[40164, few(51, 20)], [45009, few(10, 6)], [43004, few(0, 3)]] });
    const wrong = problem(lang, 'token_request_failed', { account: accounts[1].appid, errcode: 40125, since_seconds: 1740, count: 7, endpoints: [], cause: 'WeChat answered errcode 40125: invalid appsecret; the secret was read from /run/secrets/wechat/shop-1' });
    return status({ problems: [ipRejected(lang), wrong], problems_open: 2, accounts, traffic: all });
}

/** Ready, and no call works: the connection to WeChat was lost four minutes ago. */
function dead(lang) {
    const cause = 'no connection to api.weixin.qq.com:443: connect timed out after 5 s (2 addresses tried)';
    const mine = traffic(6, 9, { failing: i => (i > 55 ? 1 : 0) });
    for (const list of [mine.p50_seconds, mine.p99_seconds]) list.fill(null, 56);
    const problems = [
        problem(lang, 'store_away', { since_seconds: 30, count: 4, cause: 'redis.default.svc:6379: connection refused', endpoints: [] }),
        problem(lang, 'unreachable', { since_seconds: 212, count: 1904, cause, errcode: 990502, link: 'https://developers.weixin.qq.com/' }),
    ];
    return status({ problems, problems_open: 2, accounts: [account(0, { traffic: mine, problems_open: 2, store_answers: false })], traffic: mine });
}

/** A classic token without a store, which another service revokes again and again. The first calls came in this minute. */
function revoked(lang) {
    const last = n => minutes(i => (i === 59 ? n : 0)), time = v => minutes(i => (i === 59 ? v : null));
    const mine = {
        current_seconds: 19, calls: last(95), failed: last(0), with_errcode: last(20), p50_seconds: time(0.0031), p99_seconds: time(0.0049),
        errcodes: [errcode(45009, last(20))],
    };
    const shop = account(0, {
        traffic: mine, problems_open: 1, token_source: 'wechat_classic', tickets: {}, replays: { accepted: 12 },
        token: { age_seconds: 2, expires_seconds: 7198, renews_seconds: 6898 },
        fetches: { day: 13, day_limit: 200, recent: Array.from({ length: 10 }, (_, i) => ({ seconds_ago: 2 + 40 * i, cause: 'refusal', outcome: 'new' })) },
    });
    return status({ uptime_seconds: 439, problems: [problem(lang, 'token_revoked', { endpoints: [], since_seconds: 340, count: 12 })], problems_open: 1, accounts: [shop], traffic: mine });
}

/** A thousand accounts that have lost WeChat: a hundred of the problems are shown. */
function thousand(lang) {
    const status = many(lang, 1000);
    const cause = 'no connection to api.weixin.qq.com:443: connection refused';
    const lost = Array.from({ length: 94 }, (_, n) => problem(lang, 'unreachable', { account: status.accounts[n].appid, since_seconds: 60 + n, count: 5 + n, cause }));
    const other = Array.from({ length: 6 }, (_, n) => problem(lang, 'store_away', { account: status.accounts[n].appid, since_seconds: 200 + n, cause: `redis-${n}:6379: connection refused`, endpoints: [] }));
    for (const account of status.accounts) account.problems_open = 1;
    return Object.assign(status, { problems: [...lost, ...other], problems_open: 1006 });
}

function started() {
    const fresh = account(0, {
        token: null, fetches: { day: 0, day_limit: 500, recent: [] }, tickets: {}, replays: {}, replays_skipped: {}, traffic: empty,
    });
    return status({
        uptime_seconds: 3.2, ready: false, not_ready_because: 'no access_token for shop (wx0123456789abcdef): the first token request has not ended',
        accounts: [fresh], traffic: empty, process: { connections: { app: 0, upstream: 0 }, held_bytes: 0, configuration: { read_at_seconds_ago: 3.2, rejected: null } },
    });
}

export const HOSTILE = '<img src=x onerror=alert(1)><script>alert(2)</script>';

function hostile(lang) {
    const long = 'x'.repeat(400);
    const evil = account(0, {
        name: HOSTILE + long, appid: 'wx"\'><b>' + 'y'.repeat(120), problems_open: 1, token: null, token_error: HOSTILE + long,
        token_source: '__proto__', fetches: { day: 1e9, day_limit: 5, recent: [{ seconds_ago: 1e12, cause: HOSTILE, outcome: 'constructor' }] },
        tickets: { [HOSTILE]: { expires_seconds: null, last_error: long } }, replays: { [HOSTILE]: 1, toString: 2 }, replays_skipped: { valueOf: 2, [HOSTILE]: 1 },
        traffic: { ...empty, calls: minutes(i => (i === 30 ? 1 : 0)), p50_seconds: minutes(i => (i === 30 ? 1 : null)), errcodes: [errcode(HOSTILE, minutes(() => 1))] },
    });
    const bad = problem(lang, 'busy', {
        account: evil.appid, kind: HOSTILE, title: HOSTILE + long, cause: HOSTILE + long, advice: HOSTILE + long, link: 'javascript:alert(3)', rid: HOSTILE + long,
        errcode: 40164, endpoints: ['/' + long, HOSTILE],
    });
    return status({
        version: HOSTILE, commit: long, ready: false, not_ready_because: HOSTILE + long, problems: [bad, { ...bad, open: false, since_seconds: 90, ended_seconds: 30 }],
        problems_open: 1, accounts: [evil], traffic: evil.traffic, process: { open_files: null, max_open_files: null, memory_bytes: null, configuration: { read_at_seconds_ago: 0, rejected: HOSTILE + long } },
    });
}

export const scenes = {
    calm, one, outage, dead, revoked, started, hostile, thousand,
    none: () => status({ ready: false, not_ready_because: 'there is no account', traffic: empty }),
    twenty: lang => many(lang, 20),
};
