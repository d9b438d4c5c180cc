// Bytes at the selected step, each in the look of what is known of it, and the history of
// those that are selected.
import { h } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Era, LogInfo, Maps, Mapping, Mem } from "./types";
import type { Source } from "./source";
import { type Type, type View, current, set } from "./state";
import { useLatest, useLoad, useSize } from "./hooks";
import { count, hex, time } from "./format";
import { goto } from "./go";
import { AddrLink, StepLink, Wait } from "./parts";
import { nameOf } from "./space";

const widths: Record<Type, number> = { u8: 1, u16: 2, u32: 4, u64: 8, pointer: 8, text: 32 };

export const lengthOf = (v: View) => (v.type === "text" ? v.len : widths[v.type]);

interface Byte {
  value: number; // -1: not known
  look: "exact" | "old" | "call" | "unknown" | "none";
  piece: number;
}

// bytesOf lays the pieces of an answer over the addresses from base on.
function bytesOf(mem: Mem | null | undefined, base: bigint, n: number): Byte[] {
  const out: Byte[] = Array.from({ length: n }, () => ({ value: -1, look: "none", piece: -1 }));
  (mem?.pieces ?? []).forEach((p, k) => {
    const start = BigInt(p.start);
    const len = Number(BigInt(p.end) - start);
    for (let i = 0; i < len; i++) {
      const at = Number(start - base) + i;
      if (at < 0 || at >= n) continue;
      const v = p.bytes === null ? -1 : parseInt(p.bytes.slice(i * 2, i * 2 + 2), 16);
      out[at] = { value: v, look: v < 0 ? "unknown" : p.call ? "call" : p.exact ? "exact" : "old", piece: k };
    }
  });
  return out;
}

export function value(raw: string, type: Type): string {
  const b = raw.replaceAll(" ", "").match(/../g) ?? [];
  if (!b.length) return "";
  if (b.some((x) => x === "??")) return raw;
  if (type === "text") {
    return b.map((x) => { const c = parseInt(x, 16); return c >= 32 && c < 127 ? String.fromCharCode(c) : "·"; }).join("");
  }
  const n = BigInt("0x" + [...b].reverse().join(""));
  return type === "pointer" || type === "u64" ? hex(n) : n.toString() + " (" + hex(n) + ")";
}

function target(maps: Maps | null | undefined, a: bigint): Mapping | undefined {
  return maps?.mappings?.find((m) => a >= BigInt(m.start) && a < BigInt(m.end));
}

interface Props {
  source: Source;
  log: LogInfo;
  view: View;
  maps: Maps | null | undefined;
  eras: { value: Era[] | null | undefined; busy: boolean; progress: number; error: string };
}

export function Memory({ source, view, maps, eras }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const size = useSize(box);
  const per = size.w === 0 || size.w >= 500 ? 16 : 8;
  const lines = Math.max(4, Math.min(64, Math.floor((size.h - 10) / 17) || 8));
  const n = per * lines;
  const sel = /^0x[0-9a-f]{1,16}$/.test(view.addr) ? BigInt(view.addr) : null;
  const len = lengthOf(view);
  const [base, setBase] = useState<bigint | null>(null);
  // The window follows the selected address only if that lies outside of it.
  useEffect(() => {
    if (sel === null) return;
    if (base !== null && sel >= base && sel + BigInt(len) <= base + BigInt(n)) return;
    const row = BigInt(per) * BigInt(Math.min(3, Math.floor(lines / 3)));
    const b = (sel & ~BigInt(per - 1)) - row;
    setBase(b < 0n ? 0n : b);
  }, [view.addr, per, lines]);
  const place = { log: view.log, pid: view.pid, at: view.at };
  const got = useLoad(
    base === null ? null : (s) => source.mem(place, hex(base), n, s),
    [base, n, view.log, view.pid, view.at],
    20,
  );
  const b = useMemo(() => bytesOf(got.value, base ?? 0n, n), [got.value, base, n]);
  const scroll = useLatest((d: number) => {
    if (base === null) return;
    const to = base + BigInt(d * per);
    setBase(to < 0n ? 0n : to);
  });
  const wheel = useLatest((e: WheelEvent) => {
    if (e.ctrlKey || base === null) return;
    e.preventDefault();
    scroll(Math.sign(e.deltaY) * 3);
  });
  useEffect(() => {
    const el = box.current!;
    el.addEventListener("wheel", wheel, { passive: false });
    return () => el.removeEventListener("wheel", wheel);
  }, []);
  const off = sel === null || base === null ? -1 : Number(sel - base);
  const chosen = off >= 0 && off + len <= n ? b.slice(off, off + len) : [];
  const piece = chosen.length && chosen[0]!.piece >= 0 ? got.value?.pieces?.[chosen[0]!.piece] : undefined;
  const raw = chosen.map((x) => (x.value < 0 ? "??" : x.value.toString(16).padStart(2, "0"))).join("");
  const known = chosen.length > 0 && chosen.every((x) => x.value >= 0);
  const points = known && len === 8 ? target(maps, BigInt("0x" + (raw.match(/../g) ?? []).reverse().join(""))) : undefined;
  const where = sel === null ? undefined : target(maps, sel);
  const key = (e: KeyboardEvent) => {
    const d = { ArrowUp: -1, ArrowDown: 1, PageUp: -lines + 1, PageDown: lines - 1 }[e.key];
    if (d === undefined || base === null) return;
    e.preventDefault();
    e.stopPropagation();
    if (sel !== null && Math.abs(d) === 1) set({ addr: hex(sel + BigInt(d * per) < 0n ? 0n : sel + BigInt(d * per)) });
    else scroll(d);
  };
  return (
    <div class="stack memory">
      <Address source={source} view={view} where={where} />
      <div class="hex m" ref={box} tabIndex={0} role="group" aria-label="Bytes" onKeyDown={key}>
        {base === null ? (
          <p class="note">Choose a mapping, or type an address, the name of a variable, of a mapping or of a register.</p>
        ) : got.value === null ? (
          <p class="note">This file does not have this memory. It is in the log; see <code>memtrace view</code>, or <code>report --html-memory</code>.</p>
        ) : (
          Array.from({ length: lines }, (_, r) => <HexRow key={r} at={base + BigInt(r * per)} bytes={b.slice(r * per, r * per + per)} off={off - r * per} len={len} />)
        )}
        {got.error && <p class="note bad">{got.error}</p>}
      </div>
      {sel !== null && (
        <div class="value">
          <span class={"look " + (chosen[0]?.look ?? "unknown")}>{known ? value(raw, view.type) : chosen.length ? "not known whole" : ""}</span>
          {points && known && (
            <span class="dim">
              → <AddrLink addr={"0x" + BigInt("0x" + raw.match(/../g)!.reverse().join("")).toString(16)}>{nameOf(points)}</AddrLink>
            </span>
          )}
          <span class="dim end">
            {piece === undefined ? "" : piece.bytes === null ? piece.unknown : piece.exact ? "exact at step " + count(view.at) : <span>{piece.call ? "written by the call of step " : "as of step "}<StepLink step={piece.as_of} /></span>}
          </span>
        </div>
      )}
      <History view={view} eras={eras} />
      <div class="legend" aria-hidden="true">
        <span><b class="look exact">ab</b>exact</span>
        <span><b class="look old">ab</b>as of an earlier step</span>
        <span><b class="look call">ab</b>written by a call</span>
        <span><b class="look unknown">??</b>unknown</span>
      </div>
    </div>
  );
}

function HexRow({ at, bytes, off, len }: { at: bigint; bytes: Byte[]; off: number; len: number }) {
  const cell = (x: Byte, i: number) => {
    const on = i >= off && i < off + len;
    if (x.look === "none") return <span key={i} class={"by none" + (i % 8 === 7 ? " eighth" : "")}>{"  "}</span>;
    return (
      <button
        key={i} tabIndex={-1} class={"by " + x.look + (on ? " on" : "") + (i % 8 === 7 ? " eighth" : "")}
        onClick={() => {
          const w = BigInt(current().type === "text" ? 1 : widths[current().type]);
          const a = at + BigInt(i);
          set({ addr: hex(a - (a % w)) });
        }}
      >
        {x.value < 0 ? "??" : x.value.toString(16).padStart(2, "0")}
      </button>
    );
  };
  return (
    <div class="hexrow">
      <span class="at">{at.toString(16).padStart(12, " ")}</span>
      <span class="cells">{bytes.map(cell)}</span>
      <span class="chars" aria-hidden="true">
        {bytes.map((x) => (x.value >= 32 && x.value < 127 ? String.fromCharCode(x.value) : x.value < 0 ? " " : "·")).join("")}
      </span>
    </div>
  );
}

// Address is where one types what to look at. The server knows names; an address needs none.
function Address({ source, view, where }: { source: Source; view: View; where: Mapping | undefined }) {
  const [text, setText] = useState(view.addr);
  const [error, setError] = useState("");
  useEffect(() => {
    setText(view.addr);
    setError("");
  }, [view.addr]);
  const submit = async (e: Event) => {
    e.preventDefault();
    const t = text.trim();
    if (/^(0x)?[0-9a-f]{5,16}$/i.test(t)) return set({ addr: hex(BigInt("0x" + t.replace(/^0x/i, ""))) });
    if (!t) return;
    try {
      const m = await source.mem({ log: view.log, pid: view.pid, at: view.at }, t, 8, new AbortController().signal);
      if (m) set({ addr: m.addr });
      else setError("This file knows addresses only: 0x…");
    } catch (x) {
      setError((x as Error).message);
    }
  };
  return (
    <form class="address" onSubmit={submit}>
      <input
        id="addr" class="m" value={text} onInput={(e) => setText(e.currentTarget.value)} aria-label="Address or name" placeholder="0x… , variable, [heap], rsp"
        spellcheck={false} autocomplete="off" maxLength={300}
        onKeyDown={(e) => {
          if (e.key === "Escape") e.currentTarget.blur();
        }}
      />
      <select value={view.type} aria-label="Read as" onChange={(e) => set({ type: e.currentTarget.value as Type })}>
        {(Object.keys(widths) as Type[]).map((t) => <option value={t}>{t}</option>)}
      </select>
      <span class="dim cut" title={where?.name}>{error ? <span class="bad" role="alert">{error}</span> : where ? "in " + nameOf(where) : ""}</span>
    </form>
  );
}

function History({ view, eras }: { view: View; eras: Props["eras"] }) {
  const all = eras.value ?? [];
  const now = all.findIndex((e) => view.at >= e.from && (view.at <= e.to || e.to_end));
  const list = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const el = list.current?.querySelector<HTMLElement>(".now");
    const box = list.current;
    if (!el || !box) return;
    if (el.offsetTop < box.scrollTop || el.offsetTop + el.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = el.offsetTop - box.clientHeight / 2;
  }, [now, all.length]);
  if (!view.addr) return null;
  return (
    <div class="history">
      <h3>
        <span>History of <code>{view.addr}:{lengthOf(view)}</code></span>
        <span class="dim end">
          <button class="kbd" onClick={() => change(all, view, -1)} aria-label="Previous change">[</button>{" "}
          <button class="kbd" onClick={() => change(all, view, 1)} aria-label="Next change">]</button> changes
        </span>
      </h3>
      <Wait {...eras} />
      {eras.value === null && <p class="note">Histories are in the log, not in this file: <code>memtrace view</code>.</p>}
      <div class="eras m" ref={list} tabIndex={0} role="group" aria-label="Values over time">
        {[...all].reverse().slice(0, 400).map((e) => (
          <button class={"era" + (e === all[now] ? " now" : "")} onClick={() => goto(e.from, e.from_time)}>
            <span>{count(e.from)}</span>
            <span class="cut">{e.unknown ? e.unknown : value(e.bytes, view.type)}</span>
            <span class="dim cut" title={time(e.from_time) + " to " + time(e.to_time)}>{how(e)}</span>
          </button>
        ))}
      </div>
    </div>
  );
}

// how says when a value came, as exactly as the log knows.
function how(e: Era): string {
  if (e.unknown) return "to step " + count(e.to);
  if (e.call) return "written by " + e.call;
  if (e.exact) return "at this step";
  if (e.since && e.since < e.from) return "after " + count(e.since) + ", seen at " + count(e.from);
  return "seen at " + count(e.from) + ", or before";
}

// change goes to where the selected bytes changed last, or change next.
export function change(eras: Era[], v: View, d: -1 | 1) {
  const sorted = eras.map((e) => e.from);
  const to = d < 0 ? sorted.filter((s) => s < v.at).at(-1) : sorted.find((s) => s > v.at);
  const e = eras.find((q) => q.from === to);
  if (e) goto(e.from, e.from_time);
}
