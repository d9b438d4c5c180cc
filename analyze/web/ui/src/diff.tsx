// What differs between the marks A and B.
import { Fragment, h } from "preact";
import { useState } from "preact/hooks";
import type { LogInfo } from "./types";
import type { Source } from "./source";
import { type View, set } from "./state";
import { useLoad } from "./hooks";
import { base, bytes, count, signed, time } from "./format";
import { groupOf } from "./spinedraw";
import { AddrLink, StepLink, Wait } from "./parts";
import { Sheet } from "./tables";

// ends are the first step of a process and the last at which it has memory.
function ends(log: LogInfo, v: View): Partial<View> {
  const p = log.processes?.find((q) => q.pid === v.pid) ?? log.processes?.[0];
  return p ? { a: p.first, b: Math.max(p.first, p.fatal ?? p.last - 1) } : {};
}

// Difference is that of two steps, and where there are two logs that of the logs, too.
export function Difference({ source, log, view, two }: { source: Source; log: LogInfo; view: View; two: boolean }) {
  const [what, setWhat] = useState(two ? "summary" : "steps");
  if (!two) return <Steps source={source} log={log} view={view} />;
  return (
    <div class="stack">
      <div class="choose">
        <select value={what} aria-label="What is compared" onChange={(e) => setWhat(e.currentTarget.value)}>
          {tables.map((t) => <option value={t}>logs A and B: {t}</option>)}
          <option value="steps">marks A and B of this log</option>
        </select>
      </div>
      {what === "steps" ? <Steps source={source} log={log} view={view} /> : <Logs source={source} what={what} seen={view.seen} />}
    </div>
  );
}

const tables = ["summary", "memory", "mappings", "sites", "calls", "files", "errors"];

function Logs({ source, what, seen }: { source: Source; what: string; seen: number }) {
  const got = useLoad((signal, progress) => source.compare(what, { signal, progress }), [what, seen]);
  // The texts are what there is to read of the summary; its numbers are of several units.
  const columns = what === "summary" ? ["what", "a_text", "b_text", "change", "verdict"] : undefined;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Difference of the logs">
      <Wait {...got} />
      {got.value && <Sheet table={got.value} columns={columns} />}
    </div>
  );
}

function Steps({ source, log, view }: { source: Source; log: LogInfo; view: View }) {
  const marked = view.a !== null && view.b !== null;
  const from = Math.min(view.a ?? 0, view.b ?? 0);
  const to = Math.max(view.a ?? 0, view.b ?? 0);
  const got = useLoad(
    marked
      ? (signal, progress) => source.diff({ log: view.log, pid: view.pid, at: to }, from, to, { signal, progress })
      : null,
    [view.log, view.pid, from, to, marked],
  );
  if (!marked) {
    return (
      <div class="empty">
        <p>Set two marks to compare the memory of two steps.</p>
        <p class="dim">
          Select a step and press <kbd>a</kbd>, select another and press <kbd>b</kbd>.
        </p>
        <p>
          <button class="btn" onClick={() => set({ a: view.at })}>A here</button> <button class="btn" onClick={() => set({ b: view.at })}>B here</button>
        </p>
        <p>
          <button class="link" onClick={() => set(ends(log, view))}>compare the begin and the end</button>
        </p>
      </div>
    );
  }
  const d = got.value;
  const most = Math.max(1, ...(d?.kinds ?? []).map((k) => Math.max(k.from, k.to)));
  return (
    <div class="stack">
      <div class="choose">
        A <StepLink step={from} /> … B <StepLink step={to} />
        {d && <span class="dim">{time(d.to_time - d.from_time)} later</span>}
        <button class="link" onClick={() => set({ a: null, b: null })}>clear</button>
      </div>
      <Wait {...got} />
      {!source.live && (
        <p class="note">
          {d ? <Fragment>Of the mappings at steps <StepLink step={d.from} /> and <StepLink step={d.to} />, the nearest that this file has. </Fragment> : got.busy ? "" : "This file has no mappings of this process. "}
          It does not have what they held: <code>memtrace view</code> on the log shows that, and <code>memtrace replay --diff {from}..{to}</code>.
        </p>
      )}
      {d && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Difference">
          {d.replaced && <p class="note">The process runs another program since.</p>}
          {!d.kinds?.length && !d.mappings?.length && !d.pages?.length && <p class="note">Nothing that the log knows of differs.</p>}
          {(d.kinds ?? []).map((k) => (
            <div class="kind">
              <span>{k.kind}</span>
              <div class="bars" aria-hidden="true">
                <i class={"a " + groupOf(log.kinds, k.kind)} style={{ width: (k.from / most) * 100 + "%" }} />
                <i class={"b " + groupOf(log.kinds, k.kind)} style={{ width: (k.to / most) * 100 + "%" }} />
              </div>
              <b>{signed(k.to - k.from)}</b>
              <span class="dim">
                {bytes(k.from)} → {bytes(k.to)} mapped
                {k.use_from != null && k.use_to != null && ", " + signed(k.use_to - k.use_from) + " in use"}
              </span>
            </div>
          ))}
          {(d.mappings ?? []).length > 0 && <h4>Mappings</h4>}
          {(d.mappings ?? []).map((m) => (
            <div class="change">
              <b class={m.what}>{m.what === "mapped" ? "+" : m.what === "unmapped" ? "−" : "±"}</b>
              <AddrLink addr={m.start} />
              <span class="dim">{bytes(Number(BigInt(m.end) - BigInt(m.start)))}</span>
              <span class="cut">{base(m.name) || m.kind}{m.what === "changed" ? ": " + m.old + " → " + m.new : ""}</span>
            </div>
          ))}
          {(d.pages ?? []).length > 0 && <h4>Contents</h4>}
          {(d.pages ?? []).map((p) => (
            <div class="change">
              <b class={p.what}>{p.what === "changed" ? "≠" : p.what === "lost" ? "−" : "+"}</b>
              <AddrLink addr={p.start} />
              <span class="dim">{bytes(Number(BigInt(p.end) - BigInt(p.start)))}</span>
              <span class="cut">{base(p.name) || "anonymous"}, {p.what === "changed" ? "changed" : p.what === "lost" ? "known at A only" : "known at B only"}</span>
            </div>
          ))}
          {d.more > 0 && <p class="note">{count(d.more)} more are left out.</p>}
        </div>
      )}
    </div>
  );
}
