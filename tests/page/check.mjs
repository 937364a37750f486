// Looks at the status page with a real Chromium.
//
//   node tests/page/check.mjs                  all checks, on the scenes of scenes.mjs
//   node tests/page/check.mjs NAME…            the checks whose names contain a NAME
//   node tests/page/check.mjs http://…/ TEXT…  what holds for any page, on the page of a running sidecar, which has to
//                                              show each TEXT
//
// NODE_PATH leads to playwright-core and axe-core, and CHROMIUM to the browser if it is not /usr/bin/chromium.
import { fileURLToPath } from 'node:url';

import { assert, barriers, equal, launch, open, overflow, policyOf, unfold, verdict } from './browser.mjs';
import { serve } from './mock.mjs';
import { HOSTILE, scenes } from './scenes.mjs';

/** What holds for the page at `url`, whatever it shows. */
async function general(browser, url, habits, most, texts = []) {
    const { page, complaints, requests, reply, close } = await open(browser, url, habits);
    const text = await reply.text();
    equal(reply.headers()['content-security-policy'], policyOf(text), 'the policy');
    assert(Buffer.byteLength(text) < 80_000, `the page has ${Buffer.byteLength(text)} bytes`);
    await unfold(page, most);
    const shown = await page.innerText('body');
    for (const slip of ['NaN', 'undefined', '[object']) assert(!shown.includes(slip), `it shows ${slip}`);
    for (const text of texts) assert(shown.includes(text), `it does not show ${text}`);
    const zh = habits.locale === 'zh-CN';
    equal(await page.getAttribute('html', 'lang'), zh ? 'zh-CN' : 'en', 'the language');
    equal(await page.textContent('#lang'), zh ? 'English' : '中文', 'the other language');
    assert(/[一-鿿]/.test(await page.textContent('#h-problems')) === zh, 'a heading is in the other language');
    equal(await overflow(page), 0, 'pixels beyond the window');
    equal(await barriers(page), [], 'axe');
    equal(await page.$$eval('[aria-live], [role=status], [role=alert]', all => all.map(e => e.id)), ['verdict'], 'live regions');
    const own = url.replace(/[^/]*$/, '');
    for (const asked of requests) assert(asked === url || asked.startsWith(own + 'status.json?') || asked.startsWith('data:'), `it loads ${asked}`);
    equal(complaints, [], 'the browser complains');
    await close();
}

const ENGLISH = { locale: 'en-US', scheme: 'light', width: 1200 };
const CHINESE_PHONE = { locale: 'zh-CN', scheme: 'dark', width: 360 };
const HABITS = [ENGLISH, CHINESE_PHONE, { ...ENGLISH, scheme: 'dark', width: 360 }, { ...CHINESE_PHONE, scheme: 'light', width: 1200 }];

/** Lets the page's time pass, and its requests be answered. */
async function pass(page, seconds) {
    for (let s = 0; s < seconds; s++) {
        await page.clock.runFor(1000);
        await page.evaluate(() => 0);
    }
}

const until = (page, what, argument) => page.waitForFunction(what, argument, { polling: 50 });

/** This is longer than any check takes on a busy machine. */
const PATIENCE = 60_000;

const checks = {};
for (const name of Object.keys(scenes)) {
    checks[`any_reader_can_read_${name}`] = async (browser, { url }) => {
        const habits = ['one', 'outage'].includes(name) ? HABITS : HABITS.slice(0, 2);
        for (const habit of habits) await general(browser, `${url}/${name}/`, habit, 8);
    };
}

Object.assign(checks, {
    async the_verdict_is_one_sentence(browser, { url }) {
        const said = {
            calm: /^Ready\. No problem is open\.$/, one: /^Ready, but a problem is open\.$/, outage: /^Not ready: no access_token for office .*\.$/,
            thousand: /^Ready, but 1,006 problems are open\.$/, started: /^Not ready: .* has not ended\.$/,
        };
        for (const [name, sentence] of Object.entries(said)) {
            const { page, close } = await open(browser, `${url}/${name}/`);
            assert(sentence.test(await verdict(page)), `${name}: ${await verdict(page)}`);
            await close();
        }
    },

    async the_verdict_says_whether_calls_work_now_and_what_is_wrong(browser, { url, state }) {
        const at = async (name, edit, habits = ENGLISH) => {
            state.edit = edit;
            const { page, close } = await open(browser, `${url}/${name}/`, habits);
            const said = { kind: await page.getAttribute('#verdict-box', 'class'), lines: await page.$$eval('#verdict-box p', all => all.map(e => e.textContent)) };
            await close();
            return said;
        };
        const last = (all, coded, failed) => s => Object.assign(s.traffic, {
            calls: s.traffic.calls.fill(all / 2, 58), with_errcode: s.traffic.with_errcode.fill(coded / 2, 58), failed: s.traffic.failed.fill(failed / 2, 58),
        });
        const dead = await at('dead', last(50, 0, 50));
        equal([dead.kind, dead.lines[0], dead.lines[2]], ['bad', 'No call works now, though the sidecar is ready.', 'In the last 2 minutes 50 calls: all failed.'], 'dead');
        assert(/^WeChat cannot be reached, since \d\d:\d\d, and one more problem\.$/.test(dead.lines[1]), dead.lines[1]); // The harmless one is newer.
        const zh = await at('dead', last(50, 0, 50), CHINESE_PHONE);
        equal([zh.kind, zh.lines[0], zh.lines[2]], ['bad', '边车已就绪，但现在没有一次调用成功。', '最近 2 分钟有 50 次调用：全部失败。'], 'dead, in Chinese');
        assert(/^无法连接微信，\d\d:\d\d 开始；还有 1 个问题。$/.test(zh.lines[1]), zh.lines[1]);
        for (const [name, counts, kind, sentence] of [
            ['calm', [50, 50, 0], 'bad', 'In the last 2 minutes 50 calls: all answered with an errcode.'],
            ['calm', [100, 90, 8], 'bad', 'In the last 2 minutes 100 calls: 2 fine, 90 answered with an errcode, 8 failed.'],
            ['one', [50, 0, 20], 'warn', 'In the last 2 minutes 50 calls: 30 fine, 20 failed.'],
            ['one', [50, 0, 0], 'warn', 'In the last 2 minutes 50 calls: all fine.'],
            ['one', [2, 0, 2], 'warn', 'In the last 2 minutes 2 calls: all failed.'],
            ['calm', [0, 0, 0], 'ok', 'In the last 2 minutes no call.'],
        ]) {
            const said = await at(name, last(...counts));
            equal([said.kind, said.lines.at(-2)], [kind, sentence], `${name} with ${counts}`);
        }
        const many = await at('thousand');
        assert(/^WeChat cannot be reached \(94 accounts\), since \d\d:\d\d, and 912 more problems\.$/.test(many.lines[1]), many.lines[1]);
        // The card has the rest of the reason, if there is one.
        const reason = 'no access_token for shop: the token request was refused: errcode 40125 (invalid appsecret); the secret is wrong: set the right one';
        const refused = await at('one', s => Object.assign(s, { ready: false, not_ready_because: reason }));
        equal([refused.kind, refused.lines[0]], ['bad', `Not ready: ${reason.split(';')[0]}.`], 'the short reason');
        const long = await at('one', s => Object.assign(s, { ready: false, not_ready_because: 'word '.repeat(60) }));
        assert(/^Not ready: (word ){20,24}…$/.test(long.lines[0]), long.lines[0]);
        equal((await at('none', s => Object.assign(s, { not_ready_because: reason }))).lines[0], `Not ready: ${reason}.`, 'the reason without a card');
    },

    async one_fault_has_one_colour(browser, { url, state }) {
        const seen = async name => {
            const { page, close } = await open(browser, `${url}/${name}/`);
            const icons = selector => page.$$eval(selector, all => all.map(e => e.getAttribute('class').split(' ').pop()));
            const all = { cards: await icons('.problem h3 .icon'), hurt: await page.$$eval('.problem', all => all.map(e => e.matches('.hurts'))), rows: await icons('.account .state .icon') };
            await close();
            return all;
        };
        equal(await seen('dead'), { cards: ['warn', 'bad'], hurt: [false, true], rows: ['bad'] }, 'calls fail');
        equal(await seen('revoked'), { cards: ['warn'], hurt: [false], rows: ['warn'] }, 'calls do not fail for this');
        equal(await seen('one'), { cards: ['bad'], hurt: [true], rows: ['bad'] }, 'some calls fail');
        state.edit = s => [s.traffic, s.accounts[0].traffic].forEach(t => { t.with_errcode.fill(0, 58); });
        equal(await seen('one'), { cards: ['warn'], hurt: [false], rows: ['warn'] }, 'no call fails any more');
        state.edit = s => Object.assign(s.accounts[0], { token: null, token_error: 'no' });
        equal(await seen('revoked'), { cards: ['bad'], hurt: [true], rows: ['bad'] }, 'there is no token');
    },

    async times_have_their_zone_and_old_ones_their_day(browser, { url, state }) {
        const { page, close } = await open(browser, `${url}/one/`, { clock: true });
        const below = () => page.textContent('#verdict-box p:last-child'), day = await page.evaluate(() => new Date().toLocaleDateString('en-GB', { dateStyle: 'full' }));
        assert(/^As of \d\d:\d\d:\d\d GMT\S*\. /.test(await below()), await below());
        const footer = await page.textContent('footer');
        assert(footer.includes(`Data of ${day}.`) && / browser, GMT/.test(footer), footer);
        state.gone = 'closed';
        await page.clock.fastForward(24 * 3600 * 1000);
        await pass(page, 2);
        assert(/old: it is from \d+ \w+, \d\d:\d\d:\d\d GMT/.test(await verdict(page)), await verdict(page));
        await close();
    },

    async codes_of_the_sidecar_are_not_taken_for_wechats(browser, { url, state }) {
        const card = async name => {
            const { page, close } = await open(browser, `${url}/${name}/`);
            const texts = [await page.textContent('.problem:last-child'), await page.textContent('.traffic .plot:last-child')];
            await close();
            return texts;
        };
        const [own, none] = await card('dead');
        assert(/990502 \(the sidecar’s own code\)/.test(own) && /WeChat’s page on this/.test(own), own);
        assert(/^WeChat’s errcodesNo errcode/.test(none), none);
        const [theirs, codes] = await card('one');
        assert(/40164/.test(theirs) && !/own code/.test(theirs) && /WeChat’s page on 40164/.test(theirs), theirs);
        assert(/Also counts the sidecar’s own token and ticket requests/.test(codes), codes);
        state.edit = s => { s.problems[1].errcode = 990600 };
        assert(!/own code/.test((await card('dead'))[0]), 'it says so of a code that is not one');
    },

    async token_requests_that_will_not_last_are_told(browser, { url, state }) {
        const body = async (name, edit) => {
            state.edit = edit;
            const { page, close } = await open(browser, `${url}/${name}/`);
            const seen = { text: await page.textContent('.body > .cols'), warned: await page.$$eval('.cols .fill.warn', all => all.length), token: await page.textContent('.body > div') };
            await close();
            return seen;
        };
        const soon = await body('revoked');
        assert(/13 of 200At the rate of the last minutes all will be used up in about 1 h 52 min, at \d\d:\d\d\./.test(soon.text), soon.text);
        equal(soon.warned, 1, 'bars that warn');
        assert(/none\. Several replicas need one with the classic token\./.test(soon.text), soon.text);
        const fetches = change => s => Object.assign(s.accounts[0].fetches, change(s.accounts[0].fetches));
        for (const [what, change] of [
            ['a slow rate', f => ({ day_limit: 700, recent: f.recent.map(r => ({ ...r, seconds_ago: r.seconds_ago * 1.6 })) })], ['four requests', f => ({ recent: f.recent.slice(0, 4) })],
            ['old requests', f => ({ recent: f.recent.map(r => ({ ...r, seconds_ago: r.seconds_ago + 590 })) })], ['the fetches of others', f => ({ recent: f.recent.map(r => ({ ...r, outcome: 'shared' })) })],
        ]) {
            const seen = await body('revoked', fetches(change));
            equal([/used up/.test(seen.text), seen.warned], [false, 0], what);
        }
        assert(/200 of 200All used up: /.test((await body('revoked', fetches(() => ({ day: 200 })))).text), 'all used up');
        assert(!/used up|Several replicas/.test((await body('calm')).text), 'calm');
        // With one account, its card tells the error.
        const failed = kind => s => { s.accounts[0].token_error = 'errcode 40125: no'; Object.assign(s.problems[0], { kind, cause: 'errcode 40125: no' }) };
        assert(/The last token request failed, see the problem above\.$/.test((await body('revoked', failed('token_request_failed'))).token), 'the error is told once more');
        assert(/errcode 40125: no\.$/.test((await body('revoked', failed('token_revoked'))).token), 'the error is not told');
    },

    async the_rate_agrees_with_the_bars_and_a_single_reply_is_seen(browser, { url, state }) {
        const plots = async edit => {
            state.edit = edit;
            const { page, close } = await open(browser, `${url}/revoked/`);
            const all = await page.$$eval('.traffic .plot[data-plot]', all => all.map(e => ({ text: e.querySelector('figcaption').textContent, scale: e.querySelector('.max, .none').textContent, legend: e.querySelector('.legend')?.textContent })));
            const drawn = await page.$$eval('.traffic .area path:not(.line)', all => all.map(e => [e.getAttribute('class'), e.getBBox().y, e.getBBox().height].map(v => v.toFixed?.(0) ?? v)));
            const dots = await page.$$eval('.line.dot', all => all.map(e => parseFloat(getComputedStyle(e).strokeWidth)));
            await close();
            return { all, drawn, dots };
        };
        const { all, drawn, dots } = await plots();
        equal(all[0], { text: 'Calls a second5.0/s20 answered with an errcode, none failed in the last hour', scale: '5.0/s', legend: 'FineWith an errcodeFailed' }, 'calls');
        equal(drawn, [['calls', '0', '79'], ['coded', '79', '21'], ['failed', '0', '0']], 'columns');
        equal([all[1].text, dots.length, dots.every(width => width >= 5)], ['Time to WeChat’s replyp50 about 3 msp99 about 5 ms', 2, true], 'times');
        const traffic = change => s => change(s.accounts[0].traffic);
        assert(/^Calls a second1\.0\/s/.test((await plots(traffic(t => Object.assign(t, { current_seconds: 2, calls: t.calls.with(58, 60).with(59, 1) })))).all[0].text), 'a minute that has just begun');
        const none = t => { t.p50_seconds.fill(null); t.p99_seconds.fill(null) };
        equal((await plots(traffic(none))).all[1].scale, 'No reply in the last hour', 'without a reply');
        equal((await plots(traffic(t => { none(t); t.calls.fill(0); t.with_errcode.fill(0) }))).all[1].scale, 'No call in the last hour', 'without a call');
    },

    async each_language_has_all_texts_and_is_remembered(browser, { url }) {
        const { page, close } = await open(browser, `${url}/one/`, { locale: 'fr-FR', clock: true });
        equal(await page.getAttribute('html', 'lang'), 'en', 'the language of a reader of neither');
        const shape = await page.evaluate('Object.values(TEXTS).map(t => { const of = o => Object.entries(o).map(([k, v]) => typeof v === "object" ? [k, of(v)] : [k, typeof v]).sort(); return JSON.stringify(of(t)) })');
        equal(shape[0], shape[1], 'the texts');
        await page.click('#lang');
        await until(page, () => document.querySelector('.problem h3')?.textContent === '调用的 IP 被拒绝');
        assert(/^已就绪/.test(await verdict(page)), await verdict(page));
        await page.reload();
        await page.waitForSelector('main > section');
        equal(await page.getAttribute('html', 'lang'), 'zh-CN', 'the language after a reload');
        await close();
        const blocked = await open(browser, `${url}/one/`, { before: () => Object.defineProperty(window, 'localStorage', { get() { throw new Error('blocked') } }) });
        await blocked.page.click('#lang');
        equal(await blocked.page.getAttribute('html', 'lang'), 'zh-CN', 'the language without a memory');
        equal(blocked.complaints, [], 'complaints');
        await blocked.close();
    },

    async dark_is_dark_and_nothing_moves_for_who_wants_no_motion(browser, { url }) {
        for (const scheme of ['dark', 'light']) {
            const { page, close } = await open(browser, `${url}/one/`, { scheme });
            const light = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).every(n => n > 128));
            equal(light, scheme === 'light', `${scheme} is light`);
            const moving = await page.$$eval('*', all => all.filter(e => !/^(0s)?$/.test(getComputedStyle(e).transitionDuration) || getComputedStyle(e).animationName !== 'none').length);
            equal(moving, 0, 'elements that move');
            await close();
        }
    },

    async the_keyboard_reaches_every_control_and_shows_where_it_is(browser, { url }) {
        for (const name of ['one', 'thousand']) {
            const { page, close } = await open(browser, `${url}/${name}/`);
            await page.evaluate(() => { for (const e of document.querySelectorAll('a[href], button, input, summary, [tabindex]')) e.dataset.wanted = ''; });
            const wanted = await page.$$eval('[data-wanted]', all => all.length);
            for (let i = 0; i < wanted + 3; i++) {
                await page.keyboard.press('Tab');
                await page.evaluate(() => {
                    const e = document.activeElement, style = getComputedStyle(e);
                    if (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2) delete e.dataset.wanted;
                });
            }
            equal(await page.$$eval('[data-wanted]', all => all.map(e => e.outerHTML.slice(0, 80))), [], 'never reached');
            await page.focus('.account summary');
            const was = await page.$eval('.account', e => e.open);
            await page.keyboard.press('Enter');
            equal(await page.$eval('.account', e => e.open), !was, 'open after Enter');
            await close();
        }
    },

    async old_data_is_said_loudly_and_never_looks_fresh(browser, { url, state }) {
        const why = { closed: /[Nn]o connection|无法连接/, silent: /[Nn]o answer within 8 s|8 秒内没有回答/, 503: /HTTP 503/ };
        for (const gone of ['closed', 'silent', 503]) {
            for (const habits of [{ ...ENGLISH, clock: true }, { ...CHINESE_PHONE, clock: true }]) {
                const { page, close } = await open(browser, `${url}/one/`, habits);
                const fresh = await verdict(page), zh = habits.locale === 'zh-CN';
                state.gone = gone;
                await pass(page, 12);
                equal(await verdict(page), fresh, 'the verdict after 12 s');
                assert(!await page.evaluate(() => document.documentElement.matches('.stale')), 'dimmed after 12 s');
                await pass(page, 5);
                assert((zh ? /连不上边车.*旧数据/ : /cannot reach the sidecar.*old/).test(await verdict(page)), await verdict(page));
                assert(why[gone].test(await page.textContent('#verdict-box')), await page.textContent('#verdict-box'));
                assert(await page.evaluate(() => document.documentElement.matches('.stale') && getComputedStyle(document.querySelector('main')).filter.includes('grayscale')), 'not dimmed');
                assert((await page.title()).startsWith('✕'), await page.title());
                await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
                await page.waitForTimeout(50);
                const top = await page.$eval('#verdict', e => e.getBoundingClientRect().top);
                assert(top >= 0 && top < 300, `the verdict is at ${top}`);
                if (gone === 'closed') {
                    await page.clock.resume(); // axe takes timers.
                    await unfold(page, 3);
                    equal(await barriers(page), [], 'axe');
                }
                state.gone = null;
                await pass(page, 6);
                await until(page, () => !document.documentElement.matches('.stale'));
                equal(await verdict(page), fresh, 'the verdict after all');
                await close();
            }
        }
        state.gone = 'closed';
        const { page, close } = await open(browser, `${url}/one/`, { shown: false });
        await until(page, () => /cannot reach/.test(document.querySelector('#verdict').textContent));
        await close();
    },

    async a_pause_ends_the_questions_and_is_told(browser, { url, state }) {
        const { page, close } = await open(browser, `${url}/one/`, { clock: true });
        await page.click('#pause');
        const asked = state.asked.length;
        await pass(page, 17);
        equal(state.asked.length, asked, 'questions');
        await page.click('#lang');
        await until(page, () => document.querySelector('.problem h3')?.textContent === '调用的 IP 被拒绝');
        await page.click('#lang');
        await until(page, () => document.querySelector('.problem h3')?.textContent === 'the IP of calls is rejected');
        await pass(page, 17);
        equal(state.asked.length, asked + 2, 'questions for another language');
        assert(/^Paused\..*old/.test(await verdict(page)), await verdict(page));
        await page.click('#pause');
        await until(page, () => /^Ready/.test(document.querySelector('#verdict').textContent));
        await close();
    },

    async a_hidden_tab_asks_nothing(browser, { url, state }) {
        const before = () => Object.defineProperty(document, 'visibilityState', { get: () => window.seen ?? 'visible' });
        const { page, close } = await open(browser, `${url}/one/`, { clock: true, before });
        const see = seen => page.evaluate(seen => { window.seen = seen; document.dispatchEvent(new Event('visibilitychange')) }, seen);
        await pass(page, 6);
        assert(state.asked.length >= 2, 'it does not ask while it is seen');
        await see('hidden');
        const asked = state.asked.length;
        await pass(page, 30);
        equal(state.asked.length, asked, 'questions');
        state.gone = 'silent';
        await see('visible');
        assert(/old/.test(await verdict(page)), 'old data looks fresh at first');
        await until(page, () => true);
        equal(state.asked.length, asked + 1, 'questions when it is seen again');
        await close();
    },

    async a_thousand_accounts_have_pages_and_a_search(browser, { url, state }) {
        const { page, complaints, close } = await open(browser, `${url}/thousand/`);
        const names = () => page.$$eval('.account h3', all => all.map(e => e.textContent));
        const shows = name => until(page, name => document.querySelector('.account h3')?.textContent === name, name);
        const folded = await page.$$eval('.account', all => all.map(e => e.open));
        equal(folded, Array(20).fill(false), 'unfolded accounts');
        await page.click('nav.pages [data-act=prev]', { force: true }); // It says that it is disabled.
        equal((await names())[0], 'shop', 'the page before the first');
        await page.click('nav.pages [data-act=next]');
        await shows('shop-20');
        assert(state.asked.at(-1).includes('from=20'), state.asked.at(-1));
        assert(page.url().endsWith('/thousand/?page=2'), page.url());
        assert(/^[\d,]+ with a token, [\d,]+ in trouble$/.test(await page.textContent('#accounts .head p')), 'totals');
        await page.click('nav.below [data-act=prev]');
        await shows('shop');
        await page.fill('#search', 'shop-999');
        await shows('shop-999');
        equal(await names(), ['shop-999'], 'found');
        await page.fill('#search', 'a&from=3#ü<b>');
        await until(page, () => /No account has “a&from=3#ü<b>”/.test(document.querySelector('#accounts').textContent));
        equal(new URLSearchParams(state.asked.at(-1)).get('search'), 'a&from=3#ü<b>', 'searched for');
        await page.fill('#search', '');
        await shows('shop');
        equal([complaints, page.url()], [[], `${url}/thousand/`], 'complaints, and the address');
        await close();
        // An address leads to its page of what it searches for.
        const later = await open(browser, `${url}/thousand/?search=shop-1&page=2`);
        await until(later.page, () => /^shop-1/.test(document.querySelector('.account h3')?.textContent));
        assert(/from=20&search=shop-1$/.test(state.asked.at(-1)), state.asked.at(-1));
        equal(await later.page.inputValue('#search'), 'shop-1', 'searched for');
        await later.close();
    },

    async an_account_that_went_leads_to_the_last_page(browser, { url, state }) {
        const { page, close } = await open(browser, `${url}/thousand/`, { clock: true });
        await page.click('nav.pages [data-act=next]');
        await until(page, () => document.querySelector('.account h3').textContent === 'shop-20');
        state.edit = s => Object.assign(s, { accounts_total: 15, accounts_found: 15, accounts: s.accounts_from ? [] : s.accounts.slice(0, 15) });
        await pass(page, 6);
        await until(page, () => document.querySelectorAll('.account').length === 15);
        await close();
    },

    async an_update_takes_nothing_from_the_reader(browser, { url, state }) {
        const { page, close } = await open(browser, `${url}/twenty/`, { clock: true });
        await page.click('.account:nth-of-type(3) summary');
        await page.click('.account:nth-of-type(3) .traffic .plain summary');
        await page.waitForSelector('.account:nth-of-type(3) .scroll');
        await page.$eval('.account:nth-of-type(3) .scroll', e => { e.scrollTop = 120 });
        await page.fill('#search', 'shop');
        await pass(page, 1);
        await page.focus('.account:nth-of-type(3) .traffic .plain summary');
        const text = await page.$eval('.problem code', e => { getSelection().selectAllChildren(e); return e.textContent });
        const at = await page.evaluate(() => { window.kept = document.activeElement; return scrollY });
        state.edit = s => { s.problems[0].count = 76 };
        await pass(page, 6);
        await until(page, () => /76 times/.test(document.querySelector('.problem').textContent));
        equal(await page.evaluate(() => scrollY), at, 'scrolled');
        // The account moves to the top, and its figures change.
        state.edit = s => {
            s.problems[0].count = 77;
            const third = s.accounts.splice(2, 1)[0];
            third.fetches.day = 321;
            s.accounts.unshift(third);
        };
        await pass(page, 6);
        await until(page, () => /77 times/.test(document.querySelector('.problem').textContent));
        const is = await page.evaluate(() => ({
            name: document.querySelector('.account h3').textContent, open: document.querySelector('.account').open, day: /321 of 500/.test(document.querySelector('.account').textContent),
            focus: document.activeElement === window.kept && window.kept.isConnected, table: document.querySelector('.account .scroll').scrollTop,
            typed: document.querySelector('#search').value, selected: getSelection().toString(), unfolded: document.querySelectorAll('.account[open]').length,
        }));
        equal(is, { name: 'shop-2', open: true, day: true, focus: true, table: 120, typed: 'shop', selected: text, unfolded: 1 }, 'after the update');
        await page.click('.account summary');
        await pass(page, 6);
        equal(await page.$$eval('.account[open]', all => all.length), 0, 'unfolded again');
        await close();
    },

    async what_the_network_says_stays_text(browser, { url }) {
        const { page, complaints, close } = await open(browser, `${url}/hostile/`);
        await unfold(page);
        equal(await page.$$eval('img, main script, b, [onerror], a:not([href^="https:"]):not([href="status.json"]):not([href="metrics"])', all => all.length), 0, 'elements of others');
        const text = await page.textContent('main');
        assert(text.split(HOSTILE).length > 12, `it is shown ${text.split(HOSTILE).length - 1} times`);
        assert(text.includes('__proto__') && text.includes('→ constructor'), 'a word that JavaScript knows is not shown as it is');
        assert(!/\[object|native code|undefined|NaN|null/.test(text), /.{20}(\[object|native code|undefined|NaN|null).{20}/.exec(text)?.[0]);
        equal(complaints, [], 'complaints');
        await close();
    },

    async a_problem_of_many_accounts_is_one_and_the_rid_can_be_copied(browser, { url }) {
        const many = await open(browser, `${url}/thousand/`);
        equal(await many.page.$$eval('.problem', all => all.length), 6, 'problems at first');
        assert(/94 accounts.*and 89 more/.test(await many.page.textContent('.problem')), await many.page.textContent('.problem'));
        await many.page.click('[data-act=all]');
        equal(await many.page.$$eval('.problem', all => all.length), 7, 'all problems');
        assert(/906 more are open/.test(await many.page.textContent('main')), 'it does not say that there are more');
        await many.close();
        const { page, close } = await open(browser, `${url}/one/`);
        await page.click('[data-act=copy]');
        await until(page, () => document.querySelector('[data-act=copy]').textContent === 'Copied');
        equal(await page.evaluate(() => navigator.clipboard.readText()), '658cff8e-7783352d-44cb33e5', 'copied');
        equal(await page.getAttribute('.problem a', 'rel'), 'noreferrer noopener', 'rel');
        await close();
    },

    async plots_have_their_figures_as_text(browser, { url, state }) {
        let status;
        state.edit = s => { status = s };
        const { page, close } = await open(browser, `${url}/one/`);
        const labels = await page.$$eval('svg[role=img]', all => all.map(e => e.getAttribute('aria-label')));
        equal(labels.length, 4, 'plots');
        for (const label of labels) assert(/\d.*at most \d/.test(label), label);
        equal(await page.$$eval('svg:not([role=img]):not([aria-hidden=true])', all => all.length), 0, 'drawings that are neither named nor hidden');
        await page.click('.traffic .plain summary');
        await page.waitForSelector('tbody tr');
        const rows = await page.$$eval('tbody tr', all => all.map(row => [...row.cells].slice(1, 5).map(cell => Number(cell.textContent.replace(/\D/g, '')))));
        const t = status.accounts[0].traffic;
        equal(rows, t.calls.map((n, i) => [n, n - t.failed[i] - t.with_errcode[i], t.with_errcode[i], t.failed[i]]).reverse(), 'the table');
        const box = await page.locator('.area').first().boundingBox();
        await page.mouse.move(box.x + box.width * 30.5 / 60, box.y + 40);
        const rate = Math.round(t.calls[30] / 60);
        await until(page, rate => document.querySelector('.plot .v').textContent.includes(`${rate}/s2 answered with an errcode, none failed`), rate);
        await close();
    },
});

/** Runs the checks whose names have one of `words`, on the page that `change` spoils. Returns the failures. */
export async function run(browser, words, change, say = () => {}) {
    const failures = [];
    for (const [name, check] of Object.entries(checks)) {
        if (words.length && !words.some(word => name.includes(word))) continue;
        const mock = await serve(0, change), began = Date.now();
        let timer;
        const patience = new Promise((_, fail) => { timer = setTimeout(() => fail(new Error('it hangs')), PATIENCE) });
        const error = await Promise.race([check(browser, mock), patience]).then(() => null, error => error);
        clearTimeout(timer);
        if (error) failures.push(name);
        say(`${error ? 'FAILED' : 'ok    '} ${name} (${Date.now() - began} ms)${error ? `\n${error.message}` : ''}`);
        for (const context of browser.contexts()) await context.close();
        mock.close();
    }
    return failures;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
    const words = process.argv.slice(2), urls = words.filter(word => /^https?:/.test(word)).map(url => new URL(url).href);
    const browser = await launch();
    if (urls.length) {
        const texts = words.filter(word => !/^https?:/.test(word));
        for (const url of urls) for (const habits of HABITS) await general(browser, url, habits, 10, texts);
        console.log(`ok: ${urls.join(' ')}`);
    } else {
        const failures = await run(browser, words, undefined, console.log);
        process.exitCode = failures.length ? 1 : 0;
    }
    await browser.close();
}
