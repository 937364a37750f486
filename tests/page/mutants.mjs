// Spoils the page in one way after another, and sees the check fail that is there for it.
//
//   node tests/page/mutants.mjs [WORD…]        with the environment of check.mjs; only those with a WORD in them
import { launch } from './browser.mjs';
import { run } from './check.mjs';

const html = text => `(() => { const e = document.createElement('span'); e.innerHTML = ${text}; return e })()`;

/** A check, what it looks for in the page, and what stands there instead. */
const mutants = [
    ['read_none', '<body>', '<body style="color: red">'],
    ['read_none', '</body>', '<img src="logo.png" alt=""></body>'],
    ['read_none', '</body>', `<!-- ${'x'.repeat(8000)} --></body>`],
    ['read_none', 'ask();\n</script>', 'ask(); later();\n</script>'],
    ['read_none', "h('p', { class: 'small' }, below)", "h('p', { class: 'small', role: 'status' }, below)"],
    ['read_none', 'navigator.languages ||', '[] ||'],
    ['read_one', '--soft: #55605a', '--soft: #9aa59f'],
    ['read_one', '--soft: #a0aba5', '--soft: #68736d'],
    ['read_one', "role: 'img', 'aria-label': label", "role: 'img'"],
    ['read_thousand', "'aria-label': T.find, placeholder: T.findHint,", ''],
    ['read_hostile', 'overflow-wrap: anywhere;', ''],
    ['the_verdict', 'T.readyBut(open), below', 'T.ready, below'],
    ['the_verdict', 'if (!data.ready)', 'if (false)'],
    ['the_verdict_says', 'fine <= all * RARE', 'fine < 0'],
    ['the_verdict_says', 'RARE = .05', 'RARE = 0'],
    ['the_verdict_says', 'FEW = 3', 'FEW = 2'],
    ['the_verdict_says', 'list[58] + list[59]', 'list[59]'],
    ['the_verdict_says', "open.find(p => tintOf(p) === 'bad') || open[0]", 'open[0]'],
    ['the_verdict_says', 'data.problems_open - worst.accounts.length', 'data.problems_open - 1'],
    ['the_verdict_says', 'text = text.split(/[;；]/)[0]', ''],
    ['the_verdict_says', 'if (text.length > 150)', 'if (false)'],
    ['the_verdict_says', 'if (data.problems.some(p => p.open)) {', 'if (true) {'],
    ['one_fault', "icon(tint),", "icon('warn'),"],
    ['one_fault', 'p.endpoints.length &&', ''],
    ['one_fault', '(mine.length ? mine.some(a => fails(a.traffic)) : fails(data.traffic))', 'true'],
    ['one_fault', "if (mine.some(a => !a.token && stateOf(a)[0] === 'bad')) return 'bad';", ''],
    ['one_fault', "=== 'bad') ? 'bad' : 'warn', mine", "=== 'bad') ? 'warn' : 'warn', mine"],
    ['times_have', "(withSeconds ? ' ' + zone(at) : '')", "''"],
    ['times_have', '!== new Date().toDateString()', '!== new Date(data ? data.now * 1000 : Date.now()).toDateString()'],
    ['times_have', "{ dateStyle: 'full' }", "{ month: 'long' }"],
    ['codes_of_the_sidecar', 'code >= 990400 &&', 'code >= 1e6 &&'],
    ['codes_of_the_sidecar', 'code < 990600', 'true'],
    ['codes_of_the_sidecar', 'isOwn(p.errcode) ? null : p.errcode', 'p.errcode'],
    ['codes_of_the_sidecar', "h('p', { class: 'legend' }, T.codesNote)", 'null'],
    ['token_requests', 'soon = left <= 6 * 3600', 'soon = false'],
    ['token_requests', 'soon = left <= 6 * 3600', 'soon = left < Infinity'],
    ['token_requests', 'lately.length < 5 ?', 'lately.length < 4 ?'],
    ['token_requests', 'f.seconds_ago <= 600 &&', ''],
    ['token_requests', "&& f.outcome !== 'shared'", ''],
    ['token_requests', "a.token_source === 'wechat_classic' &&", ''],
    ['token_requests', "'token_request_failed' && p.cause", "'x'"],
    ['token_requests', "p.kind === 'token_request_failed' && p.cause", 'p.cause'],
    ['the_rate', 'Math.max(t.current_seconds, BRIEF)', '60'],
    ['the_rate', '? r[59] : r[58]', '? r[59] : r[59]'],
    ['the_rate', '.line.dot { stroke-width: 6;', '.line.dot {'],
    ['the_rate', 'sum(t.calls) ? T.noReply : T.noCalls', 'T.noCalls'],
    ['the_rate', "T.about(wait(v))", 'wait(v)'],
    ['the_rate', "columns(bad, f, max, height, gap)", "''"],
    ['the_rate', '${coded ? `${num(coded)} answered with an errcode, ` : \'\'}', ''],
    ['each_language', "prev: '上一页',", ''],
    ['each_language', "localStorage.setItem('lang', lang)", ''],
    ['each_language', "try { const l = localStorage.getItem('lang'); return l in { en: 1, zh: 1 } ? l : null } catch { return null }", "return localStorage.getItem('lang')"],
    ['each_language', 'show(); ask() },\n  pause', 'show() },\n  pause'],
    ['dark_is_dark', '--bg: #0f1412', '--bg: #fff'],
    ['dark_is_dark', '@media (prefers-reduced-motion: no-preference)', '@media all'],
    ['the_keyboard', 'outline: 2px solid var(--focus)', 'outline: none'],
    ['the_keyboard', "h('summary', null, summary)", "h('summary', { tabindex: -1 }, summary)"],
    ['old_data', 'OLD = 15', 'OLD = 60'],
    ['old_data', 'OLD = 15', 'OLD = 8'],
    ['old_data', 'SLOW = 8000', 'SLOW = 800000'],
    ['old_data', '.stale main { filter: grayscale(1) }', ''],
    ['old_data', '.stale #top { position: sticky;', '.stale #top {'],
    ['old_data', '--soft: #454b48', '--soft: #858b88'],
    ['old_data', 'if (!reply.ok) throw { status: reply.status };', 'if (!reply.ok) return plan();'],
    ['a_pause', 'if (!paused && document', 'if (document'],
    ['a_pause', 'else ask() },', 'else plan(60000) },'],
    ['a_hidden_tab', "{ clearTimeout(timer); return }\n  showVerdict();", "return;\n  showVerdict();"],
    ['a_hidden_tab', "return }\n  showVerdict();", 'return }'],
    ['a_thousand', 'go(first + PAGE, button)', 'go(first, button)'],
    ['a_thousand', "if (search) query.set('search', search);", ''],
    ['a_thousand', "query.set('search', search)", 'location.hash = search'],
    ['a_thousand', 'data.accounts_total <= UNFOLDED, [', 'true, ['],
    ['a_thousand', "history.replaceState(null, '', address)", ''],
    ['a_thousand', "search = place.get('search') || ''", "search = ''"],
    ['a_thousand', "Math.floor(place.get('page')) - 1", '0'],
    ['an_account_that_went', 'if (!data.accounts.length && first > 0', 'if (false'],
    ['an_update', 'morphChildren(parent, [...', 'parent.replaceChildren(...[...'],
    ['an_update', 'focus.focus({ preventScroll: true })', ''],
    ['an_update', 'if (top || left) e.scrollTo(left, top)', ''],
    ['an_update', 'opened.set(key, event.target.open)', ''],
    ['what_the_network_says', "h('span', null, p.title)", html('p.title')],
    ['what_the_network_says', "/^https:\\/\\//.test(link || '') ? link : null", 'link'],
    ['what_the_network_says', 'Object.hasOwn(words, key) ? words[key] : key', 'words[key] || key'],
    ['a_problem_of_many', 'JSON.stringify([p.kind,', 'JSON.stringify([p.account, p.kind,'],
    ['a_problem_of_many', 'writeText(text)', "writeText('')"],
    ['a_problem_of_many', "rel: 'noreferrer noopener',", ''],
    ['plots_have', 'for (let i = 59; i >= 0; i--)', 'for (let i = 0; i < 60; i++)'],
    ['plots_have', 'count(coded), count(failed)', 'count(failed), count(coded)'],
    ['plots_have', '${T.most(T.rate(rate(top)))}', ''],
    ['plots_have', "document.addEventListener('pointermove', point);", ''],
];

const words = process.argv.slice(2);
const browser = await launch();
let survived = 0;
for (const [check, from, to] of mutants) {
    const name = `${check}: ${from.slice(0, 70).replace(/\n/g, ' ')}`;
    if (words.length && !words.some(word => name.includes(word))) continue;
    let found = false;
    const failures = await run(browser, [check], page => {
        found = page.includes(from);
        return page.replace(from, () => to);
    });
    if (failures.length && found) console.log(`killed   ${name}`);
    else console.log(`${found ? 'SURVIVED' : 'NOT FOUND'} ${name}`, ++survived);
}
await browser.close();
process.exitCode = survived ? 1 : 0;
