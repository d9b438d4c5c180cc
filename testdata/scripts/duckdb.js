// DuckDB for the tests, by the npm package @duckdb/node-api. What it does as the duckdb
// command does: [-json|-csv|...] -c SQL, or -cmd SQL and statements from standard input. The
// rows of all statements are printed as JSON, whatever the form, an array for each.
const {DuckDBInstance} = require('@duckdb/node-api');

// plain gives INT64 as numbers where they are exact, and lists and maps as JSON has them.
function plain(v) {
	if (typeof v === 'bigint')
		return Number.isSafeInteger(Number(v)) ? Number(v) : v.toString();
	if (v === null || typeof v !== 'object')
		return v;
	if (Array.isArray(v.entries))
		return Object.fromEntries(v.entries.map(e => [e.key, plain(e.value)]));
	if (Array.isArray(v.items))
		return v.items.map(plain);
	return v.toString();
}

async function main() {
	let sql = '', read = true;
	for (let i = 2; i < process.argv.length; i++) {
		const arg = process.argv[i];
		if (arg === '-c' || arg === '-cmd') {
			sql += process.argv[++i] + '\n';
			read = arg === '-cmd';
		}
	}
	if (read)
		sql += require('fs').readFileSync(0, 'utf8');
	const db = await (await DuckDBInstance.create(':memory:', {threads: '2'})).connect();
	const all = await db.extractStatements(sql);
	for (let i = 0; i < all.count; i++) {
		const result = await (await all.prepare(i)).runAndReadAll();
		const names = result.columnNames(), rows = result.getRows();
		if (rows.length > 0 || names[0] !== 'Count') // that is what CREATE answers
			console.log(JSON.stringify(rows.map(r => Object.fromEntries(r.map((v, k) => [names[k], plain(v)])))));
	}
}

main().catch(e => {
	console.error(e.message);
	process.exit(1);
});
