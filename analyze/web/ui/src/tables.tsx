// The tables of memtrace report.
import { h, type ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { Table } from "./types";
import type { Source } from "./source";
import { type View, set } from "./state";
import { useLoad } from "./hooks";
import { bytes, count, time } from "./format";
import { AddrLink, StepLink, Wait } from "./parts";

const times = new Set(["time", "duration", "mean", "p50", "p90", "p99", "longest", "peak_time", "from_time", "to_time", "begin_time", "end_time", "a_p50", "b_p50", "a_p99", "b_p99", "a_time", "b_time", "delta_time"]);
const sizes = new Set([
  "read", "written", "touched", "rewritten", "size", "captured", "mapped", "unmapped", "net", "committed", "live", "live_mapped", "peak", "peak_mapped",
  "inherited", "released", "rss", "anonymous", "file", "shared", "swapped", "virtual", "writable", "committed_as", "anon_pages", "mem_free",
  "swap_free", "cached", "resident", "a_end", "b_end", "a_peak", "b_peak", "delta_peak", "a_bytes", "b_bytes", "a_written", "b_written", "a_live", "b_live", "delta_live",
  "a_read", "b_read",
]);
const steps = new Set(["step", "first", "last", "first_step", "last_step", "peak_step", "longest_step"]);
const addrs = new Set(["start", "addr"]);

// cell shows a value of a table by what its column holds.
function cell(column: string, v: unknown): ComponentChildren {
  if (v === null || v === undefined || v === "") return "";
  if (typeof v === "number") {
    if (times.has(column)) return time(v);
    if (sizes.has(column)) return bytes(v);
    if (steps.has(column)) return <StepLink step={v} />;
    if (column.endsWith("share")) return v.toFixed(1) + " %";
    return column === "pid" || column === "tid" || column === "parent" ? v : count(Number.isInteger(v) ? v : Number(v.toPrecision(4)));
  }
  if (typeof v === "object") return JSON.stringify(v);
  const s = String(v);
  if (addrs.has(column) && /^0x[0-9a-f]+$/.test(s)) return <AddrLink addr={s} />;
  return s.length > 300 ? s.slice(0, 300) + "…" : s;
}

export function Sheet({ table, columns }: { table: Table; columns?: string[] }) {
  const [sort, setSort] = useState<{ by: string; up: boolean } | null>(null);
  const rows = table.rows;
  if (!rows) {
    const items = Object.entries(table).filter(([k, v]) => k !== "report" && v !== null && typeof v !== "object");
    return (
      <table class="sheet items">
        <tbody>
          {items.map(([k, v]) => <tr><th scope="row">{k.replaceAll("_", " ")}</th><td>{cell(k, v)}</td></tr>)}
        </tbody>
      </table>
    );
  }
  if (!rows.length) return <p class="note">Nothing.</p>;
  const cols = (columns ?? Object.keys(rows[0]!)).filter((c) => c in rows[0]! && rows.some((r) => r[c] !== "" && r[c] !== null));
  const shown = sort ? [...rows].sort((p, q) => order(p[sort.by], q[sort.by]) * (sort.up ? 1 : -1)) : rows;
  return (
    <table class="sheet">
      <thead>
        <tr>
          {cols.map((c) => (
            <th scope="col" aria-sort={sort?.by === c ? (sort.up ? "ascending" : "descending") : undefined} class={number(rows, c) ? "n" : ""}>
              <button onClick={() => setSort({ by: c, up: sort?.by === c ? !sort.up : !number(rows, c) })}>{c.replace(/_text$/, "").replaceAll("_", " ")}</button>
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {shown.slice(0, 500).map((r) => (
          <tr>{cols.map((c) => <td class={typeof r[c] === "number" ? "n" : ""}>{cell(c, r[c])}</td>)}</tr>
        ))}
      </tbody>
    </table>
  );
}

const number = (rows: Record<string, unknown>[], c: string) => rows.some((r) => typeof r[c] === "number");

function order(a: unknown, b: unknown): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a ?? "").localeCompare(String(b ?? ""));
}

export function Calls({ source, view }: { source: Source; view: View }) {
  const t = useLoad(
    (signal, progress) => source.table({ log: view.log, pid: 0, at: view.at }, "syscalls", { signal, progress }),
    [view.log, view.seen],
  );
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Calls by name">
      <Wait {...t} />
      {t.value && <Sheet table={t.value} columns={["name", "calls", "errors", "time", "p50", "p99", "longest", "longest_step", "share"]} />}
    </div>
  );
}

const names = [
  "summary", "findings", "syscalls", "slow", "files", "threads", "errors", "growth", "callsites", "maps", "sharing", "signals", "processes",
  "writers", "shm", "system", "leaks", "memory-curve", "what-if", "working-set", "hot", "phases",
];

export function Tables({ source, view, has }: { source: Source; view: View; has: (name: string) => boolean }) {
  const t = useLoad(
    (signal, progress) => source.table({ log: view.log, pid: 0, at: view.at }, view.table, { signal, progress }),
    [view.log, view.seen, view.table],
  );
  return (
    <div class="stack">
      <label class="choose">
        Table{" "}
        <select value={view.table} onChange={(e) => set({ table: e.currentTarget.value })}>
          {names.filter(has).map((n) => <option value={n}>{n}</option>)}
        </select>
        <span class="dim"> as memtrace report {view.table} has it</span>
      </label>
      <div class="scroll" tabIndex={0} role="region" aria-label={"Table " + view.table}>
        <Wait {...t} />
        {t.value ? <Sheet table={t.value} /> : !t.busy && !t.error && <p class="note">This file does not have this table.</p>}
      </div>
    </div>
  );
}
