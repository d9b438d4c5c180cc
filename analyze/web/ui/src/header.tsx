// The header: what the log is, which process is looked at, and the search field.
import { h } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Found, Info, LogInfo, Meaning } from "./types";
import type { Source } from "./source";
import { type View, set } from "./state";
import { base, bytes, count, time } from "./format";
import { goto } from "./go";

interface Props {
  source: Source;
  info: Info;
  log: LogInfo;
  view: View;
  search: Search;
}

export function Header({ source, info, log, view, search }: Props) {
  const procs = log.processes ?? [];
  const first = procs[0];
  const threads = procs.reduce((a, p) => a + p.threads, 0);
  const facts = [
    procs.length > 1 ? count(procs.length) + " processes" : first ? "pid " + first.pid : "",
    count(threads) + (threads === 1 ? " thread" : " threads"),
    count(log.steps) + " events",
    time(log.duration),
    started(log.started),
    log.whole ? "log whole, " + bytes(log.bytes) : "",
  ].filter(Boolean);
  return (
    <header>
      <h1>memtrace</h1>
      {info.logs.length > 1 ? (
        <div class="logs" role="group" aria-label="Log">
          {info.logs.map((l, i) => (
            <button class={"btn" + (i === view.log ? " on" : "")} aria-pressed={i === view.log} onClick={() => set({ log: i })}>
              {i === 0 ? "A " : "B "}{l.file}
            </button>
          ))}
        </div>
      ) : (
        <code class="program" title={log.program}>{log.program || log.file}</code>
      )}
      <span class="facts dim">
        {facts.join(" · ")}
        {log.growing ? <b class="live"> · still being written</b> : !log.whole && <b class="bad"> · the end of the log is missing</b>}
      </span>
      <span class="space" />
      {procs.length > 1 && (
        <select
          class="proc" aria-label="Process whose memory is shown" value={String(view.pid)}
          onChange={(e) => set({ pid: Number(e.currentTarget.value) })}
        >
          {!procs.some((p) => p.pid === view.pid) && <option value={String(view.pid)}>process…</option>}
          {procs.slice(0, 2000).map((p) => <option value={String(p.pid)}>{p.pid} {base(p.name.replace(/^process \d+$/, ""))}{p.bad ? " (" + p.status + ")" : ""}</option>)}
        </select>
      )}
      <SearchField source={source} view={view} search={search} />
      <button class="btn" onClick={() => set({ middle: "diff" })}>A…B diff</button>
      <button class="btn" aria-label="Keys" onClick={() => set({ help: !view.help })}>?</button>
    </header>
  );
}

function started(s: string): string {
  const d = new Date(s);
  if (isNaN(d.getTime())) return "";
  const f = (o: Intl.DateTimeFormatOptions) => d.toLocaleString("en-GB", { timeZone: "UTC", ...o });
  return "recorded " + f({ day: "numeric", month: "short", year: "numeric" }) + " " + f({ hour: "2-digit", minute: "2-digit" }) + " UTC";
}

// Search is a search for bytes: what was found, and where in it one is.
export interface Search {
  bytes: string;
  hits: Found[];
  at: number;
  busy: boolean;
  progress: number;
  error: string;
  start: (bytes: string) => void;
  choose: (i: number) => void;
  stop: () => void;
}

export function useSearch(source: Source, view: View): Search {
  const [s, setS] = useState({ bytes: "", hits: [] as Found[], at: -1, busy: false, progress: -1, error: "" });
  const stopper = useRef<AbortController | null>(null);
  const stop = () => {
    stopper.current?.abort();
    setS({ bytes: "", hits: [], at: -1, busy: false, progress: -1, error: "" });
  };
  const choose = (i: number, hits = s.hits) => {
    const f = hits[i];
    if (!f) return;
    setS((q) => ({ ...q, at: i }));
    goto(f.from, undefined, { addr: f.addr, right: "memory", pid: f.pid || view.pid, type: "u8" });
  };
  const start = (bytes: string) => {
    stopper.current?.abort();
    const c = (stopper.current = new AbortController());
    const hits: Found[] = [];
    setS({ bytes, hits, at: -1, busy: true, progress: -1, error: "" });
    const watch = {
      signal: c.signal,
      progress: (progress: number) => c.signal.aborted || setS((q) => ({ ...q, progress })),
      item: (f: Found) => {
        if (hits.length >= 1000) return;
        hits.push(f);
        if (!c.signal.aborted) setS((q) => ({ ...q, hits: [...hits] }));
      },
    };
    source.find({ log: view.log, pid: view.pid, at: view.at }, bytes, watch).then(
      (can) => {
        if (!c.signal.aborted) setS((q) => ({ ...q, busy: false, error: can ? "" : "Memory is in the log, not in this file: memtrace view." }));
      },
      (e: Error) => c.signal.aborted || setS((q) => ({ ...q, busy: false, error: e.message })),
    );
  };
  return { ...s, start, choose, stop };
}

function SearchField({ source, view, search }: { source: Source; view: View; search: Search }) {
  const [text, setText] = useState("");
  const [all, setAll] = useState<Meaning[]>([]);
  const [of, setOf] = useState(""); // what these are meanings of
  const [open, setOpen] = useState(false);
  const [on, setOn] = useState(0);
  const [none, setNone] = useState("");
  const wait = useRef(0);
  useEffect(() => {
    clearTimeout(wait.current);
    setNone("");
    if (!text.trim()) return setAll([]);
    const stop = new AbortController();
    wait.current = setTimeout(() => {
      source.resolve({ log: view.log, pid: view.pid, at: view.at }, text, stop.signal).then(
        (m) => {
          setAll(m);
          setOf(text);
          setOn(0);
        },
        (e: Error) => stop.signal.aborted || (setAll([]), setNone(e.message)),
      );
    }, 120) as unknown as number;
    return () => stop.abort();
  }, [text]);
  const take = (m: Meaning) => {
    setOpen(false);
    (document.activeElement as HTMLElement | null)?.blur();
    if (m.what === "step" || m.what === "time") goto(m.step!);
    else if (m.what === "addr") set({ addr: m.addr!, right: "memory" });
    else if (m.what === "find") search.start(m.bytes!);
    else if (m.what === "filter") set({ filter: m.filter!, left: "events" });
  };
  const submit = async () => {
    // One may be faster than the list.
    const m = (of === text ? all[on] : undefined) ?? (await source.resolve({ log: view.log, pid: view.pid, at: view.at }, text, new AbortController().signal).catch(() => []))[0];
    if (m) take(m);
    else setNone("This means nothing here.");
  };
  const key = (e: KeyboardEvent) => {
    if (e.key === "ArrowDown" || e.key === "ArrowUp") {
      e.preventDefault();
      setOn((on + (e.key === "ArrowDown" ? 1 : -1) + all.length) % (all.length || 1));
    } else if (e.key === "Enter") {
      e.preventDefault();
      void submit();
    } else if (e.key === "Escape") {
      setOpen(false);
      (e.currentTarget as HTMLElement).blur();
    }
  };
  return (
    <div class="search" role="search">
      <input
        id="search" type="text" value={text} placeholder="Step, time, address, &quot;text&quot;, 0xBYTES, path, call   /" aria-label="Go to or find"
        role="combobox" aria-expanded={open && all.length > 0} aria-controls="meanings" aria-autocomplete="list"
        aria-activedescendant={open && all.length ? "meaning" + on : undefined} spellcheck={false} autocomplete="off" maxLength={500}
        onInput={(e) => {
          setText(e.currentTarget.value);
          setOpen(true);
        }}
        onFocus={() => setOpen(true)}
        onBlur={() => setTimeout(() => setOpen(false), 150)}
        onKeyDown={key}
      />
      {open && (all.length > 0 || none) && (
        <div class="meanings" id="meanings" role="listbox" aria-label="What it can mean">
          {all.map((m, i) => (
            <div
              id={"meaning" + i} role="option" aria-selected={i === on} class={i === on ? "on" : ""}
              onPointerDown={(e) => {
                e.preventDefault();
                take(m);
              }}
            >
              {m.label}
            </div>
          ))}
          {none && <div class="dim">{none}</div>}
        </div>
      )}
    </div>
  );
}

// Hits is the bar of a search for bytes.
export function Hits({ search }: { search: Search }) {
  if (!search.bytes) return null;
  const f = search.hits[search.at];
  return (
    <div class="hits" role="region" aria-label="Search">
      <span role="status">
        {search.error ? (
          <span class="bad">{search.error}</span>
        ) : (
          <span>
            <b>{search.bytes.slice(0, 60)}</b>{" "}
            {search.hits.length ? count(search.hits.length) + (search.hits.length === 1 ? " place" : " places") : search.busy ? "" : "is nowhere in the memory of this log"}
            {search.busy && " searching" + (search.progress >= 0 ? " " + Math.round(search.progress * 100) + " %" : "…")}
          </span>
        )}
      </span>
      {f && (
        <span class="dim cut">
          {search.at + 1}: <code>{f.addr}</code>{f.path && " in " + f.path}, steps {count(f.from)} to {f.to_end ? "the end" : count(f.to)}
          {f.count > 1 && ", " + count(f.count) + " times"}
        </span>
      )}
      <span class="space" />
      <button class="btn" disabled={!search.hits.length} onClick={() => search.choose((search.at - 1 + search.hits.length) % search.hits.length)}>previous</button>
      <button class="btn" disabled={!search.hits.length} onClick={() => search.choose((search.at + 1) % search.hits.length)}>next</button>
      <button class="btn" aria-label="Close the search" onClick={search.stop}>✕</button>
    </div>
  );
}
