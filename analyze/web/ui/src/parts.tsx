// Small pieces that several panels use.
import { h, type ComponentChildren } from "preact";
import { count } from "./format";
import { goto } from "./go";
import { set } from "./state";

export function StepLink({ step, t, pid, children }: { step: number; t?: number; pid?: number; children?: ComponentChildren }) {
  return (
    <button
      class="link"
      onClick={(e) => {
        e.stopPropagation();
        goto(step, t, pid ? { pid } : {});
      }}
    >
      {children ?? count(step)}
    </button>
  );
}

export function AddrLink({ addr, children }: { addr: string; children?: ComponentChildren }) {
  return (
    <button
      class="link m"
      onClick={(e) => {
        e.stopPropagation();
        set({ addr, right: "memory" });
      }}
    >
      {children ?? addr}
    </button>
  );
}

// Twin is a table that says what a drawing shows.
export function Twin({ caption, head, rows }: { caption: string; head: string[]; rows: ComponentChildren[][] }) {
  return (
    <table class="twin">
      <caption>{caption}{rows.length ? "" : ": none"}</caption>
      {rows.length > 0 && (
        <thead>
          <tr>{head.map((t) => <th scope="col">{t}</th>)}</tr>
        </thead>
      )}
      <tbody>
        {rows.map((r) => (
          <tr>{r.map((c) => <td>{c}</td>)}</tr>
        ))}
      </tbody>
    </table>
  );
}

export function Tabs<T extends string>({ label, tabs, now, choose }: {
  label: string; tabs: [T, string][]; now: T; choose: (t: T) => void;
}) {
  const key = (e: KeyboardEvent) => {
    const i = tabs.findIndex(([t]) => t === now);
    const d = e.key === "ArrowRight" ? 1 : e.key === "ArrowLeft" ? -1 : 0;
    if (!d) return;
    e.preventDefault();
    e.stopPropagation();
    choose(tabs[(i + d + tabs.length) % tabs.length]![0]);
    const bar = e.currentTarget as HTMLElement;
    requestAnimationFrame(() => bar.querySelector<HTMLElement>('[aria-selected="true"]')?.focus());
  };
  return (
    <div class="tabs" role="tablist" aria-label={label} onKeyDown={key}>
      {tabs.map(([t, name]) => (
        <button role="tab" aria-selected={t === now} tabIndex={t === now ? 0 : -1} onClick={() => choose(t)}>
          {name}
        </button>
      ))}
    </div>
  );
}

// Wait is a request that is on its way, or why there is no answer.
export function Wait({ busy, progress, error }: { busy: boolean; progress: number; error: string }) {
  if (error) return <p class="note bad" role="alert">{error}</p>;
  if (!busy) return null;
  return (
    <div class="bar" role="progressbar" aria-label="Loading" aria-valuenow={progress >= 0 ? Math.round(progress * 100) : undefined}>
      <i class={progress < 0 ? "go" : ""} style={{ width: progress < 0 ? "30%" : progress * 100 + "%" }} />
    </div>
  );
}
