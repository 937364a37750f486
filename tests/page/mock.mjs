// Serves src/admin/page.html as the admin port does, with the status of a scene that a real sidecar is hard to put in.
//
//   node tests/page/mock.mjs [PORT]        then open http://127.0.0.1:PORT/SCENE/, for each SCENE of scenes.mjs
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';

import { policyOf } from './browser.mjs';
import { PAGE_SIZE, scenes } from './scenes.mjs';

const PAGE = new URL('../../src/admin/page.html', import.meta.url);

/** What status.json has for a query: a part of the scene's accounts. */
export function statusOf(scene, query) {
    const status = scene(query.get('lang') ?? 'en');
    const search = query.get('search') ?? '';
    const found = status.accounts.filter(a => a.appid.includes(search) || (a.name ?? '').includes(search));
    const from = Number(query.get('from') ?? 0);
    return {
        ...status,
        accounts_total: status.accounts.length,
        accounts_with_token: status.accounts.filter(a => a.token).length,
        accounts_with_problems: status.accounts.filter(a => a.problems_open || a.token_error).length,
        accounts_found: found.length,
        accounts_from: from,
        accounts: found.slice(from, from + PAGE_SIZE),
    };
}

/**
 * Listens on `port` (0: any free one). `change(page)` may spoil the page, for a test that must fail. `state.gone` makes
 * every later answer fail: 'silent' never answers, 'closed' hangs up, a number is a status.
 */
export async function serve(port = 0, change = page => page) {
    const page = change(readFileSync(PAGE, 'utf8'));
    const state = { gone: null, asked: [], edit: null };
    const server = createServer((request, reply) => {
        const url = new URL(request.url, 'http://localhost');
        const [, name, file] = url.pathname.split('/');
        const scene = scenes[name];
        if (!scene || !['', 'status.json'].includes(file)) return reply.writeHead(404).end();
        if (file === '') {
            const type = 'text/html; charset=utf-8';
            return reply.writeHead(200, { 'content-type': type, 'content-security-policy': policyOf(page) }).end(page);
        }
        state.asked.push(url.search);
        if (state.gone === 'silent') return;
        if (state.gone === 'closed') return request.socket.destroy();
        if (state.gone) return reply.writeHead(state.gone).end();
        const status = statusOf(scene, url.searchParams);
        state.edit?.(status);
        reply.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(status));
    });
    await new Promise(done => server.listen(port, '127.0.0.1', done));
    const url = `http://127.0.0.1:${server.address().port}`;
    return { url, state, close: () => { server.closeAllConnections(); server.close() } };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
    const { url } = await serve(Number(process.argv[2] ?? 7181));
    for (const name of Object.keys(scenes)) console.log(`${url}/${name}/`);
}
