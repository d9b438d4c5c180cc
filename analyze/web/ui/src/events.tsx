// The events: a list that reaches from one end of the log to the other, of which only
// the lines in sight are drawn and only those around them loaded.
import { h } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { EventRow, LogInfo } from "./types";
import type { Source } from "./source";
import { type View, current, set } from "./state";
import { useLatest, useLoad, useSize } from "./hooks";
import { count, time } from "./format";
import { goto, learn } from "./go";
import { Wait } from "./parts";

const chunk = 150; // lines a request, each way
const most = 900; // lines kept

interface Lines {
  key: string;
  rows: EventRow[];
  prev: number | null;
  next: number | null;
}

export function Events({ source, log, view, say }: { source: Source; log: LogInfo; view: View; say: (s: string) => void }) {
  const key = view.log + "/" + view.filter;
  const [lines, setLines] = useState<Lines>({ key: "", rows: [], prev: null, next: null });
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const list = useRef<HTMLDivElement>(null);
  const size = useSize(list);
  const [topPx, setTopPx] = useState(0);
  const rowH = size.w && matchMedia("(pointer: coarse)").matches ? 28 : 19;
  const { rows } = lines;
  const index = find(rows, view.at);
  const have = lines.key === key && rows.length > 0 && view.at >= rows[0]!.step - 1 && view.at <= rows[rows.length - 1]!.step + 1;
  // A step that the filter hides is inside if its neighbours are.
  const inside = have || (lines.key === key && ((lines.prev === null && view.at <= (rows[0]?.step ?? Infinity)) || (lines.next === null && view.at >= (rows.at(-1)?.step ?? -1))));

  // Elsewhere: load anew around the step.
  useEffect(() => {
    if (inside) return;
    const stop = new AbortController();
    setBusy(true);
    const timer = setTimeout(() => {
      source.events({ log: view.log, pid: 0, at: view.at }, chunk, chunk, view.filter, stop.signal).then(
        (e) => {
          if (stop.signal.aborted) return;
          setBusy(false);
          setError("");
          setLines({ key, rows: e.rows ?? [], prev: e.prev, next: e.next });
        },
        (e: Error) => {
          if (stop.signal.aborted) return;
          setBusy(false);
          setError(e.message);
          setLines({ key, rows: [], prev: null, next: null });
        },
      );
    }, 25);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [key, inside ? -1 : view.at]);

  // The log has grown: there is more behind what was its end.
  useEffect(() => {
    setLines((l) => {
      if (l.key !== key || l.next !== null) return l;
      return l.rows.length ? { ...l, next: l.rows.at(-1)!.step + 1 } : { key: "", rows: [], prev: null, next: null };
    });
  }, [view.seen]);

  // Near an end of what is loaded: load on.
  const loading = useRef(false);
  const more = useLatest(async (up: boolean) => {
    const from = up ? lines.prev : lines.next;
    if (loading.current || from === null) return;
    loading.current = true;
    try {
      const e = await source.events({ log: view.log, pid: 0, at: from }, up ? chunk : 0, up ? 0 : chunk, view.filter, new AbortController().signal);
      setLines((l) => {
        if (l.key !== key) return l;
        const first = l.rows[0]?.step ?? Infinity;
        const last = l.rows.at(-1)?.step ?? -1;
        const got = (e.rows ?? []).filter((r) => (up ? r.step < first : r.step > last));
        if (up) {
          const all = [...got, ...l.rows];
          const cut = all.slice(0, most);
          if (list.current) list.current.scrollTop += got.length * rowH;
          return { ...l, rows: cut, prev: e.prev, next: cut.length < all.length ? cut.at(-1)!.step + 1 : l.next };
        }
        const all = [...l.rows, ...got];
        const cut = all.slice(-most);
        if (list.current) list.current.scrollTop -= (all.length - cut.length) * rowH;
        return { ...l, rows: cut, next: e.next, prev: cut.length < all.length ? cut[0]!.step - 1 : l.prev };
      });
    } catch (e) {
      setError((e as Error).message);
    } finally {
      loading.current = false;
    }
  });
  const scrolled = () => {
    const el = list.current!;
    setTopPx(el.scrollTop);
    if (lines.key !== key) return;
    if (el.scrollTop < 40 * rowH) void more(true);
    if (el.scrollTop + el.clientHeight > (rows.length - 40) * rowH) void more(false);
  };

  useEffect(() => {
    for (const r of rows) learn(r.step, r.t);
    const r = rows[index];
    if (r && r.step === view.at && view.t !== r.t) set({ t: r.t });
  }, [rows, index]);

  // Bring the selected line into sight; after loading, to the middle.
  const was = useRef("");
  useLayoutEffect(() => {
    const el = list.current;
    if (!el || index < 0) return;
    const y = index * rowH;
    const fresh = was.current !== key + rows.length;
    was.current = key + rows.length;
    if (fresh && (y < el.scrollTop || y + rowH > el.scrollTop + el.clientHeight)) el.scrollTop = y - el.clientHeight * 0.55;
    else if (y < el.scrollTop + rowH) el.scrollTop = y - rowH;
    else if (y + 2 * rowH > el.scrollTop + el.clientHeight) el.scrollTop = y + 2 * rowH - el.clientHeight;
    setTopPx(el.scrollTop);
    scrolled();
  }, [index, rows, size.h, rowH, view.at, lines.next]);

  const now = rows[index]?.step === view.at ? rows[index] : undefined;
  useEffect(() => {
    if (now) say("step " + count(now.step) + ", " + (now.name || now.type) + (now.err ? ", " + now.err : ""));
  }, [now?.step]);

  const total = useLoad(
    view.filter
      ? (signal, progress) => source.count({ log: view.log, pid: 0, at: 0 }, view.filter, { signal, progress })
      : null,
    [key, view.seen],
    200,
  );
  const first = Math.max(0, Math.floor(topPx / rowH) - 6);
  const last = Math.min(rows.length, first + Math.ceil((size.h || 400) / rowH) + 12);
  const keys = (e: KeyboardEvent) => {
    const d = e.key === "ArrowDown" ? 1 : e.key === "ArrowUp" ? -1 : 0;
    if (!d || index < 0) return;
    e.preventDefault();
    const r = rows[index + d];
    if (r) goto(r.step, r.t);
  };
  const several = (log.processes?.length ?? 0) > 1;
  return (
    <div class="events">
      <Filter view={view} of={source.held} found={total.value?.total} busy={total.busy && view.filter !== ""} error={view.filter ? error : ""} />
      <div
        class="list m" ref={list} onScroll={scrolled} tabIndex={0} role="listbox" aria-label="Events" onKeyDown={keys}
        aria-activedescendant={now ? "ev" + now.step : undefined}
      >
        <div style={{ height: rows.length * rowH + "px" }} class="tall" role="presentation">
          {rows.slice(first, last).map((r, i) => {
            const gap = !source.live && !view.filter && rows[first + i - 1] !== undefined && rows[first + i - 1]!.step !== r.step - 1;
            return (
              <div
                key={r.step} id={"ev" + r.step} role="option" aria-selected={r.step === view.at}
                class={"ev" + (first + i === index && r.step === view.at ? " cur" : "") + (r.bad ? " bad" : "") + (gap ? " gap" : "")}
                style={{ top: (first + i) * rowH + "px", height: rowH + "px" }}
                onClick={() => goto(r.step, r.t, r.pid && r.pid !== current().pid && several ? { pid: r.pid } : {})}
              >
                <span class="no">{count(r.step)}</span>
                <span class="who">{r.pid === 0 ? "recorder" : r.tid || r.pid}</span>
                <i class={"dot " + (r.class ? "c-" + r.class : "")} aria-hidden="true" />
                <span class="what">{r.text.length > 400 ? r.text.slice(0, 400) + "…" : r.text}</span>
              </div>
            );
          })}
        </div>
        {rows.length === 0 && !busy && <p class="note">{view.filter ? "No event is like this." : source.live ? "No events." : "This file has no events here."}</p>}
      </div>
      {busy && rows.length === 0 && <Wait busy progress={-1} error="" />}
      {error && !view.filter && <p class="note bad">{error}</p>}
      {now && <Selected r={now} />}
    </div>
  );
}

// find is the line of a step, or the last before it; -1 if there is none.
function find(rows: EventRow[], step: number): number {
  let lo = 0;
  let hi = rows.length - 1;
  let at = -1;
  while (lo <= hi) {
    const mid = (lo + hi) >> 1;
    if (rows[mid]!.step <= step) {
      at = mid;
      lo = mid + 1;
    } else hi = mid - 1;
  }
  return at < 0 && rows.length ? 0 : at;
}

function Selected({ r }: { r: EventRow }) {
  return (
    <div class="selected" tabIndex={0} role="region" aria-label="Selected event">
      <div class="dim">
        {time(r.t)}
        {r.dur !== null && " · took " + time(r.dur)}
        {r.class && " · " + r.class}
        {r.pid !== 0 && " · " + (r.tid === r.pid ? "pid " + r.pid : "pid " + r.pid + ", thread " + r.tid)}
      </div>
      <code class={r.bad ? "bad" : ""}>{r.text.length > 4000 ? r.text.slice(0, 4000) + "…" : r.text}</code>
    </div>
  );
}

const offered = ["failed", "memory", "file", "network", "process", "slower=10ms", "type=signal,exit"];

function Filter({ view, of, found, busy, error }: { view: View; of: number; found: number | undefined; busy: boolean; error: string }) {
  const [text, setText] = useState(view.filter);
  useEffect(() => setText(view.filter), [view.filter]);
  return (
    <form
      class="filter"
      onSubmit={(e) => {
        e.preventDefault();
        set({ filter: text.trim() });
      }}
    >
      <input
        id="filter" value={text} placeholder="Filter: failed, memory, path=*.conf, slower=10ms" aria-label="Filter events" list="filters"
        spellcheck={false} autocomplete="off" maxLength={500}
        onInput={(e) => setText(e.currentTarget.value)}
        onKeyDown={(e) => {
          if (e.key !== "Escape") return;
          set({ filter: "" });
          e.currentTarget.blur();
        }}
      />
      <datalist id="filters">{offered.map((o) => <option value={o} />)}</datalist>
      {view.filter && (
        <span class="dim" role="status">
          {error ? <span class="bad">{error}</span> : busy ? "counting…" : found !== undefined ? count(found) + (of ? " of " + count(of) + " events that this file has" : " events") : ""}
        </span>
      )}
      {view.filter && <button type="button" class="link" onClick={() => set({ filter: "" })}>all</button>}
    </form>
  );
}
