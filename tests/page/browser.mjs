// A real Chromium that looks at the page, and notes what it complains of.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url); // It follows NODE_PATH, as import does not.
const { chromium } = require('playwright-core');
const AXE = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

const ARGS = [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
];

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ARGS });

export function assert(holds, what) {
    if (!holds) throw new Error(what);
}

export function equal(is, should, what) {
    const [a, b] = [JSON.stringify(is), JSON.stringify(should)];
    assert(a === b, `${what}: ${a} instead of ${b}`);
}

/** The policy that allows the one style and the one script of `page`, and nothing else. */
export function policyOf(page) {
    const hash = tag => {
        const found = [...page.matchAll(new RegExp(`<${tag}>([^]*?)</${tag}>`, 'g'))];
        assert(found.length === 1, `${found.length} of <${tag}>`);
        return createHash('sha256').update(found[0][1]).digest('base64');
    };
    return `default-src 'none'; connect-src 'self'; img-src data:; style-src 'sha256-${hash('style')}'; ` +
        `script-src 'sha256-${hash('script')}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;
}

/**
 * Opens `url` as a reader with these habits would. `complaints` of what is returned has what the console and the policy
 * said; `requests` what was loaded. With `clock` the page's time stands still until `page.clock` is told otherwise.
 */
export async function open(browser, url, { locale = 'en-US', scheme = 'light', width = 1200, clock = false, before, shown = true } = {}) {
    const context = await browser.newContext({
        locale, colorScheme: scheme, viewport: { width, height: 800 }, reducedMotion: 'reduce', permissions: ['clipboard-read', 'clipboard-write'],
    });
    const page = await context.newPage();
    page.setDefaultTimeout(5000);
    const complaints = [], requests = [];
    page.on('console', message => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
    page.on('pageerror', error => complaints.push(String(error.stack)));
    page.on('dialog', dialog => { complaints.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
    page.on('request', request => requests.push(request.url()));
    if (clock) {
        await page.clock.install();
        await page.clock.pauseAt(Date.now() + 1000);
    }
    if (before) await page.addInitScript(before);
    const reply = await page.goto(url);
    if (shown) await page.waitForSelector('main > section');
    return { page, complaints, requests, reply, close: () => context.close() };
}

/** Unfolds what can be unfolded, up to some. */
export async function unfold(page, most = 30) {
    for (let round = 0; round < 3; round++) {
        await page.evaluate(most => {
            for (const details of [...document.querySelectorAll('details')].slice(0, most)) details.open = true;
        }, most);
        await page.evaluate(() => new Promise(done => requestAnimationFrame(() => setTimeout(done))));
    }
}

/** What axe finds wrong. Its texts are English. */
export async function barriers(page) {
    if (!await page.evaluate(() => 'axe' in window)) await page.evaluate(AXE + ';0');
    const violations = await page.evaluate(
        rules => window.axe.run(document, { runOnly: rules, resultTypes: ['violations'], preload: false })
            .then(result => result.violations.map(v => `${v.id}: ${v.nodes.slice(0, 3).map(n => `${n.target} ${n.failureSummary}`).join(' | ')}`)),
        RULES,
    );
    return violations;
}

/** How much wider than the window the page is. */
export const overflow = page => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

export const verdict = page => page.textContent('#verdict');
