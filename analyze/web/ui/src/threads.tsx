// The threads at the selected step: call stacks and registers.
import { h } from "preact";
import { useState } from "preact/hooks";
import type { Frame, Thread } from "./types";
import type { Source } from "./source";
import type { View } from "./state";
import { useLoad } from "./hooks";
import { base, count } from "./format";
import { AddrLink, StepLink, Wait } from "./parts";

export function Threads({ source, view }: { source: Source; view: View }) {
  const got = useLoad(
    (s) => source.threads({ log: view.log, pid: view.pid, at: view.at }, s),
    [view.log, view.pid, view.at],
    30,
  );
  const list = got.value?.threads ?? [];
  return (
    <div class="scroll threads" tabIndex={0} role="region" aria-label="Threads">
      <Wait busy={got.busy && !got.value} progress={-1} error={got.error} />
      {got.value === null && <p class="note">This file does not have the threads at this step.</p>}
      {got.value && !source.live && got.value.at !== view.at && <p class="note">As of step <StepLink step={got.value.at} />, the nearest in this file.</p>}
      {got.value && list.length === 0 && <p class="note">No thread lives at this step.</p>}
      {list.map((t, i) => <One key={t.tid} t={t} open={i === 0} />)}
      {got.value && got.value.left > 0 && <p class="note">{count(got.value.left)} more threads.</p>}
    </div>
  );
}

function One({ t, open }: { t: Thread; open: boolean }) {
  const [all, setAll] = useState(false);
  const frames = t.frames ?? [];
  const regs = t.registers ?? [];
  return (
    <details open={open} class="thread">
      <summary>
        <b>thread {t.tid}</b>
        <span class="dim">{frames.length ? frames.find((f) => f.function)?.function : ""}</span>
        <span class="dim end">{t.as_of === null ? "registers not in the log" : "registers as of step " + count(t.as_of)}</span>
      </summary>
      <ol class="frames">
        {frames.map((f) => (
          <li class={f.inlined ? "inlined" : ""}>
            <span class="fn">{f.sure ? "" : "? "}{f.function || "unknown function"}{f.inlined ? " (inlined)" : ""}</span>
            <span class="dim">{place(f)}</span>
            <span class="dim m end" title={f.module}>{f.addr}</span>
          </li>
        ))}
      </ol>
      {t.why && <p class="note">{frames.length ? "No further: " : "No call stack: "}{t.why}</p>}
      {regs.length > 0 && (
        <dl class="regs m">
          {(all ? regs : regs.slice(0, 24)).map((r) => (
            <div>
              <dt>{r.name}</dt>
              <dd><AddrLink addr={r.value} /></dd>
            </div>
          ))}
        </dl>
      )}
      {regs.length > 24 && !all && <button class="link more" onClick={() => setAll(true)}>all {regs.length} registers</button>}
    </details>
  );
}

const place = (f: Frame) => (f.file ? base(f.file) + (f.line ? ":" + f.line : "") : f.module ? base(f.module) + "+0x" + f.offset.toString(16) : "");
