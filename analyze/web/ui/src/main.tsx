// The page: loads what the log is, keeps the view and the address in step, hands data to
// the panels, and knows the keys.
import { Fragment, h, render } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Era, Finding, Info, LogInfo } from "./types";
import { Refused, type Source, open } from "./source";
import { current, fragment, parse, set, start, useView } from "./state";
import { useLatest, useLoad } from "./hooks";
import { bytes as bytesOf, count } from "./format";
import { forget, goto, timeOf } from "./go";
import { Header, Hits, useSearch } from "./header";
import { Findings, copyText, jump } from "./findings";
import { Spine, pan, zoom } from "./spine";
import { Events } from "./events";
import { Calls, Tables } from "./tables";
import { Space } from "./space";
import { Flame } from "./flame";
import { Difference } from "./diff";
import { Pages } from "./charts";
import { Memory, change, lengthOf } from "./memory";
import { Threads } from "./threads";
import { Help } from "./help";
import { Tabs } from "./parts";

function App({ source }: { source: Source }) {
  const [info, setInfo] = useState<Info | null>(null);
  const [error, setError] = useState<Error | null>(null);
  // Until all of the log is read, and while it is still being written, ask again now and then.
  useEffect(() => {
    let timer = 0;
    let gone = false;
    const ask = () =>
      source.info().then(
        (i) => {
          if (gone) return;
          setInfo((before) => (before && JSON.stringify(before) === JSON.stringify(i) ? before : i));
          if (i.logs.some((l) => l.ready < 1 && !l.failed)) timer = setTimeout(ask, 400) as unknown as number;
          else if (i.logs.some((l) => l.growing)) timer = setTimeout(ask, 2000) as unknown as number;
        },
        (e: Error) => gone || setError(e),
      );
    void ask();
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, []);
  if (error) return <Failed error={error} />;
  if (!info) return <p class="note wait" role="status">Opening the log…</p>;
  return <Page source={source} info={info} />;
}

function Failed({ error }: { error: Error }) {
  return (
    <div class="failed" role="alert">
      <h1>memtrace</h1>
      {error instanceof Refused ? (
        <p>This page needs the whole address that <code>memtrace view</code> printed, with what stands behind <code>#token=</code>.</p>
      ) : (
        <p>No answer: {error.message}. Does <code>memtrace view</code> still run?</p>
      )}
    </div>
  );
}

// begin is the first view of a log: what the address says, else where the trouble is.
function begin(source: Source, info: Info) {
  const said = parse(location.hash, info.logs[0]!.steps, info.logs[0]!.duration);
  const log = info.logs[said.log ?? 0] ?? info.logs[0]!;
  const fatal = log.processes?.find((p) => p.fatal !== null && p.fatal !== undefined);
  const at = said.at ?? info.at ?? fatal?.fatal ?? Math.max(0, log.steps - 1);
  const pid = said.pid ?? (info.pid || (said.at === undefined && fatal?.pid) || log.processes?.[0]?.pid || 0);
  // A file without memory begins with what it has.
  const right = source.live || source.moments.some((m) => m.mem?.length) ? start.right : "threads";
  set({ ...start, right, from: 0, to: log.duration || 1, ...said, at, pid, seen: log.steps });
  return said.at !== undefined || info.at !== null || (log.growing ?? false);
}

function Page({ source, info }: { source: Source; info: Info }) {
  const told = useMemo(() => begin(source, info), []);
  const view = useView();
  const log = info.logs[view.log] ?? info.logs[0]!;
  const other = info.logs.length > 1 ? info.logs[1 - view.log] : undefined;
  const [spoken, say] = useState("");
  const [note, setNote] = useState("");
  const search = useSearch(source, view);
  const [finding, setFinding] = useState(-1);

  const lastLog = useRef(view.log);
  useEffect(() => {
    if (lastLog.current === view.log) return;
    lastLog.current = view.log;
    forget();
    set({ seen: log.steps, from: 0, to: log.duration || 1, at: Math.min(view.at, log.steps - 1), pid: log.processes?.[0]?.pid ?? 0, a: null, b: null, addr: "" });
  }, [view.log]);

  // What comes while a log is being written lengthens the axis. Who looks at the end goes along.
  const had = useRef({ log: view.log, steps: log.steps, duration: log.duration });
  useEffect(() => {
    const was = had.current;
    had.current = { log: view.log, steps: log.steps, duration: log.duration };
    if (was.log !== view.log || was.steps === log.steps) return;
    const v = current();
    const change: Parameters<typeof set>[0] = { seen: log.steps };
    if (v.to >= was.duration) {
      change.to = log.duration;
      if (v.from > 0) change.from = v.from + log.duration - v.to;
    }
    if (log.growing && v.at === was.steps - 1) Object.assign(change, { at: log.steps - 1, t: log.duration });
    set(change);
  }, [view.log, log.steps, log.duration]);

  const findings = useLoad<Finding[]>(
    (signal, progress, part) => {
      const all: Finding[] = [];
      return source.findings(view.log, { signal, progress, item: (f) => log.growing || part(worstFirst(all, f)) }).then((f) => f.rows ?? []);
    },
    [view.log, view.seen],
  );
  // Where nobody said where to begin, begin at the worst.
  const begun = useRef(told);
  useEffect(() => {
    if (begun.current || !findings.value || findings.busy) return;
    begun.current = true;
    const f = findings.value.find((q) => q.step !== null);
    const p = log.processes?.find((q) => q.pid === view.pid) ?? log.processes?.[0];
    // Nothing is wrong: when there was most to see.
    if (f) jump(f);
    else if (p && log.ready === 1) goto(p.peak_step);
    const past = findings.value.flatMap((q) => q.actions ?? []).find((a) => a.do === "history");
    if (past && !current().addr) set({ addr: past.addr!, type: past.len === 8 ? "pointer" : "u8" });
  }, [findings.value, findings.busy]);

  const maps = useLoad((s) => source.maps({ log: view.log, pid: view.pid, at: view.at }, s), [view.log, view.pid, view.at], 30);
  // Something to look at: the heap, else the first memory that was written.
  useEffect(() => {
    if (current().addr || !maps.value || maps.busy || !findings.value || findings.busy) return;
    const all = maps.value.mappings ?? [];
    const m = all.find((q) => q.kind === "heap") ?? all.find((q) => q.written > 0) ?? all[0];
    if (m) set({ addr: m.start });
  }, [maps.value, findings.value, findings.busy]);

  const known = /^0x[0-9a-f]{1,16}$/.test(view.addr);
  const eras = useLoad<Era[] | null>(
    known && view.right === "memory"
      ? async (signal, progress, part) => {
          const all: Era[] = [];
          const can = await source.history({ log: view.log, pid: view.pid, at: current().at }, view.addr, lengthOf(view), {
            signal, progress,
            item: (e) => {
              all.push(e);
              if (all.length % 64 === 0) part([...all]);
            },
          });
          return can ? all : null;
        }
      : null,
    [view.log, view.seen, view.pid, view.addr, lengthOf(view), view.right],
    150,
  );

  // The address follows the view, a moment later; and the view the address, where one types.
  const mine = useRef("");
  useEffect(() => {
    const timer = setTimeout(() => {
      mine.current = fragment(view, log.duration);
      if (location.hash.slice(1) !== mine.current) history.replaceState(null, "", "#" + mine.current);
    }, 250);
    return () => clearTimeout(timer);
  }, [view, log.duration]);
  useEffect(() => {
    const typed = () => {
      if (location.hash.slice(1) === mine.current) return;
      const said = parse(location.hash, log.steps, log.duration);
      set({ ...said, ...(said.at !== undefined ? { t: timeOf(said.at) } : {}) });
    };
    addEventListener("hashchange", typed);
    return () => removeEventListener("hashchange", typed);
  }, [log]);

  useEffect(() => {
    document.title = (log.program || log.file).slice(0, 80) + " · memtrace";
  }, [log]);

  const onKey = useLatest((e: KeyboardEvent) => {
    if (e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey) return;
    const el = e.target as HTMLElement;
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(el.tagName) || el.closest("dialog")) return;
    const last = Math.max(0, log.steps - 1);
    const to = (s: number) => goto(Math.min(last, Math.max(0, s)));
    const focus = (id: string) => document.getElementById(id)?.focus();
    const hundredth = (d: number) => {
      const t = Math.min(log.duration, Math.max(0, view.t + (d * (view.to - view.from)) / 100));
      const s = stepNear(t, view.at, d);
      goto(Math.min(last, Math.max(0, s)));
    };
    const rows = (findings.value ?? []).filter((f) => f.kind !== "none");
    const next = (d: number) => {
      if (search.hits.length) return search.choose((search.at + d + search.hits.length) % search.hits.length);
      if (!rows.length) return;
      const i = (finding + d + rows.length) % rows.length;
      setFinding(i);
      jump(rows[i]!);
    };
    const acts: Record<string, () => void> = {
      ArrowLeft: () => (e.shiftKey ? hundredth(-1) : to(view.at - 1)),
      ArrowRight: () => (e.shiftKey ? hundredth(1) : to(view.at + 1)),
      Home: () => to(0),
      End: () => to(last),
      w: () => zoom(view, log, 0.6),
      s: () => zoom(view, log, 1 / 0.6),
      h: () => pan(view, log, -0.2),
      l: () => pan(view, log, 0.2),
      "0": () => set({ from: 0, to: log.duration || 1 }),
      a: () => set({ a: view.at }),
      b: () => set({ b: view.at }),
      d: () => set({ middle: "diff" }),
      "[": () => change(eras.value ?? [], view, -1),
      "]": () => change(eras.value ?? [], view, 1),
      n: () => next(1),
      N: () => next(-1),
      "/": () => focus("search"),
      g: () => focus("search"),
      e: () => {
        set({ left: "events" });
        requestAnimationFrame(() => focus("filter"));
      },
      x: () => {
        set({ right: "memory" });
        requestAnimationFrame(() => focus("addr"));
      },
      m: () => set({ by: view.by === "kind" ? "mapped" : "kind" }),
      f: () => set({ folded: view.folded.length ? [] : (log.processes ?? []).map((p) => p.no) }),
      t: () => set({ twin: !view.twin }),
      "1": () => set({ left: "events" }),
      "2": () => set({ middle: "space" }),
      "3": () => set({ middle: "sites" }),
      "4": () => set({ right: "memory" }),
      "5": () => set({ right: "threads" }),
      ".": () => {
        const url = location.href.split("#")[0] + "#" + fragment(view, log.duration);
        void copyText(url).then((ok) => {
          setNote(ok ? "Link copied." : url);
          setTimeout(() => setNote(""), 4000);
        });
      },
      "?": () => set({ help: !view.help }),
    };
    const act = acts[e.key];
    if (!act) return;
    if ((e.key === "Home" || e.key === "End") && el.closest(".scroll")) return;
    e.preventDefault();
    act();
  });
  useEffect(() => {
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);

  // What many threads do is shown by process at first.
  const folded = useRef(false);
  useEffect(() => {
    if (folded.current || log.ready < 1) return;
    folded.current = true;
    const procs = log.processes ?? [];
    if (procs.length > 1 && procs.reduce((a, p) => a + p.threads, 0) > 8) set({ folded: procs.map((p) => p.no) });
  }, [log]);

  const m = maps.value;
  const nearest = !source.live && m && m.at !== view.at;
  const middle: [typeof view.middle, string][] = [["space", "Address space"], ["sites", "Call sites"], ["diff", "Diff A…B"]];
  if (log.features.refs) middle.push(["pages", "Pages"]);
  return (
    <Fragment>
      <a class="skip" href="#spine" onClick={(e) => { e.preventDefault(); document.querySelector<HTMLElement>("#spine canvas[tabindex]")?.focus(); }}>to the time axis</a>
      <Header source={source} info={info} log={log} view={view} search={search} />
      <main>
        <Hits search={search} />
        {source.limits.length > 0 && (
          <details class="limits"><summary>{source.held < log.steps ? "This file has " + count(source.held) + " of " + count(log.steps) + " events, and not all of the log" : "What this file does not have"}</summary>{source.limits.map((s) => <p>{s}</p>)}</details>
        )}
        <Findings got={findings} log={log} view={view} now={finding} find={search.start} choose={(i) => { setFinding(i); jump(findings.value!.filter((f) => f.kind !== "none")[i]!); }} />
        <Spine source={source} log={log} other={other} view={view} />
        <section class="low" aria-label={"Step " + view.at}>
          <div class="pan">
            <div class="bar-top">
              <Tabs label="Events" now={view.left} choose={(left) => set({ left })} tabs={[["events", "Events"], ["calls", "Calls by name"], ["tables", "Tables"]]} />
              <span class="dim end">{view.left === "events" && !view.filter ? <span>all {count(log.steps)} · <kbd>e</kbd> filter</span> : ""}</span>
            </div>
            {view.left === "events" && <Events source={source} log={log} view={view} say={say} />}
            {view.left === "calls" && <Calls source={source} view={view} />}
            {view.left === "tables" && <Tables source={source} view={view} has={(n) => log.features.refs || !/^(memory-curve|what-if|working-set|hot|phases)$/.test(n)} />}
          </div>
          <div class="pan">
            <div class="bar-top">
              <Tabs label="Memory of the process" now={view.middle} choose={(to) => set({ middle: to })} tabs={middle} />
              <span class="dim end">{view.middle === "space" && m ? summary(m) : ""}</span>
            </div>
            {nearest && view.middle === "space" && <p class="note">As of step <button class="link" onClick={() => goto(m.at)}>{count(m.at)}</button>, the nearest in this file.</p>}
            {view.middle === "space" && <Space maps={maps} log={log} view={view} />}
            {view.middle === "sites" && <Flame source={source} log={log} view={view} logs={info.logs} />}
            {view.middle === "diff" && <Difference source={source} log={log} view={view} two={info.logs.length > 1} />}
            {view.middle === "pages" && <Pages source={source} view={view} />}
          </div>
          <div class="pan">
            <div class="bar-top">
              <Tabs label="Bytes and threads" now={view.right} choose={(right) => set({ right })} tabs={[["memory", "Memory"], ["threads", "Threads, registers"]]} />
              <span class="dim end">step {count(view.at)}</span>
            </div>
            {view.right === "memory" ? <Memory source={source} log={log} view={view} maps={m} eras={eras} /> : <Threads source={source} view={view} />}
          </div>
        </section>
      </main>
      <Foot log={log} />
      {note && <div class="toast" role="status">{note}</div>}
      <div class="away" aria-live="polite">{spoken}</div>
      {view.help && <Help />}
    </Fragment>
  );
}

// worstFirst adds a finding that has just come. Those of the gravest kind stand first; which
// is the very first is known when all are there.
function worstFirst(all: Finding[], f: Finding): Finding[] {
  all.push(f);
  const grave = (q: Finding) => (q.severity === "bad" ? 0 : 1);
  return [...all].sort((p, q) => grave(p) - grave(q));
}

// stepNear is a step about as far as a time, and in any case one further in a direction.
function stepNear(t: number, at: number, d: number): number {
  let s = at + d;
  const past = (q: number) => (d > 0 ? timeOf(q) < t : timeOf(q) > t);
  for (let by = 1; past(s + d * by) && by < 2 ** 40; by *= 2) s += d * by;
  return s;
}

function summary(m: { total: { written: number; bytes: number } }): string {
  return bytesOf(m.total.written) + " of " + bytesOf(m.total.bytes) + " written";
}

function Foot({ log }: { log: LogInfo }) {
  const k = (keys: string, what: string) => <span>{keys.split(" ").map((q) => <kbd>{q}</kbd>)} {what}</span>;
  return (
    <footer>
      {k("← →", "step")}
      {k("⇧←", "hundredth")}
      {k("a b", "marks,")}
      {k("d", "diff")}
      {k("w s", "zoom")}
      {k("/", "find")}
      {k(".", "copy link")}
      {k("?", "all keys")}
      <span class="space" />
      <span>{log.features.snapshots > 0 ? "memory is known at " + count(log.features.snapshots) + " snapshots; between them, what calls wrote" : log.ready < 1 ? "" : "no snapshots: what calls wrote is known of memory"}</span>
    </footer>
  );
}


render(<App source={open()} />, document.getElementById("app")!);
