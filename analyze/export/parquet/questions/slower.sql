-- Which calls got slower between the two newest commits?
-- It takes export --label commit=ID.
WITH two AS (
       SELECT commit, max(started) AS t FROM runs WHERE commit IS NOT NULL GROUP BY commit ORDER BY t DESC LIMIT 2),
     pair AS (SELECT min_by(commit, t) AS old, max_by(commit, t) AS new FROM two HAVING count(*) = 2),
     timed AS (
       SELECT c.name, c.dur_ns, r.commit = pair.new AS is_new
       FROM calls c JOIN runs r ON r.run = c.run JOIN pair ON r.commit IN (pair.old, pair.new)
       WHERE c.dur_ns IS NOT NULL)
SELECT name, count(*) FILTER (WHERE NOT is_new) AS old_calls, count(*) FILTER (WHERE is_new) AS new_calls,
       quantile_cont(dur_ns, 0.99) FILTER (WHERE NOT is_new) / 1e3 AS old_p99_us,
       quantile_cont(dur_ns, 0.99) FILTER (WHERE is_new) / 1e3 AS new_p99_us
FROM timed
GROUP BY name
HAVING old_calls >= 20 AND new_calls >= 20 AND new_p99_us > 1.2 * old_p99_us
ORDER BY new_p99_us / old_p99_us DESC, name
LIMIT 50;
