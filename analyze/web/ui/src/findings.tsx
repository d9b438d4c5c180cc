// What went wrong, worst first.
import { h } from "preact";
import { useState } from "preact/hooks";
import type { Action, Finding, LogInfo } from "./types";
import type { Loaded } from "./hooks";
import { type View, set } from "./state";
import { bytes, time } from "./format";
import { goto } from "./go";
import { AddrLink, StepLink, Wait } from "./parts";

const titles: Record<string, string> = {
  crash: "Crashed", deadlock: "Deadlock", stuck: "Stuck", killed: "Killed", leak: "Leak", failures: "Calls failed", child: "A process failed", status: "Failed",
  slow: "Slow calls", lock: "Contended lock", polling: "Polling", forks: "Many processes", cut: "Log cut",
};

export function Findings({ got, log, view, now, choose, find }: {
  got: Loaded<Finding[]>; log: LogInfo; view: View; now: number; choose: (i: number) => void; find: (bytes: string) => void;
}) {
  const rows = (got.value ?? []).filter((f) => f.kind !== "none");
  if (!got.value || (got.busy && !rows.length && !log.growing)) {
    return (
      <section class="cards" aria-label="Findings">
        <div class="card calm"><h2>{got.error ? "No findings" : "Looking for what went wrong…"}</h2><Wait {...got} /></div>
      </section>
    );
  }
  if (!rows.length) {
    const p = log.processes?.[0];
    return (
      <section class="cards" aria-label="Findings">
        <div class="card calm ok">
          <h2>Nothing went wrong</h2>
          <p>
            {log.processes && log.processes.length > 1 ? log.processes.length + " processes. " : ""}
            {p ? "Peak " + bytes(p.peak) + " mapped, " + (p.status || "alive at the end") : ""} after {time(log.duration)}.
          </p>
        </div>
      </section>
    );
  }
  return (
    <section class={"cards n" + Math.min(4, rows.length)} aria-label="Findings" aria-busy={got.busy}>
      {rows.slice(0, 4).map((f, i) => <Card key={f.id} f={f} view={view} on={i === now} choose={() => choose(i)} find={find} />)}
      {got.busy && !log.growing && <div class="card calm more"><h2>Looking on…</h2><Wait {...got} /></div>}
    </section>
  );
}

// jump selects what a finding is about.
export function jump(f: Finding) {
  if (f.step !== null) goto(f.step, undefined, f.pid ? { pid: f.pid } : {});
  else if (f.pid) set({ pid: f.pid });
}

function Card({ f, view, on, choose, find }: { f: Finding; view: View; on: boolean; choose: () => void; find: (bytes: string) => void }) {
  const [copied, setCopied] = useState("");
  const copy = async (command: string) => {
    await copyText(command);
    setCopied(command);
  };
  const act = (a: Action) => {
    if (a.do === "goto") goto(a.step!, undefined, a.pid ? { pid: a.pid } : {});
    else if (a.do === "history") {
      goto(a.step ?? view.at, undefined, { addr: a.addr!, right: "memory", type: a.len === 8 ? "pointer" : "u8", ...(a.pid ? { pid: a.pid } : {}) });
    } else if (a.do === "find") find(a.bytes!);
    else if (a.do === "report") set({ left: "tables", table: a.name! });
    else if (a.command) void copy(a.command);
  };
  const commands = (f.actions ?? []).filter((a) => a.do === "command");
  return (
    <article class={"card " + f.severity + (on ? " on" : "")}>
      <h2>
        <button class="title" onClick={choose}>{titles[f.kind] ?? f.title}</button>
      </h2>
      <p title={f.text}>
        {f.parts?.length
          ? f.parts.map((p, i) =>
              p.step !== undefined ? <StepLink step={p.step} pid={f.pid ?? undefined}>{p.text}</StepLink>
              : p.addr !== undefined ? <AddrLink addr={p.addr}>{p.text}</AddrLink>
              : i === 0 && f.kind === "leak" ? p.text.charAt(0).toUpperCase() + p.text.slice(1) : p.text)
          : f.text}
      </p>
      <div class="actions">
        {(f.actions ?? []).filter((a) => a.do !== "command").map((a) => <button class="link" onClick={() => act(a)}>{a.label}</button>)}
        {commands.length > 0 && (
          <details class="commands">
            <summary>commands</summary>
            {commands.map((a) => (
              <button class="link m" title="copy" onClick={() => act(a)}>
                {a.command}{copied === a.command ? " ✓ copied" : ""}
              </button>
            ))}
          </details>
        )}
      </div>
      {f.said && <details class="said"><summary>what it said last</summary><pre class="m">{f.said}</pre></details>}
    </article>
  );
}

export async function copyText(s: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(s);
    return true;
  } catch {
    const a = document.createElement("textarea");
    a.value = s;
    a.className = "away";
    document.body.append(a);
    a.select();
    const ok = document.execCommand("copy");
    a.remove();
    return ok;
  }
}
