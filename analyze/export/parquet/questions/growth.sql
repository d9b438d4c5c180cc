-- Which memory grows in a straight line, and how fast?
-- The kinds of memory of each process, at its snapshots.
SELECT s.run, s.proc, p.program, s.kind, count(*) AS snapshots,
       round(regr_slope(s.in_use, s.t_ns / 1e9)) AS bytes_per_s, round(regr_r2(s.in_use, s.t_ns / 1e9), 3) AS r2
FROM snapshots s JOIN processes p ON p.run = s.run AND p.proc = s.proc
GROUP BY s.run, s.proc, p.program, s.kind
HAVING count(*) >= 5 AND regr_r2(s.in_use, s.t_ns / 1e9) > 0.95 AND regr_slope(s.in_use, s.t_ns / 1e9) > 10240
ORDER BY bytes_per_s DESC, s.run, s.proc, s.kind
LIMIT 50;
